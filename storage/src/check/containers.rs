//! Containers and their names.

use std::fs;

use super::layout::names;
use super::{Check, Repair};
use crate::atomic::{self, Durability};
use crate::container::{Container, ContainerError};
use crate::image::ImageError;
use crate::record::{ContainerState, Status};
use crate::store::{Store, StoreError};

impl Check<'_> {
    pub(super) fn containers(&mut self) -> Result<(), ImageError> {
        let store = self.store;
        for name in names(&store.path("containers"))? {
            let dir = store.path("containers").join(&name);
            let subject = format!("container {}", name.get(..12).unwrap_or(&name));
            match store.read_container(&name) {
                Ok(container) if container.record.id == name => self.container(&container)?,
                Err(ContainerError::NotFound { .. }) if !dir.exists() => {} // Removed just now.
                Err(ContainerError::UnknownVersion { found, .. }) => {
                    let problem = format!("its record has version {found}");
                    self.tell(subject, problem, "use the rctr that made it");
                }
                Err(ContainerError::Store(StoreError::Damaged { path, .. }))
                    if path.ends_with("state.json") =>
                {
                    self.mend(subject, "its state is damaged", |store| {
                        let state = ContainerState {
                            status: Status::Exited,
                            exit_code: 137,
                            ..ContainerState::default()
                        };
                        let held = store.write_state(&name, &state, Durability::Fsync);
                        held.map(|()| "taken as ended with code 137".to_owned())
                    })?;
                    // Now the rest of it can be looked at.
                    if let Ok(container) = store.read_container(&name) {
                        self.container(&container)?;
                    }
                }
                Ok(_) | Err(_) => {
                    self.mend(subject, "its record is missing or damaged", |store| {
                        store.put_aside(&dir)
                    })?;
                }
            }
        }
        self.names()
    }

    fn container(&mut self, container: &Container) -> Result<(), ImageError> {
        self.report.containers += 1;
        let id = container.record.id.clone();
        let subject = format!("container {}", container.record.name);
        let written = atomic::read_json::<ContainerState>(&container.dir.join("state.json"));
        let killed = written.is_ok_and(|state| state.status != container.state.status);
        let over = matches!(container.state.status, Status::Exited | Status::Removing);
        if container.record.host_config.auto_remove && over && !self.store.monitor_alive(&id) {
            return Ok(self.mend(subject, "it should be gone (--rm)", |store| {
                let removed = store.remove_container(&id);
                removed.map(|()| "removed".to_owned())
            })?);
        }
        if killed {
            self.mend(&subject, "its monitor was killed", |store| {
                let settled = store.lock_container(&id).map(drop);
                settled.map(|()| "taken as ended with code 137".to_owned())
            })?;
        }
        for part in ["upper", "work"] {
            let path = container.dir.join(part);
            if !path.is_dir() {
                self.mend(&subject, format!("its {part} directory is missing"), |_| {
                    fs::create_dir(&path)
                        .map(|()| "made anew, empty".to_owned())
                        .map_err(StoreError::io("create", &path))
                })?;
            }
        }
        let name = container.record.name.clone();
        if self.store.read_name(&name)?.as_deref() != Some(&id) {
            self.mend(&subject, "its name isn't reserved", |store| {
                restore_name(store, &id, &name)
            })?;
        }
        Ok(())
    }

    /// Names that no container has.
    fn names(&mut self) -> Result<(), ImageError> {
        for name in names(&self.store.path("names"))? {
            let path = self.store.name_path(&name);
            let Ok(holder) = self.store.read_name(&name) else {
                self.mend(
                    format!("names/{name}"),
                    "it doesn't belong there",
                    |store| store.put_aside(&path),
                )?;
                continue;
            };
            // While a container is made its name is there first: under the lock it isn't being made.
            let held = self.store.lock()?;
            let stale = match holder {
                Some(id) => matches!(self.store.has_name(&id, &name), Ok(false)),
                None => false,
            };
            if stale && self.repair == Repair::Yes {
                fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
            }
            drop(held);
            if stale {
                self.mend::<ImageError>(format!("name {name}"), "no container has it", |_| {
                    Ok("freed".to_owned())
                })?;
            }
        }
        Ok(())
    }
}

/// Reserves a container's name again, or gives it another one when it is taken.
fn restore_name(store: &Store, id: &str, name: &str) -> Result<String, ContainerError> {
    let path = store.name_path(name);
    if let Some(holder) = store.read_name(name)?
        && !store.has_name(&holder, name)?
    {
        fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
    }
    if store.reserve(name, id)?.is_none() {
        return Ok("reserved again".to_owned());
    }
    let other = format!("{name}_{}", &id[..6]);
    let record = {
        let mut record = store.read_container(id)?.record;
        record.name.clone_from(&other);
        record
    };
    if let Some(holder) = store.reserve(&other, id)? {
        return Err(ContainerError::NameTaken {
            name: other,
            id: holder,
        });
    }
    let held = store.lock_container(id)?;
    store.write_record(&held, &record)?;
    Ok(format!("{name} is another's; renamed to {other}"))
}
