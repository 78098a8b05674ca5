//! Archives made by hand: also such as no decent program would write.

use std::io::Write;
use std::process::{Command, Stdio};

use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use tar::{EntryType, Header};

/// A tar under construction. Names are written as they are given, however bad.
pub(crate) struct Archive {
    builder: tar::Builder<Vec<u8>>,
}

impl Archive {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self {
            builder: tar::Builder::new(Vec::new()),
        }
    }

    /// A regular file.
    pub(crate) fn file(self, name: &str, mode: u32, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, name, "", mode, content)
    }

    /// A directory.
    pub(crate) fn dir(self, name: &str) -> Self {
        self.entry(EntryType::Directory, name, "", 0o755, &[])
    }

    /// A symbolic link.
    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, target, 0o777, &[])
    }

    /// A hard link.
    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Link, name, target, 0o644, &[])
    }

    /// A named pipe.
    pub(crate) fn fifo(self, name: &str) -> Self {
        self.entry(EntryType::Fifo, name, "", 0o644, &[])
    }

    /// A character device.
    pub(crate) fn device(mut self, name: &str, major: u32, minor: u32) -> Self {
        let mut header = header(EntryType::Char, name, "", 0o666, 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        header.set_cksum();
        self.builder.append(&header, &[][..]).unwrap();
        self
    }

    /// The tar.
    pub(crate) fn bytes(self) -> Vec<u8> {
        self.builder.into_inner().unwrap()
    }

    fn entry(
        mut self,
        kind: EntryType,
        name: &str,
        target: &str,
        mode: u32,
        content: &[u8],
    ) -> Self {
        for (long, kind) in [
            (name, EntryType::GNULongName),
            (target, EntryType::GNULongLink),
        ] {
            if long.len() > 100 {
                let header = header(kind, "././@LongLink", "", 0o644, long.len() as u64 + 1);
                let bytes = [long.as_bytes(), b"\0"].concat();
                self.builder.append(&header, &bytes[..]).unwrap();
            }
        }
        let header = header(kind, name, target, mode, content.len() as u64);
        self.builder.append(&header, content).unwrap();
        self
    }
}

/// A header whose names are cut to the 100 bytes that there are.
fn header(kind: EntryType, name: &str, target: &str, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    let old = header.as_old_mut();
    for (field, text) in [(&mut old.name, name), (&mut old.linkname, target)] {
        let length = text.len().min(field.len());
        field[..length].copy_from_slice(&text.as_bytes()[..length]);
    }
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(size);
    header.set_cksum();
    header
}

/// What `docker save` would write for an image of these layers, base first.
pub(crate) fn docker_archive(tag: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers
        .iter()
        .map(|layer| format!("sha256:{}", sha256(layer)))
        .collect();
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": {"Cmd": ["sh"], "Env": ["PATH=/bin:/usr/bin"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": layers.iter().map(|_| json!({"created": "2024-01-01T00:00:00Z"})).collect::<Vec<_>>(),
    });
    let config = serde_json::to_vec(&config).unwrap();
    let config_name = format!("{}.json", sha256(&config));
    let names: Vec<_> = (0..layers.len())
        .map(|i| format!("{i}/layer.tar"))
        .collect();
    let manifest = json!([{"Config": config_name, "RepoTags": [tag], "Layers": names}]);
    let mut archive = Archive::new().file(&config_name, 0o644, &config);
    for (name, layer) in names.iter().zip(layers) {
        archive = archive.file(name, 0o644, layer);
    }
    archive
        .file(
            "manifest.json",
            0o644,
            &serde_json::to_vec(&manifest).unwrap(),
        )
        .bytes()
}

/// Compressed with gzip.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Compressed by a program; `None`: it isn't here.
pub(crate) fn packed(program: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new(program)
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    Some(child.wait_with_output().unwrap().stdout)
}

/// 64 hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}
