//! Volumes: directories that outlive containers.
//!
//! ```text
//! volumes/<name>/volume.json   what `volume inspect` tells
//! volumes/<name>/_data         the content
//! ```
//!
//! A volume is in use as long as a container's record mounts it. It is made and published under the store's shared
//! lock and pinned until the command ends, so that a concurrent prune doesn't take it before the record is written.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::atomic::{self, Durability};
use crate::container::{ContainerError, is_name};
use crate::explain::Explain;
use crate::random;
use crate::session::Pin;
use crate::store::{Store, StoreError};
use crate::timestamp;
use crate::tree::remove_tree;

/// Docker's mark of a volume that nobody named.
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";
const VERSION: u32 = 1;

/// Why something about a volume fails.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Not there.
    #[error("No such volume: {name}")]
    NotFound {
        /// What was given.
        name: String,
    },
    /// Not of the grammar.
    #[error("invalid volume name {name:?}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    InvalidName {
        /// What was given.
        name: String,
    },
    /// A container mounts it.
    #[error("cannot remove volume {name}: volume is in use - [{}]", users.join(", "))]
    InUse {
        /// The volume.
        name: String,
        /// The IDs of the containers.
        users: Vec<String>,
    },
    /// Options that only other drivers have.
    #[error("cannot create volume {name}: the driver {driver:?} isn't supported")]
    Driver {
        /// The volume.
        name: String,
        /// What was asked for.
        driver: String,
    },
    /// Reading the containers failed.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Explain for VolumeError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotFound { .. } => "`rctr volume ls` lists the volumes".to_owned(),
            Self::InUse { .. } => "remove these containers first".to_owned(),
            Self::Driver { .. } => "use the driver `local`".to_owned(),
            Self::InvalidName { .. } => {
                "a letter or digit comes first, then at least one more, as in data-1".to_owned()
            }
            Self::Container(error) => return error.hint(),
            Self::Store(error) => return error.hint(),
        })
    }
}

/// A volume, as `volume inspect` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Volume {
    /// Of `volume.json`.
    #[serde(default)]
    pub version: u32,
    /// RFC 3339.
    pub created_at: String,
    /// `local`.
    pub driver: String,
    /// User metadata.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The content's directory. Not stored: the store may be moved.
    #[serde(skip)]
    pub mountpoint: PathBuf,
    /// Its name.
    pub name: String,
    /// `--opt`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// `local`.
    pub scope: String,
}

impl Volume {
    /// Whether nobody named it.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.labels.contains_key(ANONYMOUS)
    }
}

/// A volume to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewVolume {
    /// Empty: an anonymous one, whose name is made up.
    pub name: String,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--opt`.
    pub options: BTreeMap<String, String>,
    /// `--driver`; empty: `local`.
    pub driver: String,
}

/// Which volumes `volume prune` is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeScope {
    /// Those that nobody named.
    Anonymous,
    /// All that no container uses.
    All,
}

impl Store {
    /// The directory with a volume's content, whether it is there or not.
    #[must_use]
    pub fn volume_data(&self, name: &str) -> PathBuf {
        self.volume_dir(name).join("_data")
    }

    fn volume_dir(&self, name: &str) -> PathBuf {
        self.path("volumes").join(name)
    }

    /// Makes a volume; one of that name that is there already is given back as it is, as docker does. It is safe from
    /// removal until this store is dropped.
    ///
    /// # Errors
    /// When the name is bad or something can't be written.
    pub fn create_volume(&self, new: NewVolume) -> Result<Volume, VolumeError> {
        let mut new = new;
        if new.name.is_empty() {
            new.name = random::hex::<32>();
            new.labels.insert(ANONYMOUS.to_owned(), String::new());
        }
        if !is_name(&new.name) {
            return Err(VolumeError::InvalidName { name: new.name });
        }
        if !matches!(new.driver.as_str(), "" | "local") {
            return Err(VolumeError::Driver {
                name: new.name,
                driver: new.driver,
            });
        }
        self.pin(&[Pin::Volume(new.name.clone())])?;
        match self.find_volume(&new.name) {
            Err(VolumeError::NotFound { .. }) => {}
            found => return found,
        }
        let volume = Volume {
            version: VERSION,
            created_at: timestamp::now(),
            driver: "local".to_owned(),
            labels: new.labels,
            mountpoint: self.volume_data(&new.name),
            name: new.name,
            options: new.options,
            scope: "local".to_owned(),
        };
        let temp = self.temp_path("volume")?;
        for path in [temp.clone(), temp.join("_data")] {
            // The umask would keep a container's other users out.
            fs::create_dir(&path)
                .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o755)))
                .map_err(StoreError::io("create", path))?;
        }
        atomic::write_json(&temp.join("volume.json"), &volume, Durability::Fsync)?;
        let dir = self.volume_dir(&volume.name);
        match fs::rename(&temp, &dir) {
            Ok(()) => {}
            // Another process was faster: theirs isn't empty, so it can't be replaced.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) =>
            {
                return self.find_volume(&volume.name);
            }
            Err(source) => return Err(StoreError::io("create", dir)(source).into()),
        }
        atomic::sync_dir(&self.path("volumes"))?;
        Ok(volume)
    }

    /// All volumes, by name. One whose file can't be read is left out: [`Store::check`] tells of it.
    ///
    /// # Errors
    /// When `volumes/` can't be read.
    pub fn volumes(&self) -> Result<Vec<Volume>, VolumeError> {
        let names = self.volume_names()?;
        let found = names.iter().filter_map(|name| self.find_volume(name).ok());
        Ok(found.collect())
    }

    pub(crate) fn volume_names(&self) -> Result<Vec<String>, StoreError> {
        let dir = self.path("volumes");
        let mut names = Vec::new();
        for entry in fs::read_dir(&dir).map_err(StoreError::io("read", &dir))? {
            let entry = entry.map_err(StoreError::io("read", &dir))?;
            names.extend(entry.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    /// The volume with exactly this name.
    ///
    /// # Errors
    /// When there is none, or its file is damaged.
    pub fn find_volume(&self, name: &str) -> Result<Volume, VolumeError> {
        let not_found = || VolumeError::NotFound {
            name: name.to_owned(),
        };
        if !is_name(name) {
            return Err(not_found());
        }
        let path = self.volume_dir(name).join("volume.json");
        let mut volume: Volume = match atomic::read_json(&path) {
            Err(StoreError::Io { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Err(not_found());
            }
            other => other?,
        };
        volume.mountpoint = self.volume_data(name);
        Ok(volume)
    }

    /// Which containers mount a volume: IDs by the volume's name.
    ///
    /// # Errors
    /// When the containers can't be read.
    pub fn volume_users(&self) -> Result<BTreeMap<String, Vec<String>>, VolumeError> {
        let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for container in self.containers()? {
            for mount in container.record.mounts {
                if mount.kind == "volume" {
                    let ids = users.entry(mount.name).or_default();
                    ids.push(container.record.id.clone());
                }
            }
        }
        Ok(users)
    }

    /// Removes a volume with its content. Needs ids.
    ///
    /// # Errors
    /// When there is none, a container mounts it, or it can't be removed.
    pub fn remove_volume(&self, name: &str) -> Result<(), VolumeError> {
        self.session()?;
        let held = self.lock()?;
        self.find_volume(name)?;
        if let Some(users) = self.volume_users()?.remove(name) {
            return Err(VolumeError::InUse {
                name: name.to_owned(),
                users,
            });
        }
        let trash = self.discard_volume(name)?;
        drop(held);
        Ok(remove_tree(&trash).map_err(StoreError::io("remove", trash))?)
    }

    /// Removes the volumes that nobody uses and that `wanted` agrees to (`--filter`). Needs ids. Returns their names and
    /// the bytes freed.
    ///
    /// # Errors
    /// When something can't be read or removed.
    pub fn prune_volumes(
        &self,
        scope: VolumeScope,
        wanted: &dyn Fn(&Volume) -> bool,
    ) -> Result<(Vec<String>, u64), VolumeError> {
        self.session()?;
        let held = self.lock()?;
        let users = self.volume_users()?;
        let pinned = self.pinned_volumes()?;
        let mut names = Vec::new();
        let mut trash = Vec::new();
        for volume in self.volumes()? {
            let in_scope = scope == VolumeScope::All || volume.is_anonymous();
            let in_use = users.contains_key(&volume.name) || pinned.contains(&volume.name);
            if in_scope && !in_use && wanted(&volume) {
                trash.push(self.discard_volume(&volume.name)?);
                names.push(volume.name);
            }
        }
        drop(held);
        let mut bytes = 0;
        for path in trash {
            bytes += crate::tree::size(&path).unwrap_or(0);
            remove_tree(&path).map_err(StoreError::io("remove", path))?;
        }
        Ok((names, bytes))
    }

    fn pinned_volumes(&self) -> Result<HashSet<String>, StoreError> {
        let pins = self.pins(&[])?.into_iter();
        Ok(pins
            .filter_map(|pin| match pin {
                Pin::Volume(name) => Some(name),
                _ => None,
            })
            .collect())
    }

    fn discard_volume(&self, name: &str) -> Result<PathBuf, StoreError> {
        let trash = self.temp_path("removed-volume")?;
        let dir = self.volume_dir(name);
        fs::rename(&dir, &trash).map_err(StoreError::io("remove", dir))?;
        Ok(trash)
    }
}
