//! The target's files as a directory or a tar: `--output type=local`, `type=tar`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rctr_runtime::plan::RootfsPlan;
use rctr_runtime::rootfs;
use rctr_storage::archive::{self, Format};
use rctr_storage::tree::{self, Mounts, PackOptions, UnpackOptions};

use super::{BuildError, Built, Engine};

/// Where a target's files go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// A directory, made if missing: what is in it stays. All files become the caller's.
    Directory(PathBuf),
    /// A tar at this path, complete or not there.
    Tar(PathBuf),
    /// A tar to standard output.
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
            Files::Tar(_) | Files::Stdout => "exporting to client tarball",
        });
        let result = self.write_files(built, to);
        match &result {
            Ok(()) => vertex.completed(),
            Err(error) => vertex.failed(error.to_string()),
        }
        result
    }

    /// Writes the finished target as an image in an archive: complete at `path`, or not there.
    ///
    /// # Errors
    /// When something can't be read or written.
    pub fn export_archive(
        &self,
        built: &Built,
        format: Format,
        path: &Path,
    ) -> Result<(), BuildError> {
        let vertex = self.tracker.start(match format {
            Format::Docker => "exporting to docker image format",
            Format::Oci => "exporting to oci image format",
        });
        let temp = path.with_extension("rctr-partial");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| BuildError::Export { path, source }
        };
        let write = || -> Result<(), BuildError> {
            let image = self.store.make_unlisted(self.new_image(built))?;
            vertex.note(format!("exporting config {}", image.id));
            let file = File::create(&temp).map_err(failed(&temp))?;
            archive::save_image(self.store, image, format, file)?;
            fs::rename(&temp, path).map_err(failed(path))
        };
        let result = write();
        match &result {
            Ok(()) => vertex.completed(),
            Err(error) => {
                // The error is the news.
                let _ = fs::remove_file(&temp);
                vertex.failed(error.to_string());
            }
        }
        result
    }

    fn write_files(&self, built: &Built, to: &Files) -> Result<(), BuildError> {
        let driver = match built.driver {
            Some(driver) => driver,
            None => self.host.enter().map_err(BuildError::Host)?,
        };
        let directory = self.store.temp_path("export")?;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| BuildError::Export { path, source }
        };
        let part = |name: &str| directory.join(name);
        fs::create_dir(&directory).map_err(failed(&directory))?;
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
        let root = plan.merged.as_path();
        match to {
            Files::Directory(target) => {
                fs::create_dir_all(target).map_err(failed(target))?;
                to_directory(root, target)
            }
            Files::Tar(target) => {
                let temp = target.with_extension("rctr-partial");
                let result = File::create(&temp)
                    .map_err(failed(&temp))
                    .and_then(|mut file| pack(root, &mut file))
                    .and_then(|()| fs::rename(&temp, target).map_err(failed(target)));
                if result.is_err() {
                    // The error is the news.
                    let _ = fs::remove_file(&temp);
                }
                result
            }
            Files::Stdout => pack(root, &mut io::stdout().lock()),
        }
    }
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
