//! The system-call filter of a container: from a profile to classic BPF, and its installation.
//!
//! ```text
//! built-in profile (default.rs: a verdict a row of syscalls.rs) ─┐
//!                                                                ├─▶ Policy (policy.rs) ─▶ BPF (program.rs) ─▶ install
//! JSON profile of docker's format (profile.rs) ──────────────────┘
//! ```
//!
//! [`compile`] is done once, before the container's process starts; [`install`] is one system call. It needs
//! CAP_SYS_ADMIN in the user namespace, or no_new_privs: without the latter it comes before capabilities are dropped,
//! and everything that init still does then must be allowed by the profile (capset, setresuid, execve are).

use libc::sock_filter;
use nix::sys::utsname;
use rctr_storage::explain::Explain;
use serde::{Deserialize, Serialize};

use crate::plan::Seccomp;
use crate::{caps, sys};

mod arch;
mod default;
mod policy;
mod profile;
mod program;
mod syscalls;
#[cfg(test)]
mod tests;

use arch::Arch;
use profile::{KernelVersion, Profile, Subject};

/// A filter, ready for the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<u64>", into = "Vec<u64>")]
pub struct Filter(Vec<Instruction>);

/// `struct sock_filter` of linux/filter.h as one number: code, jt, jf, k from the highest bits on.
type Instruction = u64;

/// The kernel's limit (`BPF_MAXINSNS`).
const MAX_INSTRUCTIONS: usize = 4096;

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// Not JSON, or not of the format.
    #[error("invalid seccomp profile (line {line}, column {column})")]
    Json {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// Something that can't be done.
    #[error("invalid seccomp profile: {place}: {problem}")]
    Invalid {
        /// As in `syscalls[3].args[0].index`.
        place: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// Longer than the kernel takes.
    #[error(
        "the seccomp profile is too long: {instructions} instructions, the kernel takes {MAX_INSTRUCTIONS}"
    )]
    TooLong {
        /// How many.
        instructions: usize,
    },
    /// The kernel refused it.
    #[error("cannot install the seccomp filter")]
    Install {
        /// Why.
        source: std::io::Error,
    },
}

impl Explain for SeccompError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Json { .. } | Self::Invalid { .. } => Some(
                "the format is that of docker's profiles: {\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [{\"names\": [\"read\"], \"action\": \"SCMP_ACT_ALLOW\"}]}".to_owned(),
            ),
            Self::TooLong { .. } => Some("name fewer conditions on arguments".to_owned()),
            Self::Install { source } => match source.raw_os_error() {
                Some(libc::EACCES) => {
                    Some("use --security-opt no-new-privileges or grant CAP_SYS_ADMIN to rctr".to_owned())
                }
                Some(libc::EINVAL | libc::ENOSYS) => Some(
                    "this kernel has no seccomp filters: --security-opt seccomp=unconfined".to_owned(),
                ),
                _ => None,
            },
        }
    }
}

/// The filter for a container with these capabilities (names with `CAP_`); none when it is unconfined.
///
/// # Errors
/// When a profile of the user can't be used.
pub fn compile(seccomp: &Seccomp, capabilities: &[String]) -> Result<Option<Filter>, SeccompError> {
    let policy = match seccomp {
        Seccomp::Unconfined => return Ok(None),
        Seccomp::Default => default::policy(Arch::NATIVE, caps::mask::of(capabilities)),
        Seccomp::Profile(text) => Profile::parse(text)?.policy(&Subject {
            machine: Arch::NATIVE,
            kernel: running_kernel(),
            capabilities,
        }),
    };
    Filter::from_program(&program::assemble(&policy)).map(Some)
}

/// Puts the filter on this thread, and so on all that it starts: seccomp(2). It can't be taken off.
///
/// # Errors
/// `EACCES` without no_new_privs and CAP_SYS_ADMIN.
pub fn install(filter: &Filter) -> Result<(), SeccompError> {
    sys::seccomp_filter(&filter.program()).map_err(|source| SeccompError::Install { source })
}

impl Filter {
    fn from_program(program: &[sock_filter]) -> Result<Self, SeccompError> {
        if program.len() > MAX_INSTRUCTIONS {
            return Err(SeccompError::TooLong {
                instructions: program.len(),
            });
        }
        let word = |i: &sock_filter| {
            u64::from(i.code) << 48 | u64::from(i.jt) << 40 | u64::from(i.jf) << 32 | u64::from(i.k)
        };
        Ok(Self(program.iter().map(word).collect()))
    }

    /// The instructions as the kernel takes them.
    #[must_use]
    pub fn program(&self) -> Vec<sock_filter> {
        let instruction = |word: &u64| sock_filter {
            code: (word >> 48) as u16,
            jt: (word >> 40) as u8,
            jf: (word >> 32) as u8,
            k: *word as u32,
        };
        self.0.iter().map(instruction).collect()
    }
}

impl From<Vec<u64>> for Filter {
    fn from(words: Vec<u64>) -> Self {
        Self(words)
    }
}

impl From<Filter> for Vec<u64> {
    fn from(filter: Filter) -> Self {
        filter.0
    }
}

fn running_kernel() -> KernelVersion {
    let name = utsname::uname().ok();
    name.as_ref()
        .and_then(|name| KernelVersion::parse(name.release().to_str()?))
        .unwrap_or(KernelVersion(0, 0))
}
