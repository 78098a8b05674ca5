//! Containers at rest: their directories, records, names and locks.
//!
//! ```text
//! containers/<id>/record.json    what was asked for; changes under the container's lock
//! containers/<id>/state.json     what became of it; written by the monitor while it lives, else under the lock
//! containers/<id>/monitor.lock   held by the monitor for life; free while the record says "running": it was killed
//! containers/<id>/upper/ work/   the writable layer
//! names/<name>                   a symbolic link whose target is the ID: made in one step, exclusively
//! ```

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::atomic::{self, Durability};
use crate::digest::{DiffId, Digest};
use crate::explain::Explain;
use crate::lock::{self, ContainerLock, MonitorLock};
use crate::record::{ContainerRecord, ContainerState, NEVER, RECORD_VERSION, Status};
use crate::store::{Store, StoreError};
use crate::timestamp;
use crate::tree::remove_tree;

/// The exit code of a container whose monitor was killed: as if by SIGKILL.
const KILLED: i32 = 137;

/// Why something about a container fails.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// Neither name nor ID nor the beginning of one.
    #[error("No such container: {name}")]
    NotFound {
        /// What was given.
        name: String,
    },
    /// The beginning of several IDs.
    #[error("{prefix} is the beginning of {count} container IDs")]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// How many containers it fits.
        count: usize,
    },
    /// Taken by another container.
    #[error("Conflict. The container name \"/{name}\" is already in use by container \"{id}\"")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// Not of the grammar.
    #[error("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    InvalidName {
        /// What was given.
        name: String,
    },
    /// The image was removed while the container was made.
    #[error("layer {diff_id} is missing: image {image} was removed in this moment")]
    LayerMissing {
        /// The layer.
        diff_id: Digest,
        /// The image.
        image: Digest,
    },
    /// Its monitor lives.
    #[error("container {id} is running")]
    Running {
        /// The container.
        id: String,
    },
    /// Written by a newer rctr.
    #[error("the record of container {id} has version {found}, this rctr knows {RECORD_VERSION}")]
    UnknownVersion {
        /// The container.
        id: String,
        /// What it has.
        found: u32,
    },
    /// The store said no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Explain for ContainerError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotFound { .. } => "`rctr ps -a` lists the containers".to_owned(),
            Self::Ambiguous { .. } => "give more digits of the ID, or the name".to_owned(),
            Self::NameTaken { name, .. } => {
                format!("choose another name, or remove that container: rctr rm {name}")
            }
            Self::LayerMissing { .. } => {
                "get the image again (`rctr load`, `rctr pull`), or run `rctr system check`"
                    .to_owned()
            }
            Self::Running { id } => format!("stop it first: rctr stop {}", short(id)),
            Self::InvalidName { .. } => {
                "a letter or digit comes first, then at least one more, as in web-1".to_owned()
            }
            Self::UnknownVersion { .. } => "use the rctr that made it".to_owned(),
            Self::Store(error) => return error.hint(),
        })
    }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// A container.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// What was asked for.
    pub record: ContainerRecord,
    /// What became of it; a monitor that was killed shows as exited with code 137.
    pub state: ContainerState,
    /// `containers/<id>`.
    pub dir: PathBuf,
}

/// Whether `name` may be a container's or a volume's: a letter or digit, then at least one of `[a-zA-Z0-9_.-]`.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    (2..=255).contains(&name.len())
        && bytes.next().is_some_and(|c| c.is_ascii_alphanumeric())
        && bytes.all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c))
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

impl Store {
    /// The directory of the container `id`, whether it is there or not.
    #[must_use]
    pub fn container_dir(&self, id: &str) -> PathBuf {
        self.path("containers").join(id)
    }

    /// Makes a container: reserves its name and writes its record; the state is "created".
    ///
    /// It survives a power cut unless it is an `AutoRemove` one, which nobody wants after a boot.
    ///
    /// # Errors
    /// When the name is taken or bad, a layer is missing, or the store can't be written to; nothing is made then.
    pub fn create_container(&self, record: ContainerRecord) -> Result<Container, ContainerError> {
        if !is_name(&record.name) {
            return Err(ContainerError::InvalidName { name: record.name });
        }
        let durability = if record.host_config.auto_remove {
            Durability::None
        } else {
            Durability::Fsync
        };
        let state = ContainerState::default();
        let temp = self.prepare(&record, &state, durability)?;
        let dir = self.container_dir(&record.id);
        let published = self.publish(&record, &temp, &dir, durability);
        if published.is_err() {
            // The session's end would clear it as well; the error is the news.
            let _ = remove_tree(&temp);
        }
        published?;
        Ok(Container { record, state, dir })
    }

    fn prepare(
        &self,
        record: &ContainerRecord,
        state: &ContainerState,
        durability: Durability,
    ) -> Result<PathBuf, StoreError> {
        let temp = self.temp_path("container")?;
        let make = |path: PathBuf, mode| {
            DirBuilder::new()
                .mode(mode)
                .create(&path)
                .map_err(StoreError::io("create", path))
        };
        make(temp.clone(), 0o755)?;
        make(temp.join("work"), 0o700)?;
        let upper = temp.join("upper");
        make(upper.clone(), 0o755)?;
        // The upper directory's mode is that of the container's "/", whatever the umask says.
        let top = record
            .layers
            .last()
            .map(|top| self.layer_root(&DiffId(*top)));
        let mode = top
            .and_then(|root| fs::metadata(root).ok())
            .map_or(0o755, |meta| meta.permissions().mode() & 0o7777);
        fs::set_permissions(&upper, Permissions::from_mode(mode))
            .map_err(StoreError::io("write", upper))?;
        for (name, bytes) in [
            ("record.json", atomic::to_json(&temp, record)?),
            ("state.json", atomic::to_json(&temp, state)?),
        ] {
            let path = temp.join(name);
            atomic::fill(&path, &bytes, durability).map_err(StoreError::io("write", path))?;
        }
        if durability == Durability::Fsync {
            atomic::sync_dir(&temp)?;
        }
        Ok(temp)
    }

    fn publish(
        &self,
        record: &ContainerRecord,
        temp: &Path,
        dir: &Path,
        durability: Durability,
    ) -> Result<(), ContainerError> {
        // Shared: from here on the container counts as a root of its layers, or sees that one is gone.
        let shared = self.lock_shared()?;
        for diff_id in &record.layers {
            if !self.layer_root(&DiffId(*diff_id)).exists() {
                return Err(ContainerError::LayerMissing {
                    diff_id: *diff_id,
                    image: record.image,
                });
            }
        }
        let shared = match self.reserve(&record.name, &record.id)? {
            None => shared,
            Some(holder) => {
                drop(shared);
                self.free_stale_name(&record.name, &holder)?;
                let shared = self.lock_shared()?;
                if let Some(id) = self.reserve(&record.name, &record.id)? {
                    let name = record.name.clone();
                    return Err(ContainerError::NameTaken { name, id });
                }
                shared
            }
        };
        if let Err(source) = fs::rename(temp, dir) {
            // The error is the news; a name without a container is stale and can be taken.
            let _ = fs::remove_file(self.name_path(&record.name));
            return Err(StoreError::io("create", dir)(source).into());
        }
        drop(shared);
        if durability == Durability::Fsync {
            atomic::sync_dir(&self.path("names"))?;
            atomic::sync_dir(&self.path("containers"))?;
        }
        Ok(())
    }

    /// All containers, in no order. One whose record can't be read is left out: [`Store::check`] tells of it.
    ///
    /// # Errors
    /// When `containers/` can't be read.
    pub fn containers(&self) -> Result<Vec<Container>, ContainerError> {
        let ids = self.container_ids()?;
        Ok(ids
            .iter()
            .filter_map(|id| self.read_container(id).ok())
            .collect())
    }

    /// The container with this ID, name (a leading `/` is fine) or unique beginning of an ID, in this order.
    ///
    /// # Errors
    /// When there is none, several, or its record is damaged.
    pub fn find_container(&self, name: &str) -> Result<Container, ContainerError> {
        let wanted = name.strip_prefix('/').unwrap_or(name);
        if is_id(wanted) && self.container_dir(wanted).exists() {
            return self.read_container(wanted);
        }
        if is_name(wanted)
            && let Some(id) = self.read_name(wanted)?
        {
            match self.read_container(&id) {
                Ok(container) if container.record.name == wanted => return Ok(container),
                // A stale name.
                Ok(_) | Err(ContainerError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let not_found = || ContainerError::NotFound {
            name: name.to_owned(),
        };
        if wanted.is_empty() || !wanted.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(not_found());
        }
        let mut ids = self.container_ids()?;
        ids.retain(|id| id.starts_with(wanted));
        match ids.as_slice() {
            [] => Err(not_found()),
            [id] => self.read_container(id),
            _ => Err(ContainerError::Ambiguous {
                prefix: name.to_owned(),
                count: ids.len(),
            }),
        }
    }

    /// The container with this full ID.
    ///
    /// # Errors
    /// When there is none, or its record is damaged.
    pub fn read_container(&self, id: &str) -> Result<Container, ContainerError> {
        let dir = self.container_dir(id);
        let not_found = || ContainerError::NotFound {
            name: id.to_owned(),
        };
        let record: ContainerRecord = match atomic::read_json(&dir.join("record.json")) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(not_found());
            }
            other => other?,
        };
        if record.version != RECORD_VERSION {
            return Err(ContainerError::UnknownVersion {
                id: id.to_owned(),
                found: record.version,
            });
        }
        let mut state = read_state(&dir)?;
        if claims_life(&state) && !lock::monitor_alive(&dir) {
            // It may have ended between the two looks: what it wrote last counts.
            state = read_state(&dir)?;
            if claims_life(&state) {
                bury(&mut state, &dir);
            }
        }
        Ok(Container { record, state, dir })
    }

    /// Replaces the state. For the monitor, or under the container's lock while no monitor lives.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_state(
        &self,
        id: &str,
        state: &ContainerState,
        durability: Durability,
    ) -> Result<(), ContainerError> {
        let path = self.container_dir(id).join("state.json");
        Ok(atomic::write_json(&path, state, durability)?)
    }

    /// Replaces the record, all but the name: see [`Store::rename_container`].
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write_record(
        &self,
        _held: &ContainerLock,
        record: &ContainerRecord,
    ) -> Result<(), ContainerError> {
        let path = self.container_dir(&record.id).join("record.json");
        Ok(atomic::write_json(&path, record, Durability::Fsync)?)
    }

    /// Waits for the container's lock. If its monitor was killed, the state says so afterwards.
    ///
    /// # Errors
    /// When there is no such container (any more), or somebody has the lock for more than 30 seconds.
    pub fn lock_container(&self, id: &str) -> Result<ContainerLock, ContainerError> {
        let dir = self.container_dir(id);
        let not_found = || ContainerError::NotFound {
            name: id.to_owned(),
        };
        let held = lock::lock_directory(&dir)?.ok_or_else(not_found)?;
        if let Ok(mut state) = read_state(&dir)
            && claims_life(&state)
            && let Some(_monitor) = lock::take_monitor_lock(&dir, id)?
        {
            bury(&mut state, &dir);
            // Readers see the same without it: a full disk must not keep the container from being removed.
            let _ = self.write_state(id, &state, Durability::None);
        }
        Ok(held)
    }

    /// Gives the container another name.
    ///
    /// # Errors
    /// When the name is taken or bad, or there is no such container.
    pub fn rename_container(&self, id: &str, name: &str) -> Result<(), ContainerError> {
        if !is_name(name) {
            return Err(ContainerError::InvalidName {
                name: name.to_owned(),
            });
        }
        if let Some(holder) = self.read_name(name)? {
            self.free_stale_name(name, &holder)?;
        }
        let _shared = self.lock_shared()?;
        let held = self.lock_container(id)?;
        let mut record = self.read_container(id)?.record;
        if let Some(holder) = self.reserve(name, id)? {
            return Err(ContainerError::NameTaken {
                name: name.to_owned(),
                id: holder,
            });
        }
        let old = std::mem::replace(&mut record.name, name.to_owned());
        if let Err(error) = self.write_record(&held, &record) {
            // The error is the news; a name that isn't the record's is stale and can be taken.
            let _ = fs::remove_file(self.name_path(name));
            return Err(error);
        }
        let path = self.name_path(&old);
        fs::remove_file(&path).map_err(StoreError::io("remove", path))?;
        Ok(atomic::sync_dir(&self.path("names"))?)
    }

    /// Removes a container with its writable layer. Needs ids. The name is free and the container gone for everybody
    /// before the first file is deleted.
    ///
    /// # Errors
    /// When it runs, isn't there, or can't be removed.
    pub fn remove_container(&self, id: &str) -> Result<(), ContainerError> {
        let _held = self.lock_container(id)?;
        match self.take_monitor_lock(id) {
            Ok(_) => self.discard(id),
            Err(error) => Err(error),
        }
    }

    /// Takes the container whose monitor is the caller out of the store (`--rm`): its name is free and nobody finds it
    /// any more. What is left is for [`Store::delete_retired`], or cleared after a crash.
    ///
    /// # Errors
    /// When it can't be moved.
    pub fn retire_own_container(&self, monitor: &MonitorLock) -> Result<PathBuf, ContainerError> {
        self.retire(monitor.id())
    }

    /// Deletes what [`Store::retire_own_container`] took out. Needs ids.
    ///
    /// # Errors
    /// When a file can't be deleted.
    pub fn delete_retired(&self, retired: &Path) -> Result<(), StoreError> {
        remove_tree(retired).map_err(StoreError::io("remove", retired))
    }

    fn discard(&self, id: &str) -> Result<(), ContainerError> {
        let trash = self.retire(id)?;
        Ok(self.delete_retired(&trash)?)
    }

    fn retire(&self, id: &str) -> Result<PathBuf, ContainerError> {
        let dir = self.container_dir(id);
        let name = atomic::read_json::<ContainerRecord>(&dir.join("record.json"))
            .ok()
            .map(|record| record.name);
        let trash = self.temp_path("removed")?;
        fs::rename(&dir, &trash).map_err(StoreError::io("remove", &dir))?;
        if let Some(name) = name.filter(|name| is_name(name))
            && self.read_name(&name)?.as_deref() == Some(id)
        {
            let path = self.name_path(&name);
            fs::remove_file(&path).map_err(StoreError::io("remove", path))?;
        }
        Ok(trash)
    }

    /// Takes the lock that a monitor holds for life. It goes with the last descriptor, which isn't inherited over exec.
    ///
    /// # Errors
    /// [`ContainerError::Running`] when another monitor has it.
    pub fn take_monitor_lock(&self, id: &str) -> Result<MonitorLock, ContainerError> {
        lock::take_monitor_lock(&self.container_dir(id), id)?
            .ok_or_else(|| ContainerError::Running { id: id.to_owned() })
    }

    /// Whether the container's monitor lives. Takes nothing, so it never makes a monitor fail.
    #[must_use]
    pub fn monitor_alive(&self, id: &str) -> bool {
        lock::monitor_alive(&self.container_dir(id))
    }

    pub(crate) fn container_ids(&self) -> Result<Vec<String>, StoreError> {
        let dir = self.path("containers");
        let mut ids = Vec::new();
        for entry in fs::read_dir(&dir).map_err(StoreError::io("read", &dir))? {
            let entry = entry.map_err(StoreError::io("read", &dir))?;
            if let Ok(name) = entry.file_name().into_string()
                && is_id(&name)
            {
                ids.push(name);
            }
        }
        Ok(ids)
    }

    fn layer_root(&self, diff_id: &DiffId) -> PathBuf {
        self.path("layers").join(diff_id.0.hex()).join("fs")
    }
}

fn read_state(dir: &Path) -> Result<ContainerState, StoreError> {
    let path = dir.join("state.json");
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(StoreError::io("read", &path))?,
    };
    if bytes.is_empty() {
        // A power cut took what was written without fsync.
        return Ok(ContainerState {
            status: Status::Exited,
            exit_code: KILLED,
            ..ContainerState::default()
        });
    }
    serde_json::from_slice(&bytes).map_err(|source| StoreError::Damaged { path, source })
}

/// Whether only a living monitor can have left this state.
fn claims_life(state: &ContainerState) -> bool {
    matches!(
        state.status,
        Status::Running | Status::Paused | Status::Restarting
    )
}

/// What a killed monitor would have written, as far as it can be told.
fn bury(state: &mut ContainerState, dir: &Path) {
    state.status = Status::Exited;
    state.exit_code = KILLED;
    // `pid` stays: a process that outlived its monitor is found by it (see runtime's `control::reap_orphan`).
    state.monitor_pid = 0;
    state.monitor_start = 0;
    state.ports.clear();
    // It died some time after this.
    state.finished_at = fs::metadata(dir.join("state.json"))
        .and_then(|meta| meta.modified())
        .map_or_else(|_| NEVER.to_owned(), timestamp::of);
}
