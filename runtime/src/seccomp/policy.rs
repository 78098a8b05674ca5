//! What a filter shall do, whatever it was made from: the input of [`super::program`].

use super::arch::Arch;

/// What the kernel does with a call (`SECCOMP_RET_*` of linux/seccomp.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    KillProcess,
    KillThread,
    Trap,
    /// The call fails with this errno.
    Errno(u16),
    /// A tracer gets this message.
    Trace(u16),
    /// Allowed, and noted in the audit log.
    Log,
    Allow,
}

impl Action {
    /// What a filter returns for it.
    pub(super) fn code(self) -> u32 {
        match self {
            Self::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
            Self::KillThread => libc::SECCOMP_RET_KILL_THREAD,
            Self::Trap => libc::SECCOMP_RET_TRAP,
            Self::Errno(errno) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
            Self::Trace(message) => libc::SECCOMP_RET_TRACE | u32::from(message),
            Self::Log => libc::SECCOMP_RET_LOG,
            Self::Allow => libc::SECCOMP_RET_ALLOW,
        }
    }
}

/// How an argument is compared with a value, as unsigned 64-bit numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// `argument & value == this`.
    MaskedEqual(u64),
}

/// A condition on an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// 0..=5.
    pub(super) index: u32,
    pub(super) op: Op,
    pub(super) value: u64,
}

impl Condition {
    pub(super) fn new(index: u32, op: Op, value: u64) -> Self {
        Self { index, op, value }
    }
}

/// `action` when all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: Action,
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Return(Action),
    /// [`Policy::checks`] of that index.
    Check(usize),
}

/// The rules of one architecture.
#[derive(Debug, Clone)]
pub(super) struct ArchPolicy {
    pub(super) arch: Arch,
    /// By number, in any order; no number twice.
    pub(super) answers: Vec<(u32, Answer)>,
    /// For numbers without an answer up to `newest`.
    pub(super) otherwise: Answer,
    /// The highest number that the profile's author may have known.
    pub(super) newest: u32,
    /// For numbers without an answer above `newest`.
    pub(super) newer: Answer,
}

/// A whole filter. Programs of other architectures are killed.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    /// The machine's own first.
    pub(super) arches: Vec<ArchPolicy>,
    /// Rules in order, the first that holds counts; else the action beside them.
    pub(super) checks: Vec<(Vec<Rule>, Action)>,
}
