//! The built-in profile: what Docker's allows, as a verdict in each row of [`super::syscalls::CALLS`].
//!
//! - Calls that a program in a container needs are allowed; keys, swap, kexec, io_uring, userfaultfd and the obsolete are not.
//! - Calls that only a capability makes useful are allowed when it is granted.
//! - New namespaces need CAP_SYS_ADMIN: clone(2) is allowed without their flags; clone3(2), whose flags are behind a
//!   pointer, answers ENOSYS so that libc falls back to clone.
//! - Calls newer than the profile answer ENOSYS, so that programs fall back, as on the older kernel that they know.

use super::arch::{Arch, X32_BIT};
use super::policy::{Action, Answer, ArchPolicy, Condition, Op, Policy, Rule};
use super::syscalls::CALLS;
use crate::caps::mask::SYS_ADMIN;

/// What the built-in profile says of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    /// EPERM.
    Deny,
    /// Allowed with any of these capabilities, else EPERM.
    Needs(u64),
    /// clone(2).
    Clone,
    /// clone3(2).
    Clone3,
    /// personality(2).
    Personality,
    /// socket(2).
    Socket,
    /// ENOSYS: newer than the profile.
    Later,
}

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// PER_LINUX, PER_LINUX32, each with UNAME26, and "only ask".
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// AF_ALG (kernel crypto without need, a long list of holes) and AF_VSOCK (reaches the hypervisor past any network namespace).
const REFUSED_FAMILIES: [u64; 2] = [38, 40];

const CLONE: usize = 0;
const PERSONALITY: usize = 1;
const SOCKET: usize = 2;

/// The built-in profile for a machine and a set of capabilities ([`crate::caps::mask`]).
pub(super) fn policy(machine: Arch, capabilities: u64) -> Policy {
    let eperm = Action::Errno(libc::EPERM as u16);
    let rules = |op, values: &[u64], action| -> Vec<Rule> {
        let rule = |value: &u64| Rule {
            conditions: vec![Condition::new(0, op, *value)],
            action,
        };
        values.iter().map(rule).collect()
    };
    let checks = vec![
        (
            rules(Op::MaskedEqual(0), &[CLONE_NAMESPACES], Action::Allow),
            eperm,
        ),
        (rules(Op::Equal, &PERSONALITIES, Action::Allow), eperm),
        (rules(Op::Equal, &REFUSED_FAMILIES, eperm), Action::Allow),
    ];
    Policy {
        arches: machine
            .family()
            .iter()
            .map(|arch| arch_policy(*arch, capabilities))
            .collect(),
        checks,
    }
}

fn arch_policy(arch: Arch, capabilities: u64) -> ArchPolicy {
    let admin = capabilities & SYS_ADMIN != 0;
    let enosys = Answer::Return(Action::Errno(libc::ENOSYS as u16));
    let eperm = Answer::Return(Action::Errno(libc::EPERM as u16));
    let allow = Answer::Return(Action::Allow);
    let base = if arch == Arch::X32 { X32_BIT } else { 0 };
    let mut answers = Vec::with_capacity(CALLS.len());
    let mut newest = base;
    for call in CALLS {
        let Some(number) = call.number(arch) else {
            continue;
        };
        let answer = match call.verdict {
            Verdict::Later => continue,
            Verdict::Allow => allow,
            Verdict::Needs(any) if any & capabilities != 0 => allow,
            Verdict::Deny | Verdict::Needs(_) => eperm,
            Verdict::Clone | Verdict::Clone3 if admin => allow,
            Verdict::Clone => Answer::Check(CLONE),
            Verdict::Clone3 => enosys,
            Verdict::Personality => Answer::Check(PERSONALITY),
            Verdict::Socket => Answer::Check(SOCKET),
        };
        if number < arch.private_numbers() {
            newest = newest.max(number);
        }
        answers.push((number, answer));
    }
    ArchPolicy {
        arch,
        answers,
        otherwise: eperm,
        newest,
        newer: enosys,
    }
}
