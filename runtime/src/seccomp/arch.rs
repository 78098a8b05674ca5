//! The architectures that one kernel may run: the machine's own, and its 32-bit relatives.

use super::syscalls::NONE;

/// A system-call convention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arch {
    X86_64,
    /// i386 programs on x86_64.
    X86,
    /// 32-bit pointers on x86_64: the same audit architecture, numbers with [`X32_BIT`].
    X32,
    Aarch64,
    /// arm (EABI) programs on aarch64.
    Arm,
}

/// Set in the numbers of x32 calls (`__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;

impl Arch {
    /// This machine's.
    pub(super) const NATIVE: Self = if cfg!(target_arch = "aarch64") {
        Self::Aarch64
    } else {
        Self::X86_64
    };

    /// The machine's, and those whose programs its kernel may run too.
    pub(super) fn family(self) -> &'static [Self] {
        match self {
            Self::X86_64 | Self::X86 | Self::X32 => &[Self::X86_64, Self::X86, Self::X32],
            Self::Aarch64 | Self::Arm => &[Self::Aarch64, Self::Arm],
        }
    }

    /// `AUDIT_ARCH_*` of linux/audit.h.
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// libseccomp's word, as in the `archMap` of a profile.
    pub(super) fn from_profile(word: &str) -> Option<Self> {
        Some(match word {
            "SCMP_ARCH_X86_64" => Self::X86_64,
            "SCMP_ARCH_X86" => Self::X86,
            "SCMP_ARCH_X32" => Self::X32,
            "SCMP_ARCH_AARCH64" => Self::Aarch64,
            "SCMP_ARCH_ARM" => Self::Arm,
            _ => return None,
        })
    }

    /// The word in `includes.arches` of a profile: Go's, except `x86`.
    pub(super) fn go_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::X86 => "x86",
            Self::X32 => "x32",
            Self::Aarch64 => "arm64",
            Self::Arm => "arm",
        }
    }

    /// Numbers from here on belong to the architecture itself, not to the common sequence.
    pub(super) fn private_numbers(self) -> u32 {
        match self {
            Self::Arm => 0x000f_0000,
            Self::X32 => X32_BIT | FIRST_X32,
            _ => u32::MAX,
        }
    }
}

/// x32's own calls, in the order of their numbers from [`FIRST_X32`]: those with structures that differ from x86_64's,
/// by their numbers there (rt_sigaction, rt_sigreturn, ioctl, readv, …, pwritev2).
const OWN_X32: [u32; 36] = [
    13, 15, 16, 19, 20, 45, 46, 47, 59, 101, 127, 128, 129, 131, 222, 244, 246, 247, 273, 274, 278,
    279, 295, 296, 297, 299, 307, 310, 311, 54, 55, 206, 209, 322, 327, 328,
];

/// The number of the first of them.
const FIRST_X32: u32 = 512;

/// Calls of x86_64 that x32 hasn't: obsolete ones, and those of the thread area.
const NOT_X32: [u32; 11] = [134, 156, 174, 177, 178, 180, 205, 211, 214, 215, 236];

/// The x32 number of the call whose x86_64 number is `number`.
pub(super) fn x32_number(number: u32) -> Option<u32> {
    if number == NONE || NOT_X32.contains(&number) {
        return None;
    }
    let own = OWN_X32.iter().position(|own| *own == number);
    let own = own.and_then(|at| u32::try_from(at).ok());
    Some(X32_BIT | own.map_or(number, |at| FIRST_X32 + at))
}
