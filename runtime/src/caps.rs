//! Capabilities (capabilities(7)): names, docker's default set and its `--cap-add`/`--cap-drop`, and giving up the rest.

use ::caps::{CapSet, Capability, CapsHashSet};
use rctr_storage::explain::Explain;

/// Names without `CAP_`, by number (linux/capability.h).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Docker's default set.
pub const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Sets of capabilities as bits, by number.
pub mod mask {
    macro_rules! bits {
        ($($name:ident = $number:literal),*) => { $(
            #[doc = concat!("CAP_", stringify!($name))]
            pub const $name: u64 = 1 << $number;
        )* };
    }
    bits! {
        DAC_READ_SEARCH = 2, SYS_MODULE = 16, SYS_RAWIO = 17, SYS_CHROOT = 18, SYS_PTRACE = 19, SYS_PACCT = 20,
        SYS_ADMIN = 21, SYS_BOOT = 22, SYS_NICE = 23, SYS_TIME = 25, SYS_TTY_CONFIG = 26, SYSLOG = 34, PERFMON = 38,
        BPF = 39
    }

    /// The bits of `names` (with `CAP_`); unknown names have none.
    #[must_use]
    pub fn of(names: &[String]) -> u64 {
        let number = |name: &String| super::number(name);
        names
            .iter()
            .filter_map(number)
            .fold(0, |set, n| set | 1 << n)
    }
}

/// Why a set of capabilities can't be made or taken on.
#[derive(Debug, thiserror::Error)]
pub enum CapsError {
    /// `--cap-add=X`.
    #[error("invalid CapAdd: unknown capability: {name:?}")]
    UnknownAdded {
        /// As given, with `CAP_`, upper case.
        name: String,
    },
    /// `--cap-drop=X`.
    #[error("invalid CapDrop: unknown capability: {name:?}")]
    UnknownDropped {
        /// As given, with `CAP_`, upper case.
        name: String,
    },
    /// The kernel refused.
    #[error("cannot set the {set} capabilities")]
    Set {
        /// Which set.
        set: &'static str,
        /// Why.
        source: ::caps::errors::CapsError,
    },
}

impl Explain for CapsError {
    fn hint(&self) -> Option<String> {
        let (Self::UnknownAdded { name } | Self::UnknownDropped { name }) = self else {
            return None;
        };
        let word = name.trim_start_matches("CAP_");
        let near = NAMES
            .iter()
            .find(|known| known.contains(word) || word.contains(*known));
        Some(near.map_or_else(
            || "capabilities are listed in capabilities(7)".to_owned(),
            |near| format!("did you mean {near}?"),
        ))
    }
}

/// Number of a capability by its name with `CAP_`, upper case.
#[must_use]
pub fn number(name: &str) -> Option<u32> {
    let word = name.strip_prefix("CAP_")?;
    let at = NAMES.iter().position(|known| *known == word)?;
    u32::try_from(at).ok()
}

/// Name of a capability, with `CAP_`.
#[must_use]
pub fn name(number: u32) -> Option<String> {
    let word = NAMES.get(usize::try_from(number).ok()?)?;
    Some(format!("CAP_{word}"))
}

/// All that there are (Linux 5.9), by number.
#[must_use]
pub fn all() -> Vec<String> {
    NAMES.iter().map(|word| format!("CAP_{word}")).collect()
}

/// Whether a container gets everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// As usual.
    Ordinary,
    /// `--privileged`: all, whatever is added or dropped.
    Privileged,
}

/// The set of a container by docker's rules: names in any case, with or without `CAP_`, or `ALL`. What is both added
/// and dropped is there, unless everything was added.
///
/// # Errors
/// When a name is unknown.
pub fn resolve(
    add: &[String],
    drop: &[String],
    privilege: Privilege,
) -> Result<Vec<String>, CapsError> {
    let add = Changes::parse(add).map_err(|name| CapsError::UnknownAdded { name })?;
    let drop = Changes::parse(drop).map_err(|name| CapsError::UnknownDropped { name })?;
    if privilege == Privilege::Privileged {
        return Ok(all());
    }
    let base = match (add.all, drop.all) {
        (true, _) => all(),
        (false, true) => Vec::new(),
        (false, false) => DEFAULT.map(str::to_owned).to_vec(),
    };
    let kept = |name: &String| !drop.names.contains(name);
    let mut set: Vec<String> = base.into_iter().filter(kept).collect();
    if !add.all {
        for name in add.names {
            if !set.contains(&name) {
                set.push(name);
            }
        }
    }
    Ok(set)
}

struct Changes {
    all: bool,
    names: Vec<String>,
}

impl Changes {
    fn parse(words: &[String]) -> Result<Self, String> {
        let mut changes = Self {
            all: false,
            names: Vec::new(),
        };
        for word in words {
            let upper = word.trim().to_ascii_uppercase();
            if upper == "ALL" {
                changes.all = true;
                continue;
            }
            let name = match upper.strip_prefix("CAP_") {
                Some(_) => upper,
                None => format!("CAP_{upper}"),
            };
            if number(&name).is_none() {
                return Err(name);
            }
            changes.names.push(name);
        }
        Ok(changes)
    }
}

/// Takes all but `keep` (names with `CAP_`) from the bounding set of this thread, so that no program can ever gain
/// them. Needs CAP_SETPCAP: do it while still root. Capabilities that this kernel hasn't are passed over.
///
/// # Errors
/// As prctl(2), `PR_CAPBSET_DROP`.
pub fn limit(keep: &[String]) -> Result<(), CapsError> {
    let keep = mask::of(keep);
    let error = |source| CapsError::Set {
        set: "bounding",
        source,
    };
    for capability in ::caps::all() {
        if keep & capability.bitmask() != 0 {
            continue;
        }
        let there = ::caps::has_cap(None, CapSet::Bounding, capability);
        if there.unwrap_or_default() {
            ::caps::drop(None, CapSet::Bounding, capability).map_err(error)?;
        }
    }
    Ok(())
}

/// What the process's user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// User ID 0: gets the set effective and permitted.
    Root,
    /// Any other: holds nothing, and gains only what file capabilities within the bounding set give.
    Other,
}

/// Sets this thread's capabilities for good, after the user was changed: bounding (unless [`limit`] did that before, as
/// it must if the user is no longer root), nothing ambient nor inheritable (docker since 20.10.14, CVE-2022-24769),
/// effective and permitted `keep` for root and nothing for others.
///
/// # Errors
/// As capset(2) and prctl(2).
pub fn apply(keep: &[String], user: User) -> Result<(), CapsError> {
    limit(keep)?;
    let failed = |set: &'static str| move |source| CapsError::Set { set, source };
    ::caps::clear(None, CapSet::Ambient).map_err(failed("ambient"))?;
    ::caps::clear(None, CapSet::Inheritable).map_err(failed("inheritable"))?;
    let mask = mask::of(keep);
    let permitted = ::caps::read(None, CapSet::Permitted).map_err(failed("permitted"))?;
    let wanted: CapsHashSet = match user {
        User::Root => permitted
            .into_iter()
            .filter(|c: &Capability| mask & c.bitmask() != 0)
            .collect(),
        User::Other => CapsHashSet::new(),
    };
    // Effective first: it must be within permitted at every moment.
    ::caps::set(None, CapSet::Effective, &wanted).map_err(failed("effective"))?;
    ::caps::set(None, CapSet::Permitted, &wanted).map_err(failed("permitted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(add: &[&str], drop: &[&str]) -> Result<Vec<String>, String> {
        let words = |w: &[&str]| w.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        resolve(&words(add), &words(drop), Privilege::Ordinary).map_err(|e| e.to_string())
    }

    #[test]
    fn sets_follow_dockers_rules() {
        assert_eq!(set(&[], &[]).unwrap(), DEFAULT);
        let with = set(&["sys_admin", "CAP_NET_ADMIN", "chown"], &["Cap_Kill"]).unwrap();
        assert_eq!(with.len(), 15);
        assert!(with.contains(&"CAP_SYS_ADMIN".to_owned()));
        assert!(!with.contains(&"CAP_KILL".to_owned()));
        assert_eq!(set(&["net_raw"], &["all"]).unwrap(), ["CAP_NET_RAW"]);
        assert_eq!(set(&["ALL"], &[]).unwrap(), all());
        assert_eq!(set(&["ALL"], &["SYS_ADMIN"]).unwrap().len(), 40);
        assert_eq!(set(&["KILL"], &["KILL"]).unwrap().len(), 14);
        assert_eq!(
            resolve(&[], &["ALL".to_owned()], Privilege::Privileged).unwrap(),
            all()
        );
    }

    #[test]
    fn unknown_names_are_refused() {
        let error = set(&["FOO"], &[]).unwrap_err();
        assert_eq!(error, "invalid CapAdd: unknown capability: \"CAP_FOO\"");
        assert!(set(&[], &[""]).unwrap_err().starts_with("invalid CapDrop"));
        let error = resolve(&["ADMIN".to_owned()], &[], Privilege::Ordinary).unwrap_err();
        assert_eq!(error.hint().unwrap(), "did you mean NET_ADMIN?");
    }

    #[test]
    fn names_have_the_kernels_numbers() {
        for (at, capability) in all().iter().enumerate() {
            let known: Capability = capability.parse().unwrap();
            assert_eq!(usize::from(known.index()), at);
            assert_eq!(name(number(capability).unwrap()).unwrap(), *capability);
        }
        assert_eq!(name(41), None);
        assert_eq!(mask::of(&["CAP_SYS_ADMIN".to_owned()]), mask::SYS_ADMIN);
        assert_eq!(mask::of(&["CAP_BPF".to_owned()]), mask::BPF);
    }

    /// Capabilities belong to a thread: a new one can give them up. Only root can.
    #[test]
    fn a_thread_keeps_what_it_is_told_to() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let kept = |user| {
            let thread = std::thread::spawn(move || {
                apply(&DEFAULT.map(str::to_owned), user).unwrap();
                std::fs::read_to_string("/proc/thread-self/status").unwrap()
            });
            thread.join().unwrap()
        };
        let line = |status: &str, name: &str| {
            let line = status.lines().find(|l| l.starts_with(name)).unwrap();
            u64::from_str_radix(line[name.len() + 1..].trim(), 16).unwrap()
        };
        let status = kept(User::Root);
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(line(&status, set), 0xa804_25fb, "{set}");
        }
        assert_eq!((line(&status, "CapInh"), line(&status, "CapAmb")), (0, 0));
        let status = kept(User::Other);
        assert_eq!((line(&status, "CapPrm"), line(&status, "CapEff")), (0, 0));
        assert_eq!(line(&status, "CapBnd"), 0xa804_25fb);
    }
}
