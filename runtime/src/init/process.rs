//! Turns this process into the user's: working directory, limits, user, capabilities, filter, and at last the program.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

use super::{Context, Step, target};
use crate::handshake::{Failure, FailureKind};
use crate::plan::ProcessPlan;
use crate::unrunnable::Shape;
use crate::users::{self, User};
use crate::{caps, seccomp, sys};

/// Most that we read of an image's passwd or group file, bytes.
const ACCOUNTS_LIMIT: u64 = 16 << 20;
/// How the image's files are opened: not to wait for a pipe that it has in their place.
const WITHOUT_WAITING: OFlag = OFlag::O_NONBLOCK.union(OFlag::O_NOCTTY);
/// Where programs are looked up without `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program ready to be executed.
pub(super) struct Program {
    argv: Vec<CString>,
    env: Vec<CString>,
    /// Where it may be, in the order of looking.
    candidates: Vec<CString>,
    name: String,
}

/// Enters the working directory, which is made if the plan says so.
pub(super) fn working_directory(plan: &ProcessPlan) -> Step {
    let cwd = if plan.cwd.as_os_str().is_empty() {
        Path::new("/")
    } else {
        plan.cwd.as_path()
    };
    if plan.create_cwd {
        // If this fails, so does the change of directory, with the better message.
        let _ = fs::create_dir_all(cwd);
    }
    nix::unistd::chdir(cwd).map_err(|errno| Failure {
        step: "enter the working directory".to_owned(),
        object: cwd.display().to_string(),
        errno: errno as i32,
        detail: String::new(),
        kind: FailureKind::WorkingDirectory,
        shape: None,
    })
}

/// Everything up to the exec. After this the process has no more rights than the program gets.
pub(super) fn prepare(plan: &ProcessPlan) -> Step<Program> {
    let account = account(plan)?;
    let program = Program::new(plan, &account)?;
    if let Some(score) = plan.oom_score_adj {
        // Lowering it below the caller's is refused; then it stays.
        let _ = fs::write("/proc/self/oom_score_adj", score.to_string());
    }
    own_streams(account.uid)?;
    limits(plan)?;
    let filter = seccomp::compile(&plan.seccomp, &plan.capabilities)
        .map_err(io::Error::other)
        .at("compile the seccomp profile", "")?;
    // Rust ignores SIGPIPE, the caller perhaps SIGHUP, and that survives exec. Before a filter could forbid it.
    sys::default_signals();
    become_user(plan, &account, filter.as_ref())?;
    Ok(program)
}

fn account(plan: &ProcessPlan) -> Step<User> {
    resolve(plan, |path| {
        File::options()
            .read(true)
            .custom_flags(WITHOUT_WAITING.bits())
            .open(path)
    })
}

/// The user by the files below `root`, before it is the root.
pub(super) fn account_in(root: &OwnedFd, plan: &ProcessPlan) -> Step<User> {
    resolve(plan, |path| {
        target::open(root.as_fd(), Path::new(path), WITHOUT_WAITING).map(File::from)
    })
}

fn resolve(plan: &ProcessPlan, open: impl Fn(&str) -> io::Result<File>) -> Step<User> {
    let read = |path: &str| -> String {
        // An image without the file has no names: numbers still work.
        let text = open(path).and_then(read_regular).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    };
    users::resolve(
        &plan.user,
        &plan.additional_groups,
        &read("/etc/passwd"),
        &read("/etc/group"),
    )
    .map_err(|error| Failure {
        step: "find the user".to_owned(),
        object: error.to_string(),
        errno: 0,
        detail: String::new(),
        kind: FailureKind::User,
        shape: None,
    })
}

/// What a file of the image has, at most [`ACCOUNTS_LIMIT`] of it; a pipe or a device in its place might never end.
fn read_regular(file: File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    if file.metadata()?.is_file() {
        file.take(ACCOUNTS_LIMIT).read_to_end(&mut text)?;
    }
    Ok(text)
}

/// The user may open /dev/stdout again, so pipes must be his (their mode is 0600).
fn own_streams(uid: u32) -> Step {
    if uid == 0 {
        return Ok(());
    }
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    for stream in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
        let is_null = |fd: BorrowedFd<'_>| -> io::Result<bool> {
            let (ours, null) = (
                File::from(fd.try_clone_to_owned()?).metadata()?,
                fs::metadata("/dev/null")?,
            );
            Ok(ours.rdev() == null.rdev())
        };
        if is_null(stream).unwrap_or(true) {
            continue;
        }
        // Streams that are files of other owners stay theirs.
        let _ = nix::unistd::fchown(stream, Some(nix::unistd::Uid::from_raw(uid)), None);
    }
    Ok(())
}

fn limits(plan: &ProcessPlan) -> Step {
    for limit in &plan.rlimits {
        let shown = format!("{}={}:{}", limit.name, limit.soft, limit.hard);
        let resource = sys::resource(&limit.name)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
            .at("set the limit", &shown)?;
        nix::sys::resource::setrlimit(resource, limit.soft, limit.hard)
            .at("set the limit", &shown)?;
    }
    Ok(())
}

/// User, capabilities and filter, in the one order that works.
fn become_user(plan: &ProcessPlan, account: &User, filter: Option<&seccomp::Filter>) -> Step {
    let step = "take on the user";
    // While we may (CAP_SETPCAP goes away with the user).
    caps::limit(&plan.capabilities)
        .map_err(io::Error::other)
        .at("limit the capabilities", "")?;
    sys::prctl(libc::PR_SET_KEEPCAPS, 1, 0).at(step, "keep capabilities")?;
    // A container's first process dies with its monitor; an `exec`ed one outlives the client that asked for it.
    let at_parent_death = nix::sys::prctl::get_pdeathsig().at("ask to die with the monitor", "")?;
    sys::set_ids(account.uid, account.gid, &account.groups)
        .at(step, format!("{}:{}", account.uid, account.gid))?;
    // The change of user cleared it.
    nix::sys::prctl::set_pdeathsig(at_parent_death).at("ask to die with the monitor", "")?;
    if plan.no_new_privileges {
        sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).at("set no_new_privs", "")?;
    }
    let user = if account.uid == 0 {
        caps::User::Root
    } else {
        caps::User::Other
    };
    if let Some(filter) = filter {
        // Without no_new_privs a filter needs CAP_SYS_ADMIN: so before the capabilities are dropped, but as late as
        // that, since the profile may forbid what we still have to do.
        if !plan.no_new_privileges {
            raise_capabilities()
                .map_err(io::Error::other)
                .at(step, "raise capabilities")?;
            seccomp::install(filter)
                .map_err(io::Error::other)
                .at("install the seccomp filter", "")?;
            return caps::apply(&plan.capabilities, user)
                .map_err(io::Error::other)
                .at("drop capabilities", "");
        }
    }
    caps::apply(&plan.capabilities, user)
        .map_err(io::Error::other)
        .at("drop capabilities", "")?;
    match filter {
        Some(filter) => seccomp::install(filter)
            .map_err(io::Error::other)
            .at("install the seccomp filter", ""),
        None => Ok(()),
    }
}

/// After the change of user: what was kept becomes effective again.
fn raise_capabilities() -> Result<(), ::caps::errors::CapsError> {
    let permitted = ::caps::read(None, ::caps::CapSet::Permitted)?;
    ::caps::set(None, ::caps::CapSet::Effective, &permitted)
}

impl Program {
    fn new(plan: &ProcessPlan, account: &User) -> Step<Self> {
        let text = |word: &String| CString::new(word.as_str()).at("pass on", word);
        let mut env = plan.env.clone();
        let has =
            |env: &[String], name: &str| env.iter().any(|e| e.split('=').next() == Some(name));
        if !has(&env, "HOME") {
            env.push(format!("HOME={}", account.home));
        }
        let name = plan.argv.first().cloned().unwrap_or_default();
        let path = env
            .iter()
            .rev()
            .find_map(|e| e.strip_prefix("PATH="))
            .unwrap_or(DEFAULT_PATH);
        let candidates: Vec<String> = if name.contains('/') {
            vec![name.clone()]
        } else {
            let join = |dir: &str| {
                if dir.is_empty() {
                    format!("./{name}")
                } else {
                    format!("{dir}/{name}")
                }
            };
            path.split(':')
                .filter(|_| !name.is_empty())
                .map(join)
                .collect()
        };
        Ok(Self {
            argv: plan.argv.iter().map(text).collect::<Step<_>>()?,
            env: env.iter().map(text).collect::<Step<_>>()?,
            candidates: candidates.iter().map(text).collect::<Step<_>>()?,
            name,
        })
    }

    /// execve(2); returns why it failed.
    pub(super) fn exec(&self) -> Step {
        let (mut errno, mut shape) = (libc::ENOENT, None);
        for candidate in &self.candidates {
            match self.try_exec(candidate) {
                libc::ENOENT | libc::ENOTDIR => {}
                other => {
                    errno = other;
                    // As execvp(3): go on looking after a file that may not be run, stop at a broken one.
                    if errno != libc::EACCES {
                        shape = (errno == libc::ENOEXEC)
                            .then(|| shape_of(candidate))
                            .flatten();
                        break;
                    }
                }
            }
        }
        // The kernel says the same of a file that is there without what it needs. Looked at only now: this costs no start a thing.
        let lacks = match errno {
            libc::ENOENT => self.lacks(),
            _ => None,
        };
        let kind = if errno == libc::ENOENT {
            FailureKind::NotFound
        } else {
            FailureKind::NotExecutable
        };
        Err(Failure {
            step: "run the program".to_owned(),
            object: self.name.clone(),
            errno,
            detail: lacks.unwrap_or_default(),
            kind,
            shape: shape.map(Box::new),
        })
    }

    /// The interpreter or dynamic linker that the first of the candidates which are there needs in vain.
    fn lacks(&self) -> Option<String> {
        let shape = self.candidates.iter().find_map(|path| shape_of(path))?;
        shape.lacks().map(str::to_owned)
    }

    fn try_exec(&self, path: &CStr) -> i32 {
        let is_dir = path
            .to_str()
            .is_ok_and(|p| fs::metadata(p).is_ok_and(|m| m.is_dir()));
        if is_dir {
            return libc::EISDIR;
        }
        match nix::unistd::execve(path, &self.argv, &self.env) {
            Err(errno) => errno as i32,
            Ok(never) => match never {},
        }
    }
}

/// What the file is. By now we are the container's user, and its filter holds: what it may not read isn't told.
fn shape_of(path: &CStr) -> Option<Shape> {
    Shape::of_file(Path::new(path.to_str().ok()?))
}
