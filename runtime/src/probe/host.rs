//! The kernel, what confines us, and what the host lends for limits.

use std::fs;

use libc::sock_filter;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::statvfs::statvfs;
use nix::sys::utsname::uname;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, geteuid};

use super::{Outcome, Probe, Trouble, in_child, trouble};
use crate::plan::Seccomp;
use crate::sys::{self, Cloned, Reach};
use crate::{caps, cgroup, seccomp};

/// What this process may not do, by /proc/self/status.
pub(super) struct Confinement {
    pub(super) seccomp: bool,
    pub(super) no_new_privileges: bool,
    effective: u64,
    apparmor: String,
}

impl Confinement {
    pub(super) fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        let apparmor = [
            "/proc/self/attr/apparmor/current",
            "/proc/self/attr/current",
        ]
        .iter()
        .find_map(|file| fs::read_to_string(file).ok());
        Self {
            seccomp: field("Seccomp:") == "2",
            no_new_privileges: field("NoNewPrivs:") == "1",
            effective: u64::from_str_radix(&field("CapEff:"), 16).unwrap_or_default(),
            apparmor: apparmor.unwrap_or_default().trim().to_owned(),
        }
    }
}

pub(super) fn kernel() -> Probe {
    const NAME: &str = "kernel";
    let Ok(name) = uname() else {
        return Probe::note(NAME, "unknown");
    };
    let release = name.release().to_string_lossy().into_owned();
    let found = format!("Linux {release} {}", name.machine().to_string_lossy());
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < (5, 11) => {
            Probe::new(NAME, Outcome::Limited, found)
                .means("older than 5.11: no unprivileged overlay")
                .fix("Linux 5.11 or newer")
        }
        _ => Probe::works(NAME, found),
    }
}

pub(super) fn confinement(confined: &Confinement) -> Probe {
    let named = |holds: bool| -> Vec<String> {
        let numbers = (0..64).filter(|n| (confined.effective & 1 << n != 0) == holds);
        numbers.filter_map(caps::name).collect()
    };
    let (held, missing) = (named(true), named(false));
    let capabilities = match (held.len(), missing.len()) {
        (0, _) => "no capabilities".to_owned(),
        (_, 0) => "all capabilities".to_owned(),
        (_, 1..=12) => format!("all capabilities but {}", missing.join(" ")),
        _ => held.join(" "),
    };
    let mut found = vec![format!("user {}", geteuid()), capabilities];
    if confined.seccomp {
        found.push("under a seccomp filter".to_owned());
    }
    if confined.no_new_privileges {
        found.push("no_new_privs".to_owned());
    }
    if !confined.apparmor.is_empty() && !confined.apparmor.contains("unconfined") {
        found.push(format!("AppArmor profile {}", confined.apparmor));
    }
    let containers = ["/.dockerenv", "/run/.containerenv"];
    if containers
        .iter()
        .any(|file| fs::exists(file).unwrap_or_default())
    {
        found.push("in a container".to_owned());
    }
    Probe::note("this process", found.join(", "))
}

pub(super) fn all() -> Vec<Probe> {
    vec![
        filter(),
        listener(),
        tracing(),
        calls(),
        limits(),
        files(),
        shm(),
    ]
}

fn filter() -> Probe {
    const NAME: &str = "seccomp filter";
    let attempt = in_child(|| {
        let refused = |error: seccomp::SeccompError| Trouble {
            errno: match &error {
                seccomp::SeccompError::Install { source } => source.raw_os_error().unwrap_or(0),
                _ => 0,
            },
            what: error.to_string(),
        };
        let keep = caps::DEFAULT.map(str::to_owned);
        let filter = seccomp::compile(&Seccomp::Default, &keep).map_err(refused)?;
        sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map_err(trouble("no_new_privs"))?;
        filter
            .map_or(Ok(()), |f| seccomp::install(&f))
            .map_err(refused)?;
        Ok("the default profile works".to_owned())
    });
    match attempt {
        Ok(found) => Probe::works(NAME, found),
        Err(trouble) => Probe::new(NAME, Outcome::Limited, trouble.to_string())
            .means("containers need --security-opt seccomp=unconfined")
            .fix("a kernel with CONFIG_SECCOMP_FILTER; in a container: a profile that allows seccomp"),
    }
}

fn listener() -> Probe {
    const NAME: &str = "seccomp notification";
    let attempt = in_child(|| {
        sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map_err(trouble("no_new_privs"))?;
        let allow = sock_filter {
            code: (libc::BPF_RET | libc::BPF_K) as u16,
            jt: 0,
            jf: 0,
            k: libc::SECCOMP_RET_ALLOW,
        };
        sys::seccomp_listener(&[allow]).map_err(trouble("seccomp(NEW_LISTENER)"))?;
        Ok("works".to_owned())
    });
    match attempt {
        Ok(found) => Probe::works(NAME, found),
        Err(trouble) => Probe::note(NAME, trouble.to_string())
            .means("owners of files can't be emulated where there is one user ID only")
            .fix(match trouble.errno {
                libc::EBUSY => "this runs under another listener already: use the outer rctr",
                _ => "Linux 5.0, and a profile that allows seccomp",
            }),
    }
}

fn tracing() -> Probe {
    const NAME: &str = "memory of a child";
    let attempt = || -> Result<(), Trouble> {
        let pid = match sys::clone_process(0).map_err(trouble("fork"))? {
            Cloned::Child => {
                nix::unistd::pause();
                sys::exit_now(0)
            }
            Cloned::Parent { pid, .. } => Pid::from_raw(pid),
        };
        let memory = fs::OpenOptions::new()
            .read(true)
            .open(format!("/proc/{pid}/mem"));
        // It is our child: it can't have ended, nor be another process.
        let _ = kill(pid, Signal::SIGKILL);
        let _ = waitpid(pid, None);
        memory.map(drop).map_err(trouble("open /proc/PID/mem"))
    };
    match attempt() {
        Ok(()) => Probe::works(NAME, "can be read"),
        Err(trouble) => Probe::note(NAME, trouble.to_string())
            .means("programs can't be traced where there is no user namespace")
            .fix("as root: sysctl kernel.yama.ptrace_scope=1; in a container: a seccomp profile that allows ptrace"),
    }
}

fn calls() -> Probe {
    const NAME: &str = "newer system calls";
    let attempt = in_child(|| {
        super::ids::enter_alone()?;
        let calls = [
            ("clone3", Reach::Clone3),
            ("openat2", Reach::Openat2),
            ("fsopen", Reach::Fsopen),
            ("mount_setattr", Reach::MountSetattr),
        ];
        let missing = calls.into_iter().filter_map(|(name, call)| {
            let errno = sys::reach(call).err()?.raw_os_error()?;
            matches!(errno, libc::ENOSYS | libc::EPERM)
                .then(|| format!("{name}: {}", super::describe(errno)))
        });
        Ok(missing.collect::<Vec<_>>().join(", "))
    });
    match attempt {
        Ok(missing) if missing.is_empty() => {
            Probe::works(NAME, "clone3, openat2, fsopen, mount_setattr")
        }
        Ok(missing) => Probe::note(NAME, missing).means("their older relatives are used"),
        Err(trouble) => Probe::note(NAME, format!("not tried: {trouble}")),
    }
}

fn limits() -> Probe {
    const NAME: &str = "cgroup";
    const MEANS: &str = "limits of memory, CPU and processes aren't enforced";
    const FIX: &str = "a systemd user session, or a unit with Delegate=yes";
    let limited = |found: String| {
        Probe::new(NAME, Outcome::Limited, found)
            .means(MEANS)
            .fix(FIX)
    };
    let controllers = match cgroup::delegated() {
        Ok(delegated) => delegated.controllers,
        Err(reason) => return limited(reason.to_string()),
    };
    let missing: Vec<_> = ["cpu", "memory", "pids"]
        .into_iter()
        .filter(|c| !controllers.iter().any(|have| have == c))
        .collect();
    if missing.is_empty() {
        return Probe::works(NAME, format!("v2, {}", controllers.join(" ")));
    }
    limited(format!("v2, without {}", missing.join(", ")))
}

fn files() -> Probe {
    const NAME: &str = "open files";
    const ENOUGH: u64 = 4096;
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, hard)) if hard < ENOUGH => {
            Probe::new(NAME, Outcome::Limited, format!("at most {hard}"))
                .means("servers and builds may run out of file descriptors")
                .fix("ulimit -Hn 1048576 as root, or LimitNOFILE= of the unit")
        }
        Ok((soft, hard)) => Probe::works(NAME, format!("{soft}, up to {hard}")),
        Err(errno) => Probe::note(NAME, super::describe(errno as i32)),
    }
}

fn shm() -> Probe {
    const NAME: &str = "/dev/shm";
    const ENOUGH: u64 = 64 << 20;
    match statvfs("/dev/shm") {
        Ok(stat) => {
            let size = stat.blocks() * stat.fragment_size();
            let probe = Probe::note(NAME, format!("{} MB", size >> 20));
            if size < ENOUGH {
                probe
                    .means("small for --ipc host")
                    .fix("--shm-size; emptyDir with medium Memory")
            } else {
                probe
            }
        }
        Err(errno) => Probe::note(NAME, super::describe(errno as i32)),
    }
}
