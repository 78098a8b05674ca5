//! Why the kernel can't run a file: what it is, as told by its first bytes.
//!
//! The file is the image's: it is read, never run, and no more of it than a header.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use rctr_storage::manifest::Platform;
use serde::{Deserialize, Serialize};

/// A processor as ELF, qemu and `--platform` name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Go's word.
    architecture: &'static str,
    /// The middle of `qemu-…-static`.
    pub(crate) qemu: &'static str,
    /// 32 or 64.
    bits: u8,
    big_endian: bool,
    /// `e_machine` (elf(5)).
    number: u16,
}

const fn machine(
    architecture: &'static str,
    qemu: &'static str,
    bits: u8,
    big_endian: bool,
    number: u16,
) -> Machine {
    Machine {
        architecture,
        qemu,
        bits,
        big_endian,
        number,
    }
}

const MACHINES: [Machine; 13] = [
    machine("amd64", "x86_64", 64, false, 62),
    machine("386", "i386", 32, false, 3),
    machine("arm64", "aarch64", 64, false, 183),
    machine("arm", "arm", 32, false, 40),
    machine("riscv64", "riscv64", 64, false, 243),
    machine("ppc64le", "ppc64le", 64, false, 21),
    machine("ppc64", "ppc64", 64, true, 21),
    machine("s390x", "s390x", 64, true, 22),
    machine("loong64", "loongarch64", 64, false, 258),
    machine("mips64le", "mips64el", 64, false, 8),
    machine("mips64", "mips64", 64, true, 8),
    machine("mipsle", "mipsel", 32, false, 8),
    machine("mips", "mips", 32, true, 8),
];

impl Machine {
    pub(crate) fn of(architecture: &str) -> Option<Self> {
        MACHINES
            .into_iter()
            .find(|machine| machine.architecture == architecture)
    }

    /// The first bytes of its programs.
    pub(crate) fn magic(&self) -> [u8; 20] {
        let mut magic = [0; 20];
        magic[..4].copy_from_slice(b"\x7fELF");
        magic[4] = self.bits / 32;
        magic[5] = 1 + u8::from(self.big_endian);
        // The version.
        magic[6] = 1;
        magic[16..18].copy_from_slice(&self.half(2));
        magic[18..20].copy_from_slice(&self.half(self.number));
        magic
    }

    /// Which bits of [`magic`](Self::magic) count: not the system (byte 7), nor the last bit of the type, which tells executables
    /// from position-independent ones.
    pub(crate) fn mask(&self) -> [u8; 20] {
        let mut mask = [0xff; 20];
        mask[7] = 0;
        mask[if self.big_endian { 17 } else { 16 }] = 0xfe;
        mask
    }

    fn half(&self, value: u16) -> [u8; 2] {
        match self.big_endian {
            true => value.to_be_bytes(),
            false => value.to_le_bytes(),
        }
    }
}

/// What a file is that was to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// Nothing is in it.
    Empty,
    /// A program in ELF.
    Program {
        /// As `--platform` names it, else the number that ELF has.
        machine: String,
        /// The dynamic linker that it wants; `None`: it is static.
        needs: Option<String>,
    },
    /// ELF, but no program: an object file, a core dump.
    NoProgram,
    /// It has a `#!` line.
    Script {
        /// Its first word.
        interpreter: String,
        /// What that is; `None`: not there, or not looked at.
        which: Option<Box<Shape>>,
    },
    /// Text without a `#!` line.
    Text,
    /// For Windows.
    Windows,
    /// For macOS.
    Mac,
    /// Something else.
    Unknown,
}

/// As much as is looked at of a text.
const HEAD: usize = 512;

impl Shape {
    /// What the file at `path` is, in our root; of a script also what its interpreter is. `None`: it can't be read.
    pub(crate) fn of_file(path: &Path) -> Option<Self> {
        // A pipe in its place isn't waited for.
        let open = |path: &Path| {
            let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
            let file = File::options().read(true).custom_flags(flags).open(path);
            file.and_then(|file| Self::read(&file)).ok()
        };
        let mut shape = open(path)?;
        if let Self::Script { interpreter, which } = &mut shape {
            *which = open(Path::new(interpreter)).map(Box::new);
        }
        Some(shape)
    }

    /// Whether something else is needed to run it that isn't there.
    pub(crate) fn lacks(&self) -> Option<&str> {
        let needed = match self {
            Self::Script {
                which: Some(which), ..
            } => return which.lacks(),
            Self::Script { interpreter, .. } => interpreter,
            Self::Program { needs, .. } => needs.as_ref()?,
            _ => return None,
        };
        (!Path::new(needed).exists()).then_some(needed)
    }

    /// Reads the beginning of a regular file.
    pub(crate) fn read(file: &File) -> io::Result<Self> {
        if !file.metadata()?.is_file() {
            return Ok(Self::Unknown);
        }
        let mut head = vec![0; HEAD];
        let length = file.read_at(&mut head, 0)?;
        head.truncate(length);
        Ok(Self::of(&head, |offset, length| {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, offset).ok()?;
            Some(bytes)
        }))
    }

    /// From the first bytes; `read` gives others.
    fn of(head: &[u8], read: impl Fn(u64, usize) -> Option<Vec<u8>>) -> Self {
        match head {
            [] => Self::Empty,
            [0x7f, b'E', b'L', b'F', ..] => {
                Elf::of(head).map_or(Self::Unknown, |elf| elf.shape(read))
            }
            [b'#', b'!', line @ ..] => {
                let line = line.split(|b| *b == b'\n').next().unwrap_or_default();
                let line = String::from_utf8_lossy(line);
                let interpreter = line.split_whitespace().next().unwrap_or_default();
                Self::Script {
                    interpreter: interpreter.to_owned(),
                    which: None,
                }
            }
            [b'M', b'Z', ..] => Self::Windows,
            [0xcf, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => Self::Mac,
            _ if is_text(head) => Self::Text,
            _ => Self::Unknown,
        }
    }

    /// A program of this host's processor.
    fn is_native(&self) -> bool {
        matches!(self, Self::Program { machine, .. } if Platform::new("linux", machine, None).is_native())
    }

    /// What to do about it.
    pub(crate) fn hint(&self, program: &str) -> Option<String> {
        Some(match self {
            Self::Program { machine, .. } if is_older_sibling(machine) => {
                "boot the kernel with ia32_emulation=1, or take an image for linux/amd64".to_owned()
            }
            Self::Program { .. } if self.is_native() => {
                "is the file complete? `file` and `readelf -h` tell more".to_owned()
            }
            Self::Program { machine, .. } => match Machine::of(machine) {
                Some(_) => format!(
                    "apt-get install qemu-user-static: images for linux/{machine} are run through it then; or take an image for {}",
                    Platform::host()
                ),
                None => format!("take an image for {}", Platform::host()),
            },
            Self::Empty => {
                "was it made by a failed download, or by touch? Put the program there".to_owned()
            }
            Self::Text => format!(
                "begin it with a line such as #!/bin/sh, or name its interpreter: sh {program}"
            ),
            Self::Script { interpreter, which } => match which {
                Some(which) => return which.hint(interpreter),
                None => format!("is {interpreter:?}, which its first line names, a program?"),
            },
            Self::Windows | Self::Mac => format!("build it for {}", Platform::host()),
            Self::NoProgram | Self::Unknown => return None,
        })
    }
}

impl fmt::Display for Shape {
    /// As in: it is `an empty file`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "an empty file"),
            Self::Program { machine, .. } if is_older_sibling(machine) => write!(
                f,
                "a program for {machine}, and this kernel runs no 32-bit programs"
            ),
            Self::Program { machine, .. } if self.is_native() => {
                write!(f, "a damaged program for {machine}")
            }
            Self::Program { machine, .. } => write!(
                f,
                "a program for {machine}, and this host is {}",
                Platform::host().architecture
            ),
            Self::NoProgram => write!(f, "an ELF file, but no program"),
            Self::Script {
                interpreter,
                which: Some(which),
            } => write!(f, "a script for {interpreter:?}, which is {which}"),
            Self::Script { interpreter, .. } => {
                write!(f, "a script for {interpreter:?}, which can't be run")
            }
            Self::Text => write!(f, "a text without a #! line"),
            Self::Windows => write!(f, "a program for Windows"),
            Self::Mac => write!(f, "a program for macOS"),
            Self::Unknown => write!(f, "neither a program nor a script"),
        }
    }
}

/// 386 on amd64: the processor runs it, the kernel perhaps doesn't.
fn is_older_sibling(machine: &str) -> bool {
    (machine, std::env::consts::ARCH) == ("386", "x86_64")
}

fn is_text(head: &[u8]) -> bool {
    // The end may be in the middle of a character.
    let whole = match std::str::from_utf8(head) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    whole
        && !head
            .iter()
            .any(|b| *b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r' | 0x0c))
}

/// An ELF header (elf(5)), as far as it matters.
struct Elf {
    bits: u8,
    big_endian: bool,
    kind: u16,
    number: u16,
    /// Where the program headers are, how long one is, and how many there are.
    headers: (u64, usize, usize),
}

/// `ET_EXEC` and `ET_DYN`.
const PROGRAMS: [u16; 2] = [2, 3];
/// `PT_INTERP`.
const INTERPRETER: u64 = 3;

impl Elf {
    fn of(head: &[u8]) -> Option<Self> {
        let (bits, big_endian) = match (head.get(4)?, head.get(5)?) {
            (1, order @ (1 | 2)) => (32, *order == 2),
            (2, order @ (1 | 2)) => (64, *order == 2),
            _ => return None,
        };
        let number = |at: usize, length: usize| number(head.get(at..at + length)?, big_endian);
        let headers = match bits {
            32 => (number(28, 4)?, number(42, 2)?, number(44, 2)?),
            _ => (number(32, 8)?, number(54, 2)?, number(56, 2)?),
        };
        Some(Self {
            bits,
            big_endian,
            kind: u16::try_from(number(16, 2)?).ok()?,
            number: u16::try_from(number(18, 2)?).ok()?,
            headers: (
                headers.0,
                usize::try_from(headers.1).ok()?,
                usize::try_from(headers.2).ok()?,
            ),
        })
    }

    fn shape(&self, read: impl Fn(u64, usize) -> Option<Vec<u8>>) -> Shape {
        if !PROGRAMS.contains(&self.kind) {
            return Shape::NoProgram;
        }
        let key = (self.bits, self.big_endian, self.number);
        let known = MACHINES
            .iter()
            .find(|m| (m.bits, m.big_endian, m.number) == key);
        let machine = match known {
            Some(machine) => machine.architecture.to_owned(),
            None => format!("ELF machine {}", self.number),
        };
        let needs = self.interpreter(read);
        Shape::Program { machine, needs }
    }

    /// The dynamic linker; of a header that makes no sense, none.
    fn interpreter(&self, read: impl Fn(u64, usize) -> Option<Vec<u8>>) -> Option<String> {
        let (start, length, count) = self.headers;
        if length < 32 || count > 128 {
            return None;
        }
        let table = read(start, length.checked_mul(count)?)?;
        let value = |header: &[u8], at: usize, length: usize| {
            number(header.get(at..at + length)?, self.big_endian)
        };
        let header = table
            .chunks_exact(length)
            .find(|header| value(header, 0, 4) == Some(INTERPRETER))?;
        let (offset, size) = match self.bits {
            32 => (value(header, 4, 4)?, value(header, 16, 4)?),
            _ => (value(header, 8, 8)?, value(header, 32, 8)?),
        };
        let size = usize::try_from(size).ok().filter(|size| *size <= 4096)?;
        let name = read(offset, size)?;
        let name = name.split(|b| *b == 0).next().unwrap_or_default();
        Some(String::from_utf8_lossy(name).into_owned())
    }
}

fn number(bytes: &[u8], big_endian: bool) -> Option<u64> {
    let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
    Some(match big_endian {
        true => bytes.iter().fold(0, add),
        false => bytes.iter().rev().fold(0, add),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(bytes: &[u8]) -> Shape {
        Shape::of(bytes, |offset, length| {
            let offset = usize::try_from(offset).ok()?;
            Some(bytes.get(offset..offset.checked_add(length)?)?.to_vec())
        })
    }

    #[test]
    fn files_are_told_by_their_first_bytes() {
        for (bytes, want) in [
            (&b""[..], "an empty file"),
            (b"echo hello\n", "a text without a #! line"),
            ("echo \u{e4}".as_bytes(), "a text without a #! line"),
            (
                b"#! /opt/perl -w\n",
                "a script for \"/opt/perl\", which can't be run",
            ),
            (b"#!", "a script for \"\", which can't be run"),
            (b"MZ\x90\0", "a program for Windows"),
            (b"\xcf\xfa\xed\xfe\x07", "a program for macOS"),
            (b"\x7fELF", "neither a program nor a script"),
            (b"\0\x01\x02", "neither a program nor a script"),
        ] {
            assert_eq!(shape(bytes).to_string(), want, "{bytes:?}");
        }
    }

    #[test]
    fn machines_are_told_by_the_elf_header() {
        for machine in MACHINES {
            let mut bytes = machine.magic().to_vec();
            bytes.resize(64, 0);
            let want = Shape::Program {
                machine: machine.architecture.to_owned(),
                needs: None,
            };
            assert_eq!(shape(&bytes), want);
        }
        let mut object = MACHINES[0].magic().to_vec();
        object.resize(64, 0);
        object[16] = 1;
        assert_eq!(shape(&object), Shape::NoProgram);
    }

    #[test]
    fn the_dynamic_linker_is_found() {
        let mut bytes = Machine::of("arm64").unwrap().magic().to_vec();
        bytes.resize(64, 0);
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        let mut header = vec![0; 56];
        header[0] = 3;
        header[8] = 120;
        header[32] = 12;
        bytes.extend(header);
        bytes.extend(b"/lib/ld.so\0\0");
        let got = shape(&bytes);
        assert!(
            matches!(&got, Shape::Program { needs: Some(linker), .. } if linker == "/lib/ld.so"),
            "{got:?}"
        );
        // Cut, or with absurd numbers: no linker, no panic.
        for length in 0..bytes.len() {
            shape(&bytes[..length]);
        }
        for at in 0..64 {
            let mut other = bytes.clone();
            other[at] = 0xff;
            shape(&other);
        }
    }

    #[test]
    fn our_own_program_is_native() {
        let file = File::open("/proc/self/exe").unwrap();
        assert!(Shape::read(&file).unwrap().is_native());
    }
}
