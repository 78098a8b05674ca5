//! Profiles in the JSON format of docker's `--security-opt seccomp=FILE`.
//!
//! Read as docker and runc read it: rules are chosen by the granted capabilities, the machine and its kernel; names and
//! architectures that we don't know are passed over; conditions of one rule hold together, except that several on the
//! same argument make a rule each; a blocking default answers ENOSYS to calls newer than any that the profile names.
//! Of several rules for a call, the first whose conditions hold counts, then one without conditions.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::SeccompError;
use super::arch::{Arch, X32_BIT};
use super::policy::{self, Answer, ArchPolicy, Condition, Policy, Rule};
use super::syscalls;

/// A profile as it is written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Profile {
    default_action: Action,
    default_errno_ret: Option<u16>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchMapEntry>>,
    syscalls: Option<Vec<Entry>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMapEntry {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    names: Option<Vec<String>>,
    /// The form of 2016, one call an entry.
    name: Option<String>,
    action: Action,
    errno_ret: Option<u16>,
    args: Option<Vec<Arg>>,
    #[serde(default)]
    includes: Option<When>,
    #[serde(default)]
    excludes: Option<When>,
}

/// When an entry counts.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct When {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<KernelVersion>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Arg {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: Op,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Action {
    #[serde(rename = "SCMP_ACT_KILL")]
    Kill,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Op {
    #[serde(rename = "SCMP_CMP_NE")]
    Ne,
    #[serde(rename = "SCMP_CMP_LT")]
    Lt,
    #[serde(rename = "SCMP_CMP_LE")]
    Le,
    #[serde(rename = "SCMP_CMP_EQ")]
    Eq,
    #[serde(rename = "SCMP_CMP_GE")]
    Ge,
    #[serde(rename = "SCMP_CMP_GT")]
    Gt,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEq,
}

/// `major.minor` of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct KernelVersion(pub(super) u32, pub(super) u32);

impl TryFrom<String> for KernelVersion {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
            .ok_or_else(|| format!("{text:?} is not a kernel version such as \"4.8\""))
    }
}

impl KernelVersion {
    /// From `4.8` or uname's `6.1.0-13-amd64`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit());
        let mut number = || numbers.next().and_then(|n| n.parse().ok());
        Some(Self(number()?, number()?))
    }
}

/// For whom rules are chosen.
pub(super) struct Subject<'a> {
    pub(super) machine: Arch,
    pub(super) kernel: KernelVersion,
    /// With `CAP_`.
    pub(super) capabilities: &'a [String],
}

impl Profile {
    /// From the text of a file.
    pub(super) fn parse(text: &str) -> Result<Self, SeccompError> {
        let profile: Self = serde_json::from_str(text).map_err(|source| SeccompError::Json {
            line: source.line(),
            column: source.column(),
            source,
        })?;
        profile.check()?;
        Ok(profile)
    }

    fn check(&self) -> Result<(), SeccompError> {
        let invalid =
            |place: String, problem: &'static str| Err(SeccompError::Invalid { place, problem });
        if self.default_action == Action::Notify {
            return invalid("defaultAction".to_owned(), NO_LISTENER);
        }
        for (at, entry) in self.entries().enumerate() {
            if entry.action == Action::Notify {
                return invalid(format!("syscalls[{at}].action"), NO_LISTENER);
            }
            if entry.names().next().is_none() {
                return invalid(format!("syscalls[{at}]"), "no system call is named");
            }
            for (i, arg) in entry.args().iter().enumerate() {
                if arg.index > 5 {
                    return invalid(
                        format!("syscalls[{at}].args[{i}].index"),
                        "system calls have arguments 0 to 5",
                    );
                }
            }
        }
        Ok(())
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.syscalls.iter().flatten()
    }

    /// What it says for `subject`.
    pub(super) fn policy(&self, subject: &Subject<'_>) -> Policy {
        let mut checks = Vec::new();
        let arches = self
            .arches(subject.machine)
            .into_iter()
            .map(|arch| self.arch_policy(arch, subject, &mut checks))
            .collect();
        Policy { arches, checks }
    }

    /// The machine's own architecture first, whether it is named or not.
    fn arches(&self, machine: Arch) -> Vec<Arch> {
        let listed = self.architectures.iter().flatten();
        let mapped = self
            .arch_map
            .iter()
            .flatten()
            .filter(|entry| Arch::from_profile(&entry.architecture) == Some(machine));
        let mapped = mapped.flat_map(|entry| entry.sub_architectures.iter().flatten());
        let mut arches = vec![machine];
        for arch in listed.chain(mapped).filter_map(|w| Arch::from_profile(w)) {
            if machine.family().contains(&arch) && !arches.contains(&arch) {
                arches.push(arch);
            }
        }
        arches
    }

    fn arch_policy(
        &self,
        arch: Arch,
        subject: &Subject<'_>,
        checks: &mut Vec<(Vec<Rule>, policy::Action)>,
    ) -> ArchPolicy {
        let default = self.default_action.with(self.default_errno_ret);
        let mut newest = if arch == Arch::X32 { X32_BIT } else { 0 };
        let mut by_number: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
        for entry in self.entries() {
            let counts = entry.counts(subject);
            for call in entry.names().filter_map(syscalls::find) {
                let Some(number) = call.number(arch) else {
                    continue;
                };
                if number < arch.private_numbers() {
                    newest = newest.max(number);
                }
                if counts {
                    by_number.entry(number).or_default().extend(entry.rules());
                }
            }
        }
        let mut answer = |rules: Vec<Rule>| {
            let (always, conditional): (Vec<_>, Vec<_>) =
                rules.into_iter().partition(|r| r.conditions.is_empty());
            let otherwise = always.first().map_or(default, |r| r.action);
            if conditional.iter().all(|r| r.action == otherwise) {
                return Answer::Return(otherwise);
            }
            checks.push((conditional, otherwise));
            Answer::Check(checks.len() - 1)
        };
        let answers = by_number
            .into_iter()
            .map(|(number, rules)| (number, answer(rules)))
            .collect();
        let newer = match default {
            policy::Action::Allow | policy::Action::Log | policy::Action::Trace(_) => default,
            _ => policy::Action::Errno(libc::ENOSYS as u16),
        };
        ArchPolicy {
            arch,
            answers,
            otherwise: Answer::Return(default),
            newest,
            newer: Answer::Return(newer),
        }
    }
}

const NO_LISTENER: &str = "SCMP_ACT_NOTIFY needs a listening agent, which rctr hasn't";

impl Entry {
    fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.names.iter().flatten().chain(&self.name);
        names.map(String::as_str)
    }

    fn args(&self) -> &[Arg] {
        self.args.as_deref().unwrap_or_default()
    }

    fn counts(&self, subject: &Subject<'_>) -> bool {
        let go_name = subject.machine.go_name();
        let granted = |cap: &String| subject.capabilities.contains(cap);
        let included = self.includes.as_ref().is_none_or(|wanted| {
            wanted.caps.iter().flatten().all(granted)
                && (wanted.arches.as_ref())
                    .is_none_or(|a| a.is_empty() || a.iter().any(|a| a == go_name))
                && wanted.min_kernel.is_none_or(|k| subject.kernel >= k)
        });
        let excluded = self.excludes.as_ref().is_some_and(|refused| {
            refused.caps.iter().flatten().any(granted)
                || refused.arches.iter().flatten().any(|a| a == go_name)
                || refused.min_kernel.is_some_and(|k| subject.kernel >= k)
        });
        included && !excluded
    }

    fn rules(&self) -> Vec<Rule> {
        let action = self.action.with(self.errno_ret);
        let args = self.args();
        let rule = |args: &[Arg]| Rule {
            conditions: args.iter().map(Arg::condition).collect(),
            action,
        };
        let repeated = |(at, arg): (usize, &Arg)| args[..at].iter().any(|a| a.index == arg.index);
        if args.iter().enumerate().any(repeated) {
            return args.chunks(1).map(rule).collect();
        }
        vec![rule(args)]
    }
}

impl Arg {
    fn condition(&self) -> Condition {
        let op = match self.op {
            Op::Ne => policy::Op::NotEqual,
            Op::Lt => policy::Op::Less,
            Op::Le => policy::Op::LessOrEqual,
            Op::Eq => policy::Op::Equal,
            Op::Ge => policy::Op::GreaterOrEqual,
            Op::Gt => policy::Op::Greater,
            Op::MaskedEq => policy::Op::MaskedEqual(self.value_two),
        };
        Condition::new(self.index, op, self.value)
    }
}

impl Action {
    /// With the errno (EPERM unless given) or message of the profile.
    fn with(self, errno: Option<u16>) -> policy::Action {
        match self {
            Self::Kill | Self::KillThread => policy::Action::KillThread,
            Self::KillProcess => policy::Action::KillProcess,
            Self::Trap => policy::Action::Trap,
            Self::Errno => policy::Action::Errno(errno.unwrap_or(libc::EPERM as u16)),
            Self::Trace => policy::Action::Trace(errno.unwrap_or(libc::EPERM as u16)),
            Self::Allow => policy::Action::Allow,
            Self::Log => policy::Action::Log,
            // `check` has refused it.
            Self::Notify => policy::Action::KillProcess,
        }
    }
}
