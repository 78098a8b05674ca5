//! `build --cache-from`, `--cache-to`.

use std::path::PathBuf;

use clap::ArgMatches;
use rctr_builder::request::{CACHE_SIZE, CacheMode, CachePlace, CacheTo};
use rctr_storage::reference::Reference;
use rctr_storage::transfer::Compression;

use super::values::{parse_bool, parse_csv, parse_size};
use crate::commands::words::{bad, list};
use crate::report::Failure;

/// `type=local,src=DIR`, `type=registry,ref=NAME`, or a name alone.
///
/// # Errors
/// Another type, no place, or a key that isn't known.
pub(super) fn from(matches: &ArgMatches) -> Result<Vec<CachePlace>, Failure> {
    let words = list(matches, "cache-from");
    let parsed = words.iter().map(|text| {
        let parsed = Words::parse(text, "src").and_then(|words| match words.place()? {
            CachePlace::Inline => {
                Err("a cache inside an image is read with type=registry,ref=NAME".to_owned())
            }
            place => Ok(place),
        });
        parsed.map_err(|why| bad("cache-from", text, why))
    });
    parsed.collect()
}

/// `type=local,dest=DIR`, `type=registry,ref=NAME`, `type=inline`, each with
/// `[,mode=min|max][,compression=…][,compression-level=N][,mounts=true][,max-size=BYTES][,ignore-error=true]`.
///
/// # Errors
/// Another type, no place, or a key or value that isn't known.
pub(super) fn to(matches: &ArgMatches) -> Result<Vec<CacheTo>, Failure> {
    let words = list(matches, "cache-to");
    let parsed = words
        .iter()
        .map(|text| cache_to(text).map_err(|why| bad("cache-to", text, why)));
    parsed.collect()
}

fn cache_to(text: &str) -> Result<CacheTo, String> {
    let words = Words::parse(text, "dest")?;
    let place = words.place()?;
    let mut to = CacheTo {
        mode: CacheMode::Min,
        // A directory is read where it is; what goes over a network should be small.
        compression: match place {
            CachePlace::Local(_) => None,
            CachePlace::Registry(_) | CachePlace::Inline => Some((Compression::Zstd, None)),
        },
        mounts: false,
        max_size: CACHE_SIZE,
        ignore_error: false,
        place,
    };
    let mut level = None;
    for (key, value) in words.more {
        match (key.as_str(), value.as_str()) {
            ("mode", "min") => to.mode = CacheMode::Min,
            ("mode", "max") => to.mode = CacheMode::Max,
            ("mode", other) => return Err(format!("unknown mode {other:?}: want min or max")),
            ("compression", "uncompressed") => to.compression = None,
            ("compression", "gzip") => to.compression = Some((Compression::Gzip, None)),
            ("compression", "zstd") => to.compression = Some((Compression::Zstd, None)),
            ("compression", other) => {
                return Err(format!(
                    "unknown compression {other:?}: want uncompressed, gzip or zstd"
                ));
            }
            ("compression-level", value) => {
                let number = value.parse().map_err(|_| format!("no level: {value:?}"))?;
                level = Some(number);
            }
            ("mounts", value) => to.mounts = parse_bool(value)?,
            ("max-size", value) => to.max_size = u64::try_from(parse_size(value)?).unwrap_or(0),
            ("ignore-error", value) => to.ignore_error = parse_bool(value)?,
            // They say how BuildKit writes a manifest; there is one form here.
            _ => {}
        }
    }
    if let Some((_, its)) = &mut to.compression {
        *its = level;
    }
    Ok(to)
}

/// A value, taken apart.
struct Words {
    kind: String,
    /// The key of a directory: `src` or `dest`.
    directory: &'static str,
    dir: Option<PathBuf>,
    name: Option<String>,
    more: Vec<(String, String)>,
}

/// What may stand beside the place.
const MORE: [&str; 11] = [
    "mode",
    "ignore-error",
    "compression",
    "compression-level",
    "force-compression",
    "oci-mediatypes",
    "image-manifest",
    "digest",
    "tag",
    "mounts",
    "max-size",
];

impl Words {
    fn parse(text: &str, directory: &'static str) -> Result<Self, String> {
        let mut words = Self {
            kind: "registry".to_owned(),
            directory,
            dir: None,
            name: None,
            more: Vec::new(),
        };
        for word in parse_csv(text)? {
            let Some((key, value)) = word.split_once('=') else {
                words.name = Some(word);
                continue;
            };
            match key {
                "type" => value.clone_into(&mut words.kind),
                "ref" => words.name = Some(value.to_owned()),
                key if key == directory => {
                    words.dir = Some(value).filter(|d| !d.is_empty()).map(PathBuf::from);
                }
                key if MORE.contains(&key) => {
                    words.more.push((key.to_owned(), value.to_owned()));
                }
                other => {
                    return Err(format!(
                        "unexpected key {other:?}: want type, ref, {directory}, {}",
                        MORE.join(", ")
                    ));
                }
            }
        }
        Ok(words)
    }

    fn place(&self) -> Result<CachePlace, String> {
        let directory = self.directory;
        match (self.kind.as_str(), &self.dir, &self.name) {
            ("local", Some(dir), _) => Ok(CachePlace::Local(dir.clone())),
            ("local", None, _) => Err(format!("type=local needs {directory}=DIRECTORY")),
            ("registry", _, Some(name)) => Reference::parse(name)
                .map(CachePlace::Registry)
                .map_err(|error| error.to_string()),
            ("registry", _, None) => Err("type=registry needs ref=NAME".to_owned()),
            ("inline", ..) => Ok(CachePlace::Inline),
            ("gha" | "s3" | "azblob", ..) => Err(format!(
                "type={} is not supported: want local, registry or inline",
                self.kind
            )),
            (kind, ..) => Err(format!(
                "unknown type {kind:?}: want local, registry or inline"
            )),
        }
    }
}
