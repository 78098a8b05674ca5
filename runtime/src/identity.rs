//! Who we can be: the mapping of a container's user IDs to the host's.
//!
//! `mapped` is the one identity that exists now: a user namespace whose IDs 0..65535 stand for real IDs of the host, by
//! newuidmap(1) and newgidmap(1) and the subordinate ranges of subuid(5), or written directly by a process that holds
//! CAP_SETUID. The seam for the others (docs/architecture.md, "Ids") is [`Identity`]: everything above calls
//! [`detect`] and [`enter`] and asks no more.
//!
//! A process *enters* an identity once: it moves itself into a new user namespace and is root there. All that needs
//! several owners (unpacking, deleting, starting containers) then works as it does for root. The map is written by a
//! forked helper that stays outside.

use std::ffi::{CStr, CString};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getegid, geteuid};
use rctr_storage::explain::Explain;

use crate::sys::{self, Cloned};

/// One line of a map: IDs from `inside` on stand for `count` IDs from `outside` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// First ID inside.
    pub inside: u32,
    /// First ID outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// How container IDs become host IDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Real IDs through a user namespace.
    Mapped {
        /// User IDs.
        uids: Vec<IdRange>,
        /// Group IDs.
        gids: Vec<IdRange>,
        /// Who writes the map.
        writer: MapWriter,
    },
}

/// Who writes a map of several IDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapWriter {
    /// A process with CAP_SETUID and CAP_SETGID: we ourselves.
    Direct,
    /// The setuid programs of the package `uidmap`.
    Helpers {
        /// newuidmap(1).
        newuidmap: PathBuf,
        /// newgidmap(1).
        newgidmap: PathBuf,
    },
}

/// Why there is no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// newuidmap or newgidmap isn't installed.
    #[error("cannot map user IDs: {program} is not installed")]
    NoHelper {
        /// Its name.
        program: &'static str,
    },
    /// No subordinate IDs.
    #[error("cannot map user IDs: {file} has no range for user {user}")]
    NoRange {
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
        /// Name or number.
        user: String,
    },
    /// A file that must be there can't be read.
    #[error("cannot map user IDs: cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refuses a user namespace.
    #[error("cannot create a user namespace")]
    Unshare {
        /// Why.
        source: io::Error,
    },
    /// The map was refused.
    #[error("cannot map user IDs: {detail}")]
    Map {
        /// What the helper said, or which file was refused.
        detail: String,
    },
}

impl Explain for IdentityError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoHelper { .. } => "apt-get install uidmap".to_owned(),
            Self::NoRange { user, .. } => {
                format!("as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}")
            }
            Self::Unshare { source } => match source.raw_os_error() {
                Some(libc::ENOSPC) => "as root: sysctl user.max_user_namespaces=15000".to_owned(),
                Some(libc::EPERM) => {
                    "as root: sysctl kernel.unprivileged_userns_clone=1 (Debian) or \
                     kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu); in a container: a seccomp profile that \
                     allows unshare; `rctr doctor` tells which"
                        .to_owned()
                }
                _ => "`rctr doctor` tells what this host allows".to_owned(),
            },
            Self::Read { .. } | Self::Map { .. } => "`rctr doctor` tells what this host allows".to_owned(),
        })
    }
}

/// Finds the best identity that this host gives, by looking at files only. `path` is `$PATH`.
///
/// # Errors
/// When none of the identities can work.
pub fn detect(path: &str) -> Result<Identity, IdentityError> {
    if geteuid().is_root() && may_write_maps() {
        return Ok(Identity::Mapped {
            uids: own_map("/proc/self/uid_map")?,
            gids: own_map("/proc/self/gid_map")?,
            writer: MapWriter::Direct,
        });
    }
    let newuidmap = find_program("newuidmap", path)?;
    let newgidmap = find_program("newgidmap", path)?;
    let uid = geteuid().as_raw();
    let user = user_name(uid);
    Ok(Identity::Mapped {
        uids: with_own_id(uid, &subordinate("/etc/subuid", &user, uid)?),
        gids: with_own_id(getegid().as_raw(), &subordinate("/etc/subgid", &user, uid)?),
        writer: MapWriter::Helpers {
            newuidmap,
            newgidmap,
        },
    })
}

/// Moves this process into a new user namespace with the identity's map, and becomes root there. With
/// [`Mounts::Private`] also into a new mount namespace.
///
/// # Errors
/// When the namespace or its map is refused; then this process is of no more use for work on the store.
pub fn enter(identity: &Identity, mounts: Mounts) -> Result<Entered, IdentityError> {
    let unshare_failed = |source: io::Error| IdentityError::Unshare { source };
    let (ready, mut go) = pipe().map_err(unshare_failed)?;
    let (result, said) = pipe().map_err(unshare_failed)?;
    let mut helpers = Entered(Vec::new());
    // They are started first and wait: nothing is left to do after unshare but to let them write.
    for job in MapJob::all(identity, Pid::this())? {
        match sys::clone_process(0).map_err(unshare_failed)? {
            Cloned::Parent { pid, .. } => helpers.0.push(Pid::from_raw(pid)),
            Cloned::Child => {
                drop((go, result));
                let failed = if await_byte(&ready) {
                    job.run(&said).err()
                } else {
                    // There is no namespace: whoever wanted it knows why.
                    None
                };
                if let Some(error) = &failed {
                    // A lost reason still leaves the exit code.
                    let _ = (&said).write_all(error.to_string().as_bytes());
                }
                sys::exit_now(failed.is_some().into())
            }
        }
    }
    drop((ready, said));
    let mut flags = CloneFlags::CLONE_NEWUSER;
    if mounts == Mounts::Private {
        flags |= CloneFlags::CLONE_NEWNS;
    }
    let unshared = nix::sched::unshare(flags);
    if unshared.is_ok() {
        go.write_all(&b"11"[..helpers.0.len()])
            .map_err(unshare_failed)?;
    }
    drop(go);
    let mut detail = String::new();
    // EOF comes when the last helper has ended; an unreadable pipe leaves the exit codes to tell.
    let _ = (&result).read_to_string(&mut detail);
    unshared.map_err(|errno| unshare_failed(errno.into()))?;
    // What counts is the map, whatever a helper thinks of it. Each of the two is written as a whole or not at all, and
    // without both there is no root to become: nobody has to wait for the helpers' ends.
    match sys::set_ids(0, 0, &[]) {
        Ok(()) => Ok(helpers),
        Err(error) if is_mapped(identity) => Err(IdentityError::Map {
            detail: format!("cannot become root inside: {error}"),
        }),
        Err(_) => Err(IdentityError::Map {
            detail: failure(&detail, &helpers.reap()),
        }),
    }
}

/// The helpers that wrote the map: they have done their work, and are reaped when this is dropped.
#[derive(Debug)]
pub struct Entered(Vec<Pid>);

impl Entered {
    fn reap(mut self) -> Vec<nix::Result<WaitStatus>> {
        self.0.drain(..).map(|pid| waitpid(pid, None)).collect()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        for pid in self.0.drain(..) {
            // How it ended makes no difference any more.
            let _ = waitpid(pid, None);
        }
    }
}

/// Whether this process's namespace has the whole map.
fn is_mapped(identity: &Identity) -> bool {
    let Identity::Mapped { uids, gids, .. } = identity;
    let has = |file: &str, wanted: &[IdRange]| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let words =
            |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        words(&text) == words(&map_text(wanted))
    };
    has("/proc/self/uid_map", uids) && has("/proc/self/gid_map", gids)
}

/// Everything that is known of a helper's failure: it may not happen a second time.
fn failure(said: &str, statuses: &[nix::Result<WaitStatus>]) -> String {
    let mut parts: Vec<String> = said.trim().lines().map(str::to_owned).collect();
    for status in statuses {
        match status {
            Ok(WaitStatus::Exited(_, 0)) => {}
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                parts.push(format!("a helper was ended by {signal}"));
            }
            _ if parts.is_empty() => parts.push("the helper failed".to_owned()),
            _ => {}
        }
    }
    for file in ["uid_map", "gid_map"] {
        let map = fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
        let lines: Vec<String> = map
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        if !lines.is_empty() {
            parts.push(format!("{file} is {}", lines.join(", ")));
        }
    }
    parts.join("; ")
}

/// Moves this single-threaded process into an existing user namespace (its /proc file) and becomes root there.
///
/// # Errors
/// As setns(2).
pub fn join(namespace: &Path) -> io::Result<()> {
    let namespace = fs::File::open(namespace)?;
    match nix::sched::setns(namespace, CloneFlags::CLONE_NEWUSER) {
        // It is our own namespace already.
        Ok(()) | Err(nix::errno::Errno::EINVAL) => sys::set_ids(0, 0, &[]),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether entering an identity takes a new mount namespace too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mounts {
    /// The mounts stay the host's.
    Host,
    /// A private copy: what is mounted from now on ends with this process.
    Private,
}

fn pipe() -> io::Result<(fs::File, fs::File)> {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    Ok((read.into(), write.into()))
}

fn await_byte(mut pipe: &fs::File) -> bool {
    pipe.read(&mut [0]).is_ok_and(|n| n == 1)
}

/// What one helper process does, prepared before it is forked.
enum MapJob {
    /// Writes the files of /proc/PID: (path, lines).
    Write(Vec<(String, String)>),
    /// Becomes newuidmap or newgidmap.
    Exec(fs::File, Vec<CString>),
}

impl MapJob {
    fn all(identity: &Identity, target: Pid) -> Result<Vec<Self>, IdentityError> {
        let Identity::Mapped { uids, gids, writer } = identity;
        match writer {
            MapWriter::Direct => {
                let file = |name, ranges| (format!("/proc/{target}/{name}"), map_text(ranges));
                Ok(vec![Self::Write(vec![
                    file("uid_map", uids),
                    file("gid_map", gids),
                ])])
            }
            MapWriter::Helpers {
                newuidmap,
                newgidmap,
            } => Ok(vec![
                Self::exec(newuidmap, target, uids)?,
                Self::exec(newgidmap, target, gids)?,
            ]),
        }
    }

    fn exec(program: &Path, target: Pid, ranges: &[IdRange]) -> Result<Self, IdentityError> {
        let file = fs::File::open(program).map_err(|source| IdentityError::Read {
            path: program.to_owned(),
            source,
        })?;
        let name = program
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut words = vec![name, target.to_string()];
        for range in ranges {
            words.extend([range.inside, range.outside, range.count].map(|n| n.to_string()));
        }
        Ok(Self::Exec(
            file,
            words
                .into_iter()
                .filter_map(|w| CString::new(w).ok())
                .collect(),
        ))
    }

    /// Only in the helper: with `Exec` it returns on failure alone.
    fn run(self, said: &fs::File) -> io::Result<()> {
        match self {
            Self::Write(files) => files.into_iter().try_for_each(|(path, lines)| {
                fs::write(&path, lines)
                    .map_err(|e| io::Error::new(e.kind(), format!("cannot write {path}: {e}")))
            }),
            Self::Exec(file, words) => {
                nix::unistd::dup2_stdout(said)?;
                nix::unistd::dup2_stderr(said)?;
                let argv: Vec<&CStr> = words.iter().map(CString::as_c_str).collect();
                Err(sys::exec_fd(file.as_fd(), &argv, &[]))
            }
        }
    }
}

fn map_text(ranges: &[IdRange]) -> String {
    ranges
        .iter()
        .map(|r| format!("{} {} {}\n", r.inside, r.outside, r.count))
        .collect()
}

/// Root of this user namespace with the right to map others' IDs.
fn may_write_maps() -> bool {
    let need = 1u64 << libc_cap::SETUID | 1 << libc_cap::SETGID;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    effective
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .is_some_and(|have| have & need == need)
}

/// Numbers of linux/capability.h.
mod libc_cap {
    pub(super) const SETGID: u32 = 6;
    pub(super) const SETUID: u32 = 7;
}

/// Every ID that exists here stands for itself.
fn own_map(file: &str) -> Result<Vec<IdRange>, IdentityError> {
    let text = fs::read_to_string(file).map_err(|source| IdentityError::Read {
        path: file.into(),
        source,
    })?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(|n| n.parse::<u32>().ok());
            let (inside, _, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
            Some(IdRange {
                inside,
                outside: inside,
                count,
            })
        })
        .collect())
}

fn find_program(program: &'static str, path: &str) -> Result<PathBuf, IdentityError> {
    path.split(':')
        .chain(
            ["/usr/bin", "/usr/sbin"]
                .into_iter()
                .filter(|_| path.is_empty()),
        )
        .map(|dir| Path::new(dir).join(program))
        .find(|file| {
            fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        })
        .ok_or(IdentityError::NoHelper { program })
}

/// The name of `uid` in /etc/passwd, else the number (subuid(5) knows both).
fn user_name(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    found.unwrap_or_else(|| uid.to_string())
}

/// The ranges of a user in subuid(5): (first, count).
fn subordinate(file: &'static str, user: &str, uid: u32) -> Result<Vec<(u32, u32)>, IdentityError> {
    let none = || IdentityError::NoRange {
        file,
        user: user.to_owned(),
    };
    let text = fs::read_to_string(file).map_err(|_| none())?;
    let ranges = parse_subordinate(&text, user, uid);
    if ranges.is_empty() {
        Err(none())
    } else {
        Ok(ranges)
    }
}

fn parse_subordinate(text: &str, user: &str, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            ((owner == user || owner == number) && range.1 > 0).then_some(range)
        })
        .collect()
}

/// 0 is the caller; 1 and up are the subordinate IDs, one range after the other.
fn with_own_id(own: u32, ranges: &[(u32, u32)]) -> Vec<IdRange> {
    let mut map = vec![IdRange {
        inside: 0,
        outside: own,
        count: 1,
    }];
    let mut inside = 1u32;
    for &(outside, count) in ranges {
        map.push(IdRange {
            inside,
            outside,
            count,
        });
        inside = inside.saturating_add(count);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ranges_are_found_by_name_and_number() {
        let text = "# c\nalice:100000:65536\nbob:1:2\n1000:200000:10\nalice:x:y\n";
        assert_eq!(
            parse_subordinate(text, "alice", 1000),
            [(100_000, 65_536), (200_000, 10)]
        );
        assert!(parse_subordinate(text, "eve", 7).is_empty());
    }

    #[test]
    fn ranges_follow_each_other_inside() {
        let map = with_own_id(1000, &[(100_000, 10), (500, 5)]);
        assert_eq!(map_text(&map), "0 1000 1\n1 100000 10\n11 500 5\n");
    }
}
