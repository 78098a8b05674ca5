//! Mounts of build steps: parts of layered trees, and files that are in memory only.
//!
//! What they are made of is mounted at places of the host first, in our own mount namespace, and goes with the old root.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::mount::MsFlags;

use super::mounts::{ReadOnly, bind_opened};
use super::rootfs::{Writable, mount_layers, open_dir};
use super::{Context, Step, target};
use crate::plan::{Content, MountOp, Tree};

/// Mounts [`MountOp::Tree`] and [`MountOp::Seeded`].
pub(super) fn mount(root: &OwnedFd, op: &MountOp) -> Step {
    match op {
        MountOp::Tree {
            tree,
            target,
            scratch,
        } => {
            let opened = open(tree, scratch.as_deref())?;
            let read_only = match scratch {
                Some(_) => ReadOnly::No,
                None => ReadOnly::Yes,
            };
            bind_opened(root, opened.as_fd(), target, read_only)
                .at("mount", format!("{} on {}", tree.shown, target.display()))
        }
        MountOp::Seeded {
            source,
            target,
            read_only,
            seed,
        } => {
            fill(source, seed)?;
            let read_only = match read_only {
                true => ReadOnly::Yes,
                false => ReadOnly::No,
            };
            let shown = format!("{} on {}", source.display(), target.display());
            open_dir(source)
                .and_then(|opened| bind_opened(root, opened.as_fd(), target, read_only))
                .at("mount", shown)
        }
        _ => Ok(()),
    }
}

/// Puts the layers together and opens the source in them.
fn open(tree: &Tree, scratch: Option<&Path>) -> Step<OwnedFd> {
    let step = "put the layers of a mount together";
    let top = match (tree.layers.as_slice(), scratch) {
        ([], None) => &tree.place,
        ([], Some(scratch)) => scratch,
        ([only], None) => only,
        (layers, None) => {
            mount_layers(layers, None, &tree.place).at(step, &tree.shown)?;
            &tree.place
        }
        (layers, Some(scratch)) => {
            let (upper, work) = (scratch.join("upper"), scratch.join("work"));
            for dir in [&upper, &work] {
                // There already when the step is started once more with another network.
                fs::create_dir_all(dir).at("make", dir.to_string_lossy())?;
            }
            let writable = Writable {
                upper: &upper,
                work: &work,
                // Such a mount can't be mounted a second time.
                volatile: false,
            };
            mount_layers(layers, Some(&writable), &tree.place).at(step, &tree.shown)?;
            &tree.place
        }
    };
    let top = open_dir(top).at(step, &tree.shown)?;
    target::open(top.as_fd(), &tree.source, OFlag::O_PATH)
        .at("find the source of a mount", &tree.shown)
}

fn fill(directory: &Path, seed: &Tree) -> Step {
    let mut entries = fs::read_dir(directory).at("read", directory.to_string_lossy())?;
    if entries.next().is_some() {
        return Ok(());
    }
    let opened = open(seed, None)?;
    rctr_storage::tree::copy_up(&target::proc_path(&opened).join("."), directory)
        .map_err(io::Error::other)
        .at("fill a cache mount", &seed.shown)
}

/// The file system of [`MountOp::File`]s, made for the first of them.
#[derive(Debug, Default)]
pub(super) struct Files {
    place: Option<PathBuf>,
    count: usize,
}

impl Files {
    pub(super) fn mount(&mut self, root: &OwnedFd, op: &MountOp) -> Step {
        let MountOp::File {
            target,
            content,
            mode,
            uid,
            gid,
            place,
        } = op
        else {
            return Ok(());
        };
        let shown = target.to_string_lossy();
        let place = self.place(place).at("make a file in memory", &shown)?;
        let path = place.join(self.count.to_string());
        self.count += 1;
        let file =
            create(&path, content, *mode, (*uid, *gid)).at("make a file in memory", &shown)?;
        bind_opened(root, file.as_fd(), target, ReadOnly::Yes).at("mount the file", &shown)
    }

    fn place(&mut self, wanted: &Path) -> io::Result<PathBuf> {
        if let Some(place) = &self.place {
            return Ok(place.clone());
        }
        nix::mount::mount(
            Some("tmpfs"),
            wanted,
            Some("tmpfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some("mode=700"),
        )?;
        Ok(self.place.insert(wanted.to_owned()).clone())
    }
}

fn create(path: &Path, content: &Content, mode: u32, owner: (u32, u32)) -> io::Result<File> {
    let mut file = File::create_new(path)?;
    file.write_all(&content.0)?;
    fchown(&file, Some(owner.0), Some(owner.1))?;
    // After the owner, a change of which takes set-user-ID bits away.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(file)
}
