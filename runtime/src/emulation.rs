//! Programs of other processors: they run through qemu-user, of which the kernel is told by binfmt_misc.
//!
//! Where the host has no handler for all of its processes, the container gets one of its own: since Linux 6.7 a user
//! namespace can have its own binfmt_misc. Init makes it ([`register`]), because mounting wants a mount namespace of ours, and
//! sends it to its parent, since the handler lives as long as somebody holds it. It is mounted nowhere, so nobody inside sees it.
//! With the flag `F` the kernel opens qemu when the handler is registered: the image needs nothing of it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use rctr_storage::manifest::Platform;
use serde::{Deserialize, Serialize};

use crate::sys;
use crate::unrunnable::{Machine, Shape};

/// A handler that is to be registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emulation {
    /// As `--platform` names it: `arm64`.
    pub architecture: String,
    /// qemu-user, static.
    pub interpreter: PathBuf,
    /// What the kernel is told (admin-guide/binfmt-misc.rst).
    rule: String,
}

/// Where a handler for all processes of the host would be seen.
const SYSTEM_WIDE: &str = "/proc/sys/fs/binfmt_misc";
/// Longest path of an interpreter that the kernel takes, in bytes.
const LONGEST_PATH: usize = 1024;

/// The handler that programs of `platform` (`linux/arm64`) need here. `None`: the processor runs them, the host has a handler for
/// all, or there is no qemu for them in `path` ($PATH); then the kernel's refusal is explained when it comes.
#[must_use]
pub fn find(platform: &str, path: &str) -> Option<Emulation> {
    let mut words = platform.splitn(3, '/');
    let (os, architecture) = (words.next()?, words.next()?);
    let wanted = Platform::new(os, architecture, words.next());
    // The ordinary case costs nothing.
    if wanted.is_native() {
        return None;
    }
    if (wanted.architecture.as_str(), std::env::consts::ARCH) == ("arm", "aarch64")
        && sys::runs_32_bit_programs()
    {
        return None;
    }
    let machine = Machine::of(&wanted.architecture)?;
    if system_wide(&machine, Path::new(SYSTEM_WIDE)) {
        return None;
    }
    let interpreter = interpreter(machine.qemu, path)?;
    let rule = rule(&machine, &interpreter)?;
    Some(Emulation {
        architecture: wanted.architecture,
        interpreter,
        rule,
    })
}

/// Whether the host has a handler for programs of `architecture` (`arm64`), for all of its processes.
pub(crate) fn is_system_wide(architecture: &str) -> bool {
    Machine::of(architecture).is_some_and(|m| system_wide(&m, Path::new(SYSTEM_WIDE)))
}

/// Makes the binfmt_misc of our user namespace and registers the handler. Who wants it to work holds what is returned. This process has
/// a mount namespace of its own in the user namespace, and the host's files.
///
/// # Errors
/// EPERM before Linux 6.7, ENODEV without binfmt_misc.
pub(crate) fn register(emulation: &Emulation) -> io::Result<OwnedFd> {
    let fs = sys::fsopen(c"binfmt_misc")?;
    let mount = sys::fsmount(fs.as_fd(), 0)?;
    let register = openat(
        &mount,
        "register",
        OFlag::O_WRONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    match File::from(register).write_all(emulation.rule.as_bytes()) {
        // Another step of the build, or a container whose namespaces are joined, was first.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(mount),
        other => other.map(|()| mount),
    }
}

/// Whether the host has a handler that works in any root (flag `F`).
fn system_wide(machine: &Machine, directory: &Path) -> bool {
    let Ok(entries) = fs::read_dir(directory) else {
        return false;
    };
    let magic: String = machine.magic().iter().map(|b| format!("{b:02x}")).collect();
    let fits = |text: String| {
        let mut lines = text.lines();
        let enabled = lines.next() == Some("enabled");
        let opened = text
            .lines()
            .any(|line| line.strip_prefix("flags:").is_some_and(|f| f.contains('F')));
        let same = text.lines().any(|line| {
            line.strip_prefix("magic ")
                .is_some_and(|m| m.trim() == magic)
        });
        enabled && opened && same
    };
    entries
        .flatten()
        .any(|entry| fs::read_to_string(entry.path()).is_ok_and(fits))
}

/// qemu for a machine: it must be static, since the image doesn't have its libraries.
fn interpreter(machine: &str, path: &str) -> Option<PathBuf> {
    let names = [format!("qemu-{machine}-static"), format!("qemu-{machine}")];
    let found = names.iter().flat_map(|name| {
        let directories = path.split(':').filter(|dir| dir.starts_with('/'));
        directories.map(move |dir| Path::new(dir).join(name))
    });
    found
        .filter_map(|path| path.canonicalize().ok())
        .find(|path| {
            let executable = fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o111 != 0);
            executable && is_static(path)
        })
}

fn is_static(path: &Path) -> bool {
    let shape = File::open(path).and_then(|file| Shape::read(&file));
    shape.is_ok_and(|shape| matches!(shape, Shape::Program { needs: None, .. }))
}

/// `:name:M::magic:mask:interpreter:flags`. Flags: `P` keeps argv[0], `O` gives qemu the program's descriptor, so that it need not be
/// readable, `C` lets the program's set-uid bit count, `F` opens qemu now. `None`: the path can't be told.
fn rule(machine: &Machine, interpreter: &Path) -> Option<String> {
    let path = interpreter.to_str()?;
    if path.len() > LONGEST_PATH || path.contains([':', '\n', '\\']) {
        return None;
    }
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|b| format!("\\x{b:02x}"))
            .collect::<String>()
    };
    let (magic, mask) = (hex(&machine.magic()), hex(&machine.mask()));
    let name = format!("rctr-{}", machine.qemu);
    Some(format!(":{name}:M::{magic}:{mask}:{path}:POCF"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machines_programs_need_nothing() {
        let host = Platform::host().to_string();
        assert_eq!(find(&host, "/usr/bin"), None);
        assert_eq!(find("", "/usr/bin"), None);
    }

    #[test]
    fn the_rule_is_qemus() {
        let machine = Machine::of("arm64").unwrap();
        let rule = rule(&machine, Path::new("/usr/bin/qemu-aarch64-static")).unwrap();
        assert_eq!(
            rule,
            ":rctr-aarch64:M::\\x7f\\x45\\x4c\\x46\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00\
             :\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff\
             :/usr/bin/qemu-aarch64-static:POCF"
        );
        assert_eq!(super::rule(&machine, Path::new("/a:b")), None);
    }

    #[test]
    fn a_handler_of_the_host_is_seen() {
        let dir = std::env::temp_dir().join(format!("rctr-binfmt-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let machine = Machine::of("s390x").unwrap();
        let magic: String = machine.magic().iter().map(|b| format!("{b:02x}")).collect();
        for (state, flags, want) in [
            ("enabled", "POCF", true),
            ("disabled", "POCF", false),
            ("enabled", "OC", false),
        ] {
            let text = format!(
                "{state}\ninterpreter /usr/libexec/qemu\nflags: {flags}\noffset 0\nmagic {magic}\nmask ff\n"
            );
            fs::write(dir.join("qemu-s390x"), text).unwrap();
            assert_eq!(system_wide(&machine, &dir), want, "{state} {flags}");
        }
        assert!(!system_wide(&Machine::of("arm64").unwrap(), &dir));
        fs::remove_dir_all(&dir).unwrap();
    }
}
