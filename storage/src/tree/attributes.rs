//! Extended attributes: which of them a tar and a tree share, and the marker of devices.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsFd;

use crate::sys;
use crate::tarfile::{Entry, Kind};

/// On an empty regular file that stands for a device.
const DEVICE: &CStr = c"user.rctr.device";
const CAPABILITY: &[u8] = b"security.capability";

/// `VFS_CAP_REVISION_MASK`, `VFS_CAP_REVISION_2` and `_3` (linux/capability.h).
const CAP_REVISION_MASK: u32 = 0xff00_0000;
const CAP_REVISION_2: u32 = 0x0200_0000;
const CAP_REVISION_3: u32 = 0x0300_0000;
/// Bytes of a revision 2 value; revision 3 appends the root user's id.
const CAP_SIZE_2: usize = 20;

/// Whether an attribute is content: what users set, and file capabilities, as Docker and Podman keep them. What is
/// overlay's or ours never crosses, in neither direction: a stranger's tar could hide files or make devices with it.
fn is_content(name: &[u8]) -> bool {
    if name == CAPABILITY {
        return true;
    }
    name.starts_with(b"user.")
        && ![&b"user.overlay."[..], b"user.fuseoverlayfs.", b"user.rctr."]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// Reads the attributes of a file or directory, sorted by name, into `entry`; a marked file becomes a device.
///
/// # Errors
/// When they can't be read.
pub fn read(fd: impl AsFd, entry: &mut Entry) -> io::Result<()> {
    let fd = fd.as_fd();
    let names = sys::flistxattr(fd)?;
    if names.is_empty() {
        return Ok(());
    }
    for name in names.split_inclusive(|&byte| byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        if name == DEVICE && entry.kind == Kind::File && entry.size == 0 {
            if let Some((kind, device)) =
                sys::fgetxattr(fd, name)?.as_deref().and_then(parse_device)
            {
                entry.kind = kind;
                entry.device = device;
            }
            continue;
        }
        // A pax key ends at its first `=`.
        if !is_content(name.to_bytes()) || name.to_bytes().contains(&b'=') {
            continue;
        }
        // Gone since it was listed: fine.
        let Some(mut value) = sys::fgetxattr(fd, name)? else {
            continue;
        };
        if name.to_bytes() == CAPABILITY {
            capability_as_root_sees_it(&mut value);
        }
        entry.xattrs.push((name.to_bytes().to_vec(), value));
    }
    entry.xattrs.sort();
    Ok(())
}

/// In a user namespace the kernel keeps capabilities in revision 3, with the host's id of the namespace's root, and
/// gives them back in revision 2 to that namespace. Where it gives revision 3 with id 0, it means the same.
fn capability_as_root_sees_it(value: &mut Vec<u8>) {
    let Some(magic) = value.first_chunk().map(|magic| u32::from_le_bytes(*magic)) else {
        return;
    };
    if magic & CAP_REVISION_MASK == CAP_REVISION_3 && value.get(CAP_SIZE_2..) == Some(&[0; 4]) {
        value.truncate(CAP_SIZE_2);
        let magic = magic & !CAP_REVISION_MASK | CAP_REVISION_2;
        value[..4].copy_from_slice(&magic.to_le_bytes());
    }
}

/// Sets the entry's attributes on a file or directory that was just made.
///
/// Where the file system keeps none, they are lost, as with Docker.
///
/// # Errors
/// When they can't be set.
pub fn write(fd: impl AsFd, entry: &Entry) -> io::Result<()> {
    let fd = fd.as_fd();
    for (name, value) in &entry.xattrs {
        if !is_content(name) {
            continue;
        }
        let Ok(name) = CString::new(name.as_slice()) else {
            continue;
        };
        match sys::fsetxattr(fd, &name, value) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            // Without CAP_SETFCAP: an ordinary user outside of any user namespace.
            Err(error)
                if error.raw_os_error() == Some(libc::EPERM) && name.to_bytes() == CAPABILITY => {}
            other => other?,
        }
    }
    Ok(())
}

/// Makes an empty regular file stand for the device that `entry` is.
///
/// # Errors
/// When the file system keeps no attributes.
pub fn mark_device(fd: impl AsFd, entry: &Entry) -> io::Result<()> {
    let kind = match entry.kind {
        Kind::BlockDevice => 'b',
        _ => 'c',
    };
    let (major, minor) = entry.device;
    sys::fsetxattr(fd, DEVICE, format!("{kind}:{major}:{minor}").as_bytes())
}

fn parse_device(text: &[u8]) -> Option<(Kind, (u32, u32))> {
    let text = std::str::from_utf8(text).ok()?;
    let (kind, numbers) = text.split_once(':')?;
    let (major, minor) = numbers.split_once(':')?;
    let kind = match kind {
        "c" => Kind::CharDevice,
        "b" => Kind::BlockDevice,
        _ => return None,
    };
    Some((kind, (major.parse().ok()?, minor.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_lose_the_root_id_only_when_it_is_zero() {
        let caps: Vec<u8> = (0..16).collect();
        let mut three = [&[1, 0, 0, 3], &caps[..], &[0; 4]].concat();
        capability_as_root_sees_it(&mut three);
        assert_eq!(three, [&[1, 0, 0, 2], &caps[..]].concat());
        let other = [&[1, 0, 0, 3], &caps[..], &[0, 1, 0, 0]].concat();
        let mut copy = other.clone();
        capability_as_root_sees_it(&mut copy);
        assert_eq!(copy, other);
        for mut short in [vec![], vec![0, 0, 0, 3], vec![3; 24]] {
            let before = short.clone();
            capability_as_root_sees_it(&mut short);
            assert_eq!(short, before);
        }
    }

    #[test]
    fn what_is_overlays_or_ours_is_no_content() {
        for (name, content) in [
            ("user.mime_type", true),
            ("security.capability", true),
            ("user.overlay.opaque", false),
            ("user.fuseoverlayfs.opaque", false),
            ("user.rctr.device", false),
            ("trusted.overlay.opaque", false),
            ("security.selinux", false),
            ("system.posix_acl_access", false),
        ] {
            assert_eq!(is_content(name.as_bytes()), content, "{name}");
        }
    }

    #[test]
    fn device_markers_are_strict() {
        assert_eq!(parse_device(b"c:1:3"), Some((Kind::CharDevice, (1, 3))));
        assert_eq!(parse_device(b"b:8:0"), Some((Kind::BlockDevice, (8, 0))));
        for text in ["", "c", "c:1", "d:1:2", "c:1:2:3", "c:-1:2"] {
            assert_eq!(parse_device(text.as_bytes()), None, "{text}");
        }
    }
}
