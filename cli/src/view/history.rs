//! How an image came to be, as rows of `history`.

use rctr_storage::config::{History, ImageConfig};
use rctr_storage::digest::{DiffId, Digest};

use super::container_row::Cut;
use crate::format::time::{Nanos, since};
use crate::format::{Listing, duration, ellipsis, short_id, size, time};
use crate::template::Data;

/// Width of the column CREATED BY.
const CREATED_BY: usize = 45;
/// The ID of a step whose image isn't here.
const MISSING: &str = "<missing>";

/// `--human`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Human {
    /// `3 weeks ago`, `77.8MB`.
    Yes,
    /// RFC 3339 and bytes.
    No,
}

/// The list of steps.
pub(crate) fn listing() -> Listing {
    Listing {
        headers: &[
            ("ID", "IMAGE"),
            ("CreatedSince", "CREATED"),
            ("CreatedAt", "CREATED AT"),
            ("CreatedBy", "CREATED BY"),
            ("Size", "SIZE"),
            ("Comment", "COMMENT"),
        ],
        table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}".to_owned(),
        quiet: "{{.ID}}",
    }
}

/// A step of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    id: Option<Digest>,
    history: (String, String, String),
    bytes: u64,
}

/// The steps, the last first. `images` are the image and its ancestors here, with the number of steps that each has.
pub(crate) fn steps(
    config: &ImageConfig,
    images: &[(Digest, usize)],
    layer_size: &dyn Fn(&DiffId) -> u64,
) -> Vec<Step> {
    let mut layers = config.rootfs.diff_ids.iter();
    let mut steps: Vec<Step> = config
        .history
        .iter()
        .map(|entry| {
            let layer = if entry.empty_layer {
                None
            } else {
                layers.next()
            };
            Step::new(entry, layer.map_or(0, layer_size))
        })
        .collect();
    // An image without (enough) history: its layers are steps all the same.
    for layer in layers {
        let created = config.created.clone();
        let entry = History {
            created,
            ..History::default()
        };
        steps.push(Step::new(&entry, layer_size(layer)));
    }
    let count = steps.len();
    for (position, (id, length)) in images.iter().enumerate() {
        let last = if position == 0 { count } else { *length };
        if let Some(step) = last.checked_sub(1).and_then(|i| steps.get_mut(i)) {
            step.id = Some(*id);
        }
    }
    steps.reverse();
    steps
}

impl Step {
    fn new(entry: &History, bytes: u64) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self {
            id: None,
            history: (
                text(&entry.created),
                text(&entry.created_by),
                text(&entry.comment),
            ),
            bytes,
        }
    }

    /// The step as a row.
    pub(crate) fn row(&self, cut: Cut, human: Human, now: Nanos) -> Data {
        let (created, by, comment) = &self.history;
        let id = match (self.id, cut) {
            (None, _) => MISSING.to_owned(),
            (Some(id), Cut::Yes) => short_id(&id.to_string()),
            (Some(id), Cut::No) => id.to_string(),
        };
        // One step, one line.
        let by = by.replace(['\t', '\n', '\r'], " ");
        let by = match cut {
            Cut::Yes => ellipsis(&by, CREATED_BY),
            Cut::No => by,
        };
        let at = match time::of(created) {
            Some(nanos) => time::rfc3339(nanos),
            None => String::new(),
        };
        let (when, bytes) = match human {
            Human::Yes if at.is_empty() => ("N/A".to_owned(), size::short(self.bytes)),
            Human::Yes => {
                let when = duration::words(since(created, now));
                (format!("{when} ago"), size::short(self.bytes))
            }
            Human::No => (at.clone(), self.bytes.to_string()),
        };
        Data::fields([
            ("Comment", Data::text(comment)),
            ("CreatedAt", Data::text(at)),
            ("CreatedBy", Data::text(by)),
            ("CreatedSince", Data::text(when)),
            ("ID", Data::text(id)),
            ("Size", Data::text(bytes)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Quiet;

    fn config() -> ImageConfig {
        let entry = |by: &str, empty_layer| History {
            created: Some("2024-05-01T09:00:00Z".to_owned()),
            created_by: Some(by.to_owned()),
            comment: Some("note".to_owned()),
            empty_layer,
            author: None,
        };
        let mut config = ImageConfig {
            history: vec![
                entry("base", false),
                entry("ENV A=1", true),
                entry("RUN\techo", false),
            ],
            ..ImageConfig::default()
        };
        config.rootfs.diff_ids = vec![DiffId(Digest::of(b"1")), DiffId(Digest::of(b"2"))];
        config
    }

    fn shown(config: &ImageConfig, human: Human) -> String {
        let sizes = |id: &DiffId| {
            if *id == DiffId(Digest::of(b"1")) {
                5000
            } else {
                7
            }
        };
        let images = [(Digest::of(b"config"), 0), (Digest::of(b"base"), 1)];
        let rows = steps(config, &images, &sizes);
        let now = crate::view::container_row::tests::NOW;
        let format = listing().format(None, Quiet::No).unwrap();
        format
            .render(rows.iter().map(|s| s.row(Cut::Yes, human, now)))
            .unwrap()
    }

    #[test]
    fn the_last_step_comes_first() {
        assert_eq!(
            shown(&config(), Human::Yes),
            "IMAGE          CREATED             CREATED BY   SIZE      COMMENT\n\
             b79606fb3afe   About an hour ago   RUN echo     7B        note\n\
             <missing>      About an hour ago   ENV A=1      0B        note\n\
             e3c06b2bb8aa   About an hour ago   base         5kB       note\n"
                .replace("e3c06b2bb8aa", &short_id(&Digest::of(b"base").to_string()))
        );
        assert!(shown(&config(), Human::No).contains("2024-05-01T09:00:00Z   base         5000"));
    }

    #[test]
    fn layers_without_history_are_shown() {
        let mut config = config();
        config.history.clear();
        assert_eq!(shown(&config, Human::Yes).lines().count(), 3);
        assert!(shown(&config, Human::Yes).contains("N/A"));
    }
}
