//! Everything that init needs to know, prepared beforehand: plain data, sent to the new process through a memfd.
//!
//! The cli makes it from a container's record; the monitor hands it to [`crate::launch`]; init only follows it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::emulation::Emulation;

/// A container's first process and the world that it sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaunchPlan {
    /// 64 hexadecimal digits.
    pub container_id: String,
    /// Which namespaces are new, shared or the host's.
    pub namespaces: Namespaces,
    /// The file tree.
    pub rootfs: RootfsPlan,
    /// After the standard mounts, in this order (parents before children).
    pub mounts: Vec<MountOp>,
    /// Host device nodes to bind in: (host path, path inside, read-only).
    pub devices: Vec<DeviceBind>,
    /// Bytes of /dev/shm.
    pub shm_size: u64,
    /// Set in the new namespaces: dotted name to value.
    pub sysctls: BTreeMap<String, String>,
    /// Tried before `sysctls`; what can't be set is left.
    pub default_sysctls: BTreeMap<String, String>,
    /// Hidden from the container.
    pub masked_paths: Vec<String>,
    /// Shown read-only.
    pub readonly_paths: Vec<String>,
    /// Mount /sys and /proc writable, bind all of the host's devices.
    pub privileged: bool,
    /// Set in a new UTS namespace.
    pub hostname: String,
    /// Set in a new UTS namespace.
    pub domainname: String,
    /// What runs.
    pub process: ProcessPlan,
    /// Of programs that this processor doesn't run.
    #[serde(default)]
    pub emulation: Option<Emulation>,
    /// Run our own reaper as PID 1, the program as its child (`--init`).
    pub init: bool,
    /// Tell which mount points had to be made ([`crate::launch::Launched::made`]).
    #[serde(default)]
    pub tells_made: bool,
}

/// What runs, and as whom: shared by a container's first process, `exec` and build steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessPlan {
    /// Never empty; the first word is looked up in the container's `PATH`.
    pub argv: Vec<String>,
    /// `NAME=value`; init adds `HOME` from the image's passwd (and `TERM`) unless given.
    pub env: Vec<String>,
    /// Absolute; created when missing if `create_cwd`.
    pub cwd: PathBuf,
    /// Make a missing `cwd` (a container's WORKDIR; never for `exec -w`).
    pub create_cwd: bool,
    /// `user`, `uid`, `user:group`, `uid:gid`; empty is root. Looked up in the image's files, inside.
    pub user: String,
    /// Names or numbers.
    pub additional_groups: Vec<String>,
    /// Names with `CAP_`, upper case: the bounding set, and effective and permitted when the user is root.
    pub capabilities: Vec<String>,
    /// Resource limits: (`RLIMIT_NOFILE`, soft, hard); `u64::MAX` is unlimited.
    pub rlimits: Vec<Rlimit>,
    /// Set no_new_privs.
    pub no_new_privileges: bool,
    /// Which system-call filter.
    pub seccomp: Seccomp,
    /// A terminal is allocated inside (devpts of the container) and becomes the controlling one.
    pub tty: bool,
    /// -1000..1000; `None`: inherited.
    pub oom_score_adj: Option<i32>,
}

/// A resource limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `nofile`, without `RLIMIT_`, lower case.
    pub name: String,
    /// `u64::MAX`: unlimited.
    pub soft: u64,
    /// `u64::MAX`: unlimited.
    pub hard: u64,
}

/// The system-call filter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Seccomp {
    /// The built-in profile, opened for the capabilities that are granted.
    Default,
    /// None.
    Unconfined,
    /// A profile in the JSON format of docker's `--security-opt seccomp=FILE` (the file's content).
    Profile(String),
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// A new one.
    Private,
    /// The host's.
    Host,
    /// That of a process: path such as `/proc/123/ns/net`.
    Of(PathBuf),
}

/// The container's namespaces. User and mount namespaces are always new, but the user namespace of a container that
/// joins another one's network, IPC or PID namespace is that other container's (`user`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// `Private`, or `Of` the container whose namespaces are joined.
    pub user: Namespace,
    /// Process IDs.
    pub pid: Namespace,
    /// Network.
    pub net: Namespace,
    /// System V IPC and POSIX queues.
    pub ipc: Namespace,
    /// Host name.
    pub uts: Namespace,
    /// cgroup root.
    pub cgroup: Namespace,
}

/// How the root file system is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// The kernel's overlay, `userxattr` (Linux 5.11).
    Overlay,
    /// The FUSE program.
    FuseOverlayfs,
    /// A full copy (reflinks where the file system has them) in `merged`, which is there once it is complete.
    Copy,
}

impl Driver {
    /// From the best to the one that works anywhere.
    pub const ALL: [Self; 3] = [Self::Overlay, Self::FuseOverlayfs, Self::Copy];

    /// The word in `info` and `inspect`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::FuseOverlayfs => "fuse-overlayfs",
            Self::Copy => "copy",
        }
    }
}

/// The root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootfsPlan {
    /// Who puts it together.
    pub driver: Driver,
    /// Layer directories, top first. Empty: an empty root.
    pub lowers: Vec<PathBuf>,
    /// The writable layer.
    pub upper: PathBuf,
    /// overlay's own.
    pub work: PathBuf,
    /// Where it is mounted (or, for `copy`, where the copy is).
    pub merged: PathBuf,
    /// `--read-only`.
    pub read_only: bool,
    /// Nobody wants its changes after a power cut (`--rm`): overlay writes nothing out then, neither when the program
    /// asks for it nor at its end.
    pub volatile: bool,
}

/// A mount beyond the standard ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountOp {
    /// A host file or directory.
    Bind {
        /// On the host.
        source: PathBuf,
        /// Inside; made if missing.
        target: PathBuf,
        /// Read-only.
        read_only: bool,
        /// With the mounts below it.
        recursive: bool,
        /// `private`, `rprivate`, `slave`, `rslave`, `shared`, `rshared`; empty is `rprivate`.
        propagation: String,
        /// First given to the container's user, with all that is in it.
        chown: bool,
    },
    /// A volume's directory.
    Volume {
        /// `_data` on the host.
        source: PathBuf,
        /// Inside; made if missing.
        target: PathBuf,
        /// Read-only.
        read_only: bool,
        /// If the volume is empty, fill it from `target` in the image (content, owner, mode) before mounting.
        copy_up: bool,
        /// Then given to the container's user, with all that is in it.
        chown: bool,
    },
    /// A tmpfs.
    Tmpfs {
        /// Inside; made if missing.
        target: PathBuf,
        /// As for mount(8): `size=…,mode=…,ro,exec`; `noexec,nosuid,nodev` unless overridden.
        options: String,
    },
    /// A part of a tree of layers.
    Tree {
        /// Where it comes from.
        tree: Tree,
        /// Inside; made if missing.
        target: PathBuf,
        /// Where writes go, an empty directory of the store, to be thrown away; `None`: read-only.
        scratch: Option<PathBuf>,
    },
    /// A host directory that is first filled from `seed` if it is empty.
    Seeded {
        /// On the host.
        source: PathBuf,
        /// Inside; made if missing.
        target: PathBuf,
        /// Read-only.
        read_only: bool,
        /// A directory.
        seed: Tree,
    },
    /// A file that is in memory only, read-only.
    File {
        /// Inside; made if missing.
        target: PathBuf,
        /// What it says.
        content: Content,
        /// Permission bits.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
        /// A directory of the host for the file system that all such files are on; nothing of it is seen outside.
        place: PathBuf,
    },
}

impl MountOp {
    /// Where it is, inside.
    #[must_use]
    pub fn target(&self) -> &Path {
        match self {
            Self::Bind { target, .. }
            | Self::Volume { target, .. }
            | Self::Tmpfs { target, .. }
            | Self::Tree { target, .. }
            | Self::Seeded { target, .. }
            | Self::File { target, .. } => target,
        }
    }
}

/// A file or directory of a tree that consists of layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Directories, top first; several need the driver [`Driver::Overlay`]. None: an empty directory.
    pub layers: Vec<PathBuf>,
    /// The path in them. Links are followed, but not out of the tree.
    pub source: PathBuf,
    /// As messages name it: `/src in stage builder`.
    pub shown: String,
    /// An empty directory of the host where the layers can be put together; nothing of it is seen outside.
    pub place: PathBuf,
}

/// Bytes; in JSON as hexadecimal digits, since a list of numbers takes twice their space.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(pub Vec<u8>);

impl fmt::Debug for Content {
    /// It may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes)", self.0.len())
    }
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
        let digits = self
            .0
            .iter()
            .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
        serializer.serialize_str(&digits.collect::<String>())
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'_, str>>::deserialize(deserializer)?;
        let value = |digit: u8| char::from(digit).to_digit(16);
        let byte = |pair: &[u8]| {
            let (high, low) = (value(*pair.first()?)?, value(*pair.get(1)?)?);
            u8::try_from(high << 4 | low).ok()
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        bytes
            .map(Self)
            .ok_or_else(|| de::Error::custom("not hexadecimal digits"))
    }
}

/// A device node, bound from the host (an unprivileged user can't make one).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceBind {
    /// On the host.
    pub source: PathBuf,
    /// Inside.
    pub target: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_crosses_as_digits() {
        let content = Content(vec![0, 9, 0xab, 0xff]);
        let text = serde_json::to_string(&content).unwrap();
        assert_eq!(text, "\"0009abff\"");
        assert_eq!(serde_json::from_str::<Content>(&text).unwrap(), content);
        for bad in ["\"0\"", "\"0g\"", "\"é\""] {
            assert!(serde_json::from_str::<Content>(bad).is_err(), "{bad}");
        }
        assert_eq!(format!("{content:?}"), "Content(4 bytes)");
    }
}
