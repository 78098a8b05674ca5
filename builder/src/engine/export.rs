//! The target outside of the store: its files as a directory or a tar, or an image in an archive (`--output`).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};
use rctr_runtime::plan::RootfsPlan;
use rctr_runtime::rootfs;
use rctr_storage::archive::{self, Format};
use rctr_storage::image::UnlistedImage;
use rctr_storage::tree::{self, Mounts, PackOptions, UnpackOptions};

use super::{BuildError, Built, Engine};

/// Where a target's files go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// A directory, made if missing: what is in it stays. All files become the caller's.
    Directory(PathBuf),
    /// A tar.
    Tar(Destination),
}

/// Where an archive goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A file, complete or not there.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

impl Engine<'_> {
    /// Writes the finished target's files. The process enters the user namespace if it isn't there.
    ///
    /// # Errors
    /// When something can't be read or written.
    pub fn export(&self, built: &Built, to: &Files) -> Result<(), BuildError> {
        let vertex = self.tracker.start(match to {
            Files::Directory(_) => "exporting to client directory",
            Files::Tar(_) => "exporting to client tarball",
        });
        let result = self.write_files(built, to);
        match &result {
            Ok(()) => vertex.completed(),
            Err(error) => vertex.failed(error.to_string()),
        }
        result
    }

    /// Writes the finished target as an image in an archive: complete at its place, or not there.
    ///
    /// # Errors
    /// When something can't be read or written.
    pub fn export_archive(
        &self,
        image: &UnlistedImage,
        format: Format,
        to: &Destination,
    ) -> Result<(), BuildError> {
        let vertex = self.tracker.start(match format {
            Format::Docker => "exporting to docker image format",
            Format::Oci => "exporting to oci image format",
        });
        vertex.note(format!("exporting config {}", image.image.id));
        let result = to.write(&mut |out| Ok(archive::save_image(self.store, image, format, out)?));
        match &result {
            Ok(()) => vertex.completed(),
            Err(error) => vertex.failed(error.to_string()),
        }
        result
    }

    fn write_files(&self, built: &Built, to: &Files) -> Result<(), BuildError> {
        let place = self.store.temp_path("export")?;
        let root = self.mounted(built, &place)?;
        let result = match to {
            Files::Directory(target) => fs::create_dir_all(target)
                .map_err(failed(target))
                .and_then(|()| to_directory(&root, target)),
            Files::Tar(destination) => destination.write(&mut |out| pack(&root, out)),
        };
        // Not mounted with the copy driver. What stays is removed with the session.
        let _ = umount2(&root, MntFlags::MNT_DETACH);
        let _ = tree::remove_tree(&place);
        result
    }

    /// Where the target's files can be read, below `directory`, which isn't there yet.
    fn mounted(&self, built: &Built, directory: &Path) -> Result<PathBuf, BuildError> {
        let driver = match built.driver {
            Some(driver) => driver,
            None => self.host.enter().map_err(BuildError::Host)?,
        };
        let part = |name: &str| directory.join(name);
        fs::create_dir(directory).map_err(failed(directory))?;
        let plan = RootfsPlan {
            driver,
            lowers: self.store.lowers(built.layers.iter().map(|l| l.diff_id)),
            upper: part("upper"),
            work: part("work"),
            merged: part("merged"),
            read_only: true,
            volatile: false,
        };
        rootfs::look_at_layers(self.store, &plan).map_err(|e| BuildError::Host(Box::new(e)))?;
        Ok(plan.merged)
    }
}

impl Destination {
    /// A file is there when all of it is written, but for what isn't a plain one (`/dev/null`, a pipe).
    pub(crate) fn write(
        &self,
        fill: &mut dyn FnMut(&mut dyn Write) -> Result<(), BuildError>,
    ) -> Result<(), BuildError> {
        let path = match self {
            Self::Stdout => return fill(&mut io::stdout().lock()),
            Self::File(path) => path,
        };
        if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
            let mut file = File::options()
                .write(true)
                .open(path)
                .map_err(failed(path))?;
            return fill(&mut file);
        }
        let mut temp = path.clone().into_os_string();
        temp.push(".rctr-partial");
        let temp = PathBuf::from(temp);
        let result = File::create(&temp)
            .map_err(failed(path))
            .and_then(|mut file| fill(&mut file))
            .and_then(|()| fs::rename(&temp, path).map_err(failed(path)));
        if result.is_err() {
            // The error is the news.
            let _ = fs::remove_file(&temp);
        }
        result
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> BuildError {
    let path = path.to_owned();
    move |source| BuildError::Export { path, source }
}

fn pack(root: &Path, out: &mut dyn Write) -> Result<(), BuildError> {
    let options = PackOptions {
        mounts: Mounts::Skip,
        ..PackOptions::default()
    };
    Ok(tree::pack(root, "/", &options, out)?)
}

/// Through a pipe, with the packing in a thread.
fn to_directory(root: &Path, target: &Path) -> Result<(), BuildError> {
    let (mut reader, mut writer) = io::pipe().map_err(|source| BuildError::Export {
        path: target.to_owned(),
        source,
    })?;
    // Root of the user namespace is the caller outside.
    let owner = Some((0, 0));
    std::thread::scope(|scope| {
        let packing = scope.spawn(move || pack(root, &mut writer));
        let unpacked = tree::unpack(target, "/", &mut reader, &UnpackOptions { owner });
        drop(reader);
        let packed = packing.join().unwrap_or(Err(BuildError::Canceled));
        unpacked?;
        packed
    })
}
