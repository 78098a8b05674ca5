//! The build cache: layers that a power cut left half-written, and records of steps.

use std::collections::HashSet;
use std::fs;

use super::{Check, Repair};
use crate::image::ImageError;
use crate::layer::unsynced::Lasting;
use crate::store::{Store, StoreError};

impl Check<'_> {
    /// Before the images are looked at: what is taken away here can be unpacked again there.
    pub(super) fn lost_layers(&mut self) -> Result<(), ImageError> {
        for diff_id in self.store.layer_diff_ids()? {
            if self.store.lasting(&diff_id) != Lasting::Lost {
                continue;
            }
            let subject = format!("layer {diff_id}");
            let problem = "the machine stopped before it was on the disk";
            self.mend::<StoreError>(subject, problem, |store| {
                Ok(match store.settle_layer(&diff_id)? {
                    true => "it is whole: an image has it".to_owned(),
                    false => "removed; the next build makes it anew".to_owned(),
                })
            })?;
        }
        Ok(())
    }

    /// Each record, whether it is whole and what it tells of is there.
    pub(super) fn steps(
        &mut self,
        hashed: &mut HashSet<crate::digest::Digest>,
    ) -> Result<(), ImageError> {
        for key in self.store.step_keys()? {
            self.report.steps += 1;
            let fault = match self.store.step_with_inputs(&key).filter(|r| r.key == key) {
                None => Some("its record is damaged".to_owned()),
                Some(record) if !self.store.has_layer(&record.layer.diff_id) => {
                    Some(format!("layer {} is missing", record.layer.diff_id))
                }
                Some(record) => self.blob_fault(&record.layer, hashed)?,
            };
            let Some(fault) = fault else {
                continue;
            };
            let path = self.store.step_path(&key);
            // One that was pruned while we looked is no fault.
            if !path.exists() {
                continue;
            }
            self.mend::<StoreError>(format!("build step {}", key.hex()), fault, |_: &Store| {
                fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
                Ok("removed; the next build makes it anew".to_owned())
            })?;
        }
        if self.repair == Repair::Yes {
            self.store.clear_step_locks()?;
        }
        Ok(())
    }
}
