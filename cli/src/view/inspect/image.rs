//! An image's document.

use std::path::PathBuf;

use rctr_storage::config::ContainerConfig;
use rctr_storage::image::Image;
use serde_json::{Value, json};

use super::config;
use crate::template::{Kind, Schema};

/// What its fields are.
pub(crate) const SCHEMA: Schema = Schema(&[
    ("Variant", Kind::Text),
    ("Container", Kind::Text),
    ("OsVersion", Kind::Text),
    ("GraphDriver.Data", Kind::TextMap),
    ("Config.ExposedPorts", Kind::StructMap),
    ("Config.Volumes", Kind::StructMap),
    ("Config.Labels", Kind::TextMap),
    ("Config.Healthcheck", Kind::Pointer),
    ("Config.StopSignal", Kind::Text),
    ("Config.StopTimeout", Kind::Pointer),
    ("Config.Shell", Kind::List),
    ("Config.ArgsEscaped", Kind::Bool),
    ("VirtualSize", Kind::Int),
]);

/// The document. `layers` are its directories, top first.
pub(crate) fn document(image: &Image, layers: &[PathBuf]) -> Value {
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    let documents = &image.config;
    let version = documents.extra.get("docker_version");
    let mut out = json!({
        "Id": image.id,
        "RepoTags": image.tags,
        "RepoDigests": image.digests,
        "Parent": image.parent.map(|p| p.to_string()).unwrap_or_default(),
        "Comment": comment(image),
        "Created": of(&documents.created),
        "DockerVersion": version.cloned().unwrap_or_else(|| json!("")),
        "Author": of(&documents.author),
        "Config": image_config(&documents.config),
        "Architecture": documents.architecture,
    });
    if let Some(variant) = &documents.variant {
        out["Variant"] = json!(variant);
    }
    out["Os"] = json!(documents.os);
    out["Size"] = json!(image.size);
    let (top, below) = layers
        .split_first()
        .map_or((None, layers), |(t, b)| (Some(t), b));
    let mut data = json!({});
    if !below.is_empty() {
        data["LowerDir"] = json!(super::joined(below));
    }
    if let Some(top) = top {
        data["UpperDir"] = json!(top);
    }
    out["GraphDriver"] = json!({"Data": data, "Name": "overlay"});
    out["RootFS"] = json!({"Type": documents.rootfs.kind, "Layers": documents.rootfs.diff_ids});
    let never = rctr_storage::record::NEVER;
    let tagged = image.tagged.as_deref().unwrap_or(never);
    out["Metadata"] = json!({"LastTagTime": tagged});
    out["Descriptor"] = json!({
        "mediaType": image.manifest.media_type,
        "digest": image.manifest.digest,
        "size": image.manifest.size,
    });
    out
}

/// No labels are null here, and an empty map in a container.
fn image_config(image: &ContainerConfig) -> Value {
    let mut out = config(image);
    if image.labels.is_empty() {
        out["Labels"] = Value::Null;
    }
    out
}

/// The message of `commit -m` or `import -m`: of the config, else of its last step.
fn comment(image: &Image) -> String {
    let last = || image.config.history.last().and_then(|h| h.comment.clone());
    image
        .config
        .comment
        .clone()
        .or_else(last)
        .unwrap_or_default()
}
