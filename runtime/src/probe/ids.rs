//! User namespaces, their maps, and mounts within.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getegid, geteuid};
use rctr_storage::explain::Explain;

use super::{Outcome, Probe, Trouble, World, in_child, trouble};
use crate::identity::{Identity, IdentityError, MapWriter};
use crate::sys::{self, Cloned};

/// Becomes root of a user and mount namespace in which there is nobody else: needs no helper.
pub(super) fn enter_alone() -> Result<(), Trouble> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(trouble("unshare(CLONE_NEWUSER)"))?;
    let write = |file: &str, text: String| {
        fs::write(format!("/proc/self/{file}"), text).map_err(trouble(format!("write {file}")))
    };
    write("uid_map", format!("0 {uid} 1"))?;
    write("setgroups", "deny".to_owned())?;
    write("gid_map", format!("0 {gid} 1"))
}

pub(super) fn user_namespace(world: &World<'_>) -> Probe {
    const NAME: &str = "user namespace";
    let attempt = in_child(|| {
        unshare(CloneFlags::CLONE_NEWUSER).map_err(trouble("unshare(CLONE_NEWUSER)"))?;
        Ok("can be made".to_owned())
    });
    let trouble = match attempt {
        Ok(found) => return Probe::works(NAME, found),
        Err(trouble) => trouble,
    };
    let fix = match trouble.errno {
        libc::ENOSPC => {
            "as root (of the host, if this is a container): sysctl user.max_user_namespaces=15000"
        }
        libc::EUSERS => "user namespaces are nested too deep (32): run rctr further out",
        libc::EPERM if world.confinement.seccomp => {
            "this is a container with a seccomp profile: one that allows clone, unshare and mount (docker: \
             --security-opt seccomp=unconfined; Kubernetes: seccompProfile Unconfined)"
        }
        libc::EPERM => "as root: sysctl kernel.unprivileged_userns_clone=1",
        libc::EINVAL | libc::ENOSYS => "a kernel with CONFIG_USER_NS",
        _ => "see user_namespaces(7)",
    };
    Probe::new(NAME, Outcome::Broken, trouble.to_string())
        .means("no container can be made")
        .fix(fix)
}

pub(super) fn mounts(world: &World<'_>) -> Probe {
    const NAME: &str = "mount in a user namespace";
    let attempt = in_child(|| {
        enter_alone()?;
        mount(
            Some("rctr-probe"),
            "/",
            Some("tmpfs"),
            MsFlags::empty(),
            None::<&str>,
        )
        .map_err(trouble("mount tmpfs"))?;
        Ok("works".to_owned())
    });
    let trouble = match attempt {
        Ok(found) => return Probe::works(NAME, found),
        Err(trouble) => trouble,
    };
    let restricted = fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
    let fix = if restricted.is_ok_and(|v| v.trim() == "1") {
        "as root: sysctl kernel.apparmor_restrict_unprivileged_userns=0; or an AppArmor profile for this program: \
         `profile rctr /path/to/rctr flags=(unconfined) { userns, }`"
    } else if trouble.errno == libc::EACCES {
        "AppArmor refuses it: docker: --security-opt apparmor=unconfined; Kubernetes: appArmorProfile Unconfined"
    } else if world.confinement.seccomp {
        "a seccomp profile that allows mount (docker: --security-opt seccomp=unconfined)"
    } else {
        "ask what restricts user namespaces here: AppArmor, SELinux, or another security module"
    };
    Probe::new(NAME, Outcome::Broken, trouble.to_string())
        .means("no container's file system can be put together")
        .fix(fix)
}

pub(super) fn identity(world: &World<'_>, detected: &Result<Identity, IdentityError>) -> Probe {
    const NAME: &str = "user and group IDs";
    let broken = |found: String| {
        Probe::new(NAME, Outcome::Broken, found)
            .means("a container's users can't be told apart from each other")
    };
    let identity = match detected {
        Ok(identity) => identity,
        Err(error) => {
            let probe = broken(error.to_string());
            return match error.hint() {
                Some(hint) => probe.fix(hint),
                None => probe,
            };
        }
    };
    let Identity::Mapped { uids, writer, .. } = identity;
    let count: u64 = uids.iter().map(|r| u64::from(r.count)).sum();
    let by = match writer {
        MapWriter::Direct => "written directly".to_owned(),
        MapWriter::Helpers { newuidmap, .. } => format!("by {}", newuidmap.display()),
    };
    let trouble = match in_child(|| super::enter_fully(identity).map(|()| String::new())) {
        Err(trouble) => trouble,
        Ok(_) if count < 65536 => {
            return Probe::new(NAME, Outcome::Limited, format!("{count} IDs, {by}"))
                .means("files of users above that number can't be unpacked")
                .fix("larger ranges: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER");
        }
        Ok(_) => return Probe::works(NAME, format!("{count} IDs, {by}")),
    };
    let probe = broken(trouble.to_string());
    match writer {
        MapWriter::Helpers { .. } if world.confinement.no_new_privileges => probe.fix(
            "no_new_privs is set, setuid programs can't work: Kubernetes: allowPrivilegeEscalation: true; \
             docker: without --security-opt no-new-privileges",
        ),
        MapWriter::Helpers { newuidmap, .. } if !privileged(newuidmap) => probe.fix(format!(
            "as root: chmod u+s {} and newgidmap, or reinstall the package uidmap",
            newuidmap.display()
        )),
        MapWriter::Helpers { .. } => {
            probe.fix("see that /etc/subuid and /etc/subgid give this user ranges of its own")
        }
        MapWriter::Direct => probe,
    }
}

/// setuid, or (it may be) with file capabilities.
fn privileged(program: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = fs::metadata(program) else {
        return false;
    };
    let has_capabilities =
        || fs::File::open(program).is_ok_and(|f| sys::has_xattr(f.as_fd(), c"security.capability"));
    meta.mode() & libc::S_ISUID != 0 || has_capabilities()
}

pub(super) fn proc(world: &World<'_>) -> Probe {
    const NAME: &str = "a fresh /proc";
    let attempt = world.inside(|| {
        unshare(CloneFlags::CLONE_NEWPID).map_err(trouble("unshare(CLONE_NEWPID)"))?;
        let pid = match sys::clone_process(0).map_err(trouble("fork"))? {
            Cloned::Parent { pid, .. } => Pid::from_raw(pid),
            Cloned::Child => {
                let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
                let mounted = mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>);
                sys::exit_now(mounted.err().map_or(0, |errno| errno as i32))
            }
        };
        match waitpid(pid, None) {
            Ok(WaitStatus::Exited(_, 0)) => Ok("can be mounted".to_owned()),
            Ok(WaitStatus::Exited(_, errno)) => Err(Trouble {
                what: "mount proc".to_owned(),
                errno,
            }),
            other => Err(Trouble {
                what: format!("mount proc: {other:?}"),
                errno: 0,
            }),
        }
    });
    match attempt {
        None => Probe::not_tried(NAME),
        Some(Ok(found)) => Probe::works(NAME, found),
        Some(Err(trouble)) => Probe::new(NAME, Outcome::Limited, trouble.to_string())
            .means("containers see the processes around them in /proc")
            .fix(
                "this container's /proc is masked: docker: --security-opt systempaths=unconfined; podman: \
                 --security-opt unmask=ALL; Kubernetes: procMount: Unmasked with hostUsers: false",
            ),
    }
}
