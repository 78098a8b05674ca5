//! `build --cache-from`, `--cache-to`.

use std::path::PathBuf;

use clap::ArgMatches;
use rctr_builder::request::{CacheMode, CachePlace, CacheTo};

use super::values::{parse_bool, parse_csv};
use crate::commands::words::{bad, list};
use crate::report::Failure;

/// `type=local,src=DIR`.
///
/// # Errors
/// Another type, or no directory.
pub(super) fn from(matches: &ArgMatches) -> Result<Vec<CachePlace>, Failure> {
    let words = list(matches, "cache-from");
    let parsed = words.iter().map(|text| {
        place(text, "src")
            .map(|(place, _)| place)
            .map_err(|why| bad("cache-from", text, why))
    });
    parsed.collect()
}

/// `type=local,dest=DIR[,mode=min|max][,ignore-error=true]`.
///
/// # Errors
/// Another type, or no directory.
pub(super) fn to(matches: &ArgMatches) -> Result<Vec<CacheTo>, Failure> {
    let words = list(matches, "cache-to");
    let parsed = words
        .iter()
        .map(|text| cache_to(text).map_err(|why| bad("cache-to", text, why)));
    parsed.collect()
}

fn cache_to(text: &str) -> Result<CacheTo, String> {
    let (place, more) = place(text, "dest")?;
    let mut to = CacheTo {
        place,
        mode: CacheMode::Min,
        ignore_error: false,
    };
    for (key, value) in more {
        match (key.as_str(), value.as_str()) {
            ("mode", "min") => to.mode = CacheMode::Min,
            ("mode", "max") => to.mode = CacheMode::Max,
            ("mode", other) => return Err(format!("unknown mode {other:?}: want min or max")),
            ("ignore-error", value) => to.ignore_error = parse_bool(value)?,
            // Layers are written as they are.
            _ => {}
        }
    }
    Ok(to)
}

type Pairs = Vec<(String, String)>;

/// The place, and what else is said. `directory` is the key that names it.
fn place(text: &str, directory: &str) -> Result<(CachePlace, Pairs), String> {
    let mut kind = "registry".to_owned();
    let mut dir = None;
    let mut more = Vec::new();
    for word in parse_csv(text)? {
        let Some((key, value)) = word.split_once('=') else {
            // A name alone is that of an image.
            continue;
        };
        match key {
            "type" => value.clone_into(&mut kind),
            key if key == directory => {
                dir = Some(value).filter(|d| !d.is_empty()).map(PathBuf::from)
            }
            "mode" | "ignore-error" | "compression" | "compression-level" | "force-compression"
            | "oci-mediatypes" | "image-manifest" | "digest" | "tag" => {
                more.push((key.to_owned(), value.to_owned()));
            }
            other if kind == "local" => {
                return Err(format!(
                    "unexpected key {other:?}: want type and {directory}"
                ));
            }
            _ => {}
        }
    }
    match (kind.as_str(), dir) {
        ("local", Some(dir)) => Ok((CachePlace::Local(dir), more)),
        ("local", None) => Err(format!("type=local needs {directory}=DIRECTORY")),
        ("registry", _) => Err(format!(
            "caches in registries are not supported yet: want type=local,{directory}=DIRECTORY"
        )),
        ("inline" | "gha" | "s3" | "azblob", _) => Err(format!(
            "type={kind} is not supported: want type=local,{directory}=DIRECTORY"
        )),
        _ => Err(format!(
            "unknown type {kind:?}: want type=local,{directory}=DIRECTORY"
        )),
    }
}
