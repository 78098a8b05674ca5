//! Volumes.

use std::collections::BTreeMap;
use std::fs;

use super::Check;
use super::layout::names;
use crate::atomic::{self, Durability};
use crate::container::is_name;
use crate::image::ImageError;
use crate::store::{Store, StoreError};
use crate::timestamp;
use crate::volume::{NewVolume, Volume, VolumeError};

impl Check<'_> {
    pub(super) fn volumes(&mut self) -> Result<(), ImageError> {
        for name in names(&self.store.path("volumes"))? {
            self.report.volumes += 1;
            let subject = format!("volume {name}");
            let dir = self.store.path("volumes").join(&name);
            if !is_name(&name) || !dir.is_dir() {
                self.mend(subject, "it is no volume", |store| store.put_aside(&dir))?;
                continue;
            }
            let data = self.store.volume_data(&name);
            if !data.is_dir() {
                self.mend(&subject, "its content is missing", |_| {
                    fs::create_dir(&data)
                        .map(|()| "made anew, empty".to_owned())
                        .map_err(StoreError::io("create", &data))
                })?;
            }
            let right = self.store.find_volume(&name);
            if !right.is_ok_and(|volume| volume.name == name) {
                self.mend(subject, "its description is missing or damaged", |store| {
                    describe(store, &name)
                })?;
            }
        }
        self.missing()
    }

    /// Volumes that containers want.
    fn missing(&mut self) -> Result<(), ImageError> {
        let users = match self.store.volume_users() {
            Ok(users) => users,
            Err(VolumeError::Store(error)) => return Err(error.into()),
            Err(_) => return Ok(()), // Told already.
        };
        for name in users.into_keys() {
            if is_name(&name) && !self.store.path("volumes").join(&name).exists() {
                let subject = format!("volume {name}");
                self.mend(subject, "a container wants it and it is missing", |store| {
                    let new = NewVolume {
                        name: name.clone(),
                        ..NewVolume::default()
                    };
                    match store.create_volume(new) {
                        Err(VolumeError::Store(error)) => Err(error),
                        _ => Ok("made anew, empty".to_owned()),
                    }
                })?;
            }
        }
        Ok(())
    }
}

fn describe(store: &Store, name: &str) -> Result<String, StoreError> {
    let dir = store.path("volumes").join(name);
    let made = fs::metadata(&dir).and_then(|meta| meta.modified());
    let volume = Volume {
        version: 1,
        created_at: made.map_or_else(|_| timestamp::now(), timestamp::of),
        driver: "local".to_owned(),
        labels: BTreeMap::new(),
        mountpoint: store.volume_data(name),
        name: name.to_owned(),
        options: BTreeMap::new(),
        scope: "local".to_owned(),
    };
    atomic::write_json(&dir.join("volume.json"), &volume, Durability::Fsync)?;
    Ok("made anew, labels are lost".to_owned())
}
