//! What this host gives: each thing that rctr needs is done, in a child process, not read from settings.
//!
//! The answers are for people (`rctr doctor`): what was found, what it means, the smallest fix. The caller must have one
//! thread only, for the children are forked; what they do to themselves ends with them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};

use crate::identity::{self, Identity, Mounts};
use crate::sys::{self, Cloned};

mod emulation;
mod host;
mod ids;
mod network;
mod storage;

/// What a probe says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Works,
    /// `run` works, but something doesn't or is slower.
    Limited,
    /// `run` can't work.
    Broken,
    /// To know only.
    Note,
}

impl Outcome {
    /// The word in the report.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Works => "ok",
            Self::Limited => "limited",
            Self::Broken => "broken",
            Self::Note => "note",
        }
    }
}

/// One probe and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What was tried.
    pub name: &'static str,
    /// How it went.
    pub outcome: Outcome,
    /// What was seen.
    pub found: String,
    /// What that means for containers; empty when all is well.
    pub means: String,
    /// What to do, the smallest thing first.
    pub fix: Option<String>,
}

impl Probe {
    fn works(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, Outcome::Works, found)
    }

    fn note(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, Outcome::Note, found)
    }

    fn new(name: &'static str, outcome: Outcome, found: impl Into<String>) -> Self {
        Self {
            name,
            outcome,
            found: found.into(),
            means: String::new(),
            fix: None,
        }
    }

    /// What needs a user namespace where there is none.
    fn not_tried(name: &'static str) -> Self {
        Self::note(name, "not tried, for want of a user namespace with mounts")
    }

    fn means(mut self, means: impl Into<String>) -> Self {
        self.means = means.into();
        self
    }

    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// Where rctr is to work.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The store's directory; need not exist.
    pub storage: &'a Path,
    /// The directory of sockets and locks; need not exist.
    pub run: &'a Path,
    /// `$PATH`.
    pub path: &'a str,
}

/// All probes, the most telling first. Takes some 100 ms.
#[must_use]
pub fn all(surroundings: &Surroundings<'_>) -> Vec<Probe> {
    let confinement = host::Confinement::read();
    let detected = identity::detect(surroundings.path);
    let mut world = World {
        surroundings,
        confinement: &confinement,
        entry: Entry::Refused,
    };
    let mut probes = vec![host::kernel(), host::confinement(&confinement)];
    probes.push(ids::user_namespace(&world));
    if run_works(&probes) {
        let mounts = ids::mounts(&world);
        if mounts.outcome != Outcome::Broken {
            world.entry = Entry::Alone;
        }
        probes.push(mounts);
        let ids = ids::identity(&world, &detected);
        if let (Ok(identity), true) = (&detected, ids.outcome != Outcome::Broken) {
            world.entry = Entry::Full(identity);
        }
        probes.push(ids);
    }
    probes.push(ids::proc(&world));
    probes.extend(storage::all(&world));
    probes.extend(network::all(&world));
    probes.extend(host::all());
    probes.push(emulation::emulation(&world));
    probes
}

/// Whether a container can run at all.
#[must_use]
pub fn run_works(probes: &[Probe]) -> bool {
    probes.iter().all(|p| p.outcome != Outcome::Broken)
}

/// What the probes know of each other.
struct World<'a> {
    surroundings: &'a Surroundings<'a>,
    confinement: &'a host::Confinement,
    entry: Entry<'a>,
}

/// How a child becomes root of a user namespace.
enum Entry<'a> {
    /// With the whole map.
    Full(&'a Identity),
    /// With our own ID only.
    Alone,
    /// Not at all.
    Refused,
}

impl World<'_> {
    /// [`in_child`], as root of a user and mount namespace of its own. None when there can be none.
    fn inside(
        &self,
        job: impl FnOnce() -> Result<String, Trouble>,
    ) -> Option<Result<String, Trouble>> {
        let enter = || match self.entry {
            Entry::Full(identity) => enter_fully(identity),
            Entry::Alone => ids::enter_alone(),
            Entry::Refused => Ok(()),
        };
        let tried = !matches!(self.entry, Entry::Refused);
        tried.then(|| in_child(|| enter().and_then(|()| job())))
    }
}

fn enter_fully(identity: &Identity) -> Result<(), Trouble> {
    identity::enter(identity, Mounts::Private)
        .map(drop)
        .map_err(|error| Trouble {
            what: error.to_string(),
            errno: 0,
        })
}

/// What didn't work in a child.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trouble {
    /// The operation.
    what: String,
    /// 0: `what` says it all.
    errno: i32,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.errno {
            0 => f.write_str(&self.what),
            errno => write!(f, "{}: {}", self.what, describe(errno)),
        }
    }
}

/// `EPERM (Operation not permitted)`.
fn describe(errno: i32) -> String {
    let errno = nix::errno::Errno::from_raw(errno);
    format!("{errno:?} ({})", errno.desc())
}

fn trouble<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Trouble {
    let what = what.into();
    move |error| Trouble {
        what,
        errno: error.into().raw_os_error().unwrap_or_default(),
    }
}

/// Runs `job` in a forked child and brings its answer here.
fn in_child(job: impl FnOnce() -> Result<String, Trouble>) -> Result<String, Trouble> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(trouble("pipe"))?;
    let pid = match sys::clone_process(0).map_err(trouble("fork"))? {
        Cloned::Child => {
            drop(read);
            let answer = match job() {
                Ok(found) => format!("0 {found}"),
                Err(trouble) => format!("-{} {}", trouble.errno, trouble.what),
            };
            // The parent sees a missing answer.
            let _ = File::from(write).write_all(answer.as_bytes());
            sys::exit_now(0)
        }
        Cloned::Parent { pid, .. } => Pid::from_raw(pid),
    };
    drop(write);
    let mut answer = String::new();
    let read = File::from(read).read_to_string(&mut answer);
    let status = waitpid(pid, None);
    read.map_err(trouble("read"))?;
    if let Ok(WaitStatus::Signaled(_, signal, _)) = status {
        return Err(Trouble {
            what: format!("killed by {signal}"),
            errno: 0,
        });
    }
    let (code, text) = answer.split_once(' ').unwrap_or(("-0", "no answer"));
    match code.strip_prefix('-') {
        None => Ok(text.to_owned()),
        Some(errno) => Err(Trouble {
            what: text.to_owned(),
            errno: errno.parse().unwrap_or_default(),
        }),
    }
}

/// Where a program is.
fn find_program(name: &str, path: &str) -> Option<std::path::PathBuf> {
    let dirs = path
        .split(':')
        .chain(["/usr/bin", "/usr/sbin", "/bin", "/sbin"]);
    let candidates = dirs
        .filter(|d| d.starts_with('/'))
        .map(|d| Path::new(d).join(name));
    let executable =
        |p: &std::path::PathBuf| nix::unistd::access(p, nix::unistd::AccessFlags::X_OK).is_ok();
    candidates
        .into_iter()
        .find(|p| p.is_file() && executable(p))
}
