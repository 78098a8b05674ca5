//! A volume: its document and its row in `volume ls`.

use rctr_storage::volume::Volume;
use serde_json::{Value, json};

use crate::format::Listing;
use crate::template::{Data, Kind, Schema};
use crate::view::container_row::pairs;

/// What its fields are.
pub(crate) const SCHEMA: Schema = Schema(&[
    ("Labels", Kind::TextMap),
    ("Options", Kind::TextMap),
    ("Status", Kind::Pointer),
    ("UsageData", Kind::Pointer),
]);

/// The document.
pub(crate) fn document(volume: &Volume) -> Value {
    let map = |map: &std::collections::BTreeMap<String, String>| {
        if map.is_empty() {
            Value::Null
        } else {
            json!(map)
        }
    };
    json!({
        "CreatedAt": volume.created_at,
        "Driver": volume.driver,
        "Labels": map(&volume.labels),
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": map(&volume.options),
        "Scope": volume.scope,
    })
}

/// The list of volumes.
pub(crate) fn listing() -> Listing {
    Listing {
        headers: &[
            ("Driver", "DRIVER"),
            ("Name", "VOLUME NAME"),
            ("Scope", "SCOPE"),
            ("Mountpoint", "MOUNTPOINT"),
            ("Labels", "LABELS"),
            ("Links", "LINKS"),
            ("Size", "SIZE"),
            ("Availability", "AVAILABILITY"),
            ("Group", "GROUP"),
            ("Status", "STATUS"),
        ],
        table: "{{.Driver}}\t{{.Name}}".to_owned(),
        quiet: "{{.Name}}",
    }
}

/// A row, fields in alphabetical order as docker's JSON has them.
pub(crate) fn row(volume: &Volume) -> Data {
    let labels = volume.labels.clone();
    let label = move |key: &str| labels.get(key).cloned().unwrap_or_default();
    let not_known = || Data::text("N/A");
    Data::fields([
        ("Availability", not_known()),
        ("Driver", Data::text(&volume.driver)),
        ("Group", not_known()),
        ("Label", Data::Method(std::rc::Rc::new(label))),
        ("Labels", Data::text(pairs(&volume.labels))),
        ("Links", not_known()),
        (
            "Mountpoint",
            Data::text(volume.mountpoint.to_string_lossy()),
        ),
        ("Name", Data::text(&volume.name)),
        ("Scope", Data::text(&volume.scope)),
        ("Size", not_known()),
        ("Status", not_known()),
    ])
}
