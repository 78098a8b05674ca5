//! A container's output on disk, in Docker's json-file format: one JSON object a line.
//!
//! ```text
//! {"log":"hello\n","stream":"stdout","time":"2024-05-01T10:00:00.123456789Z"}
//! ```
//!
//! A line of output longer than 16 KiB is cut into pieces whose `log` has no newline; so is an unfinished last line.
//! With `max-size`, `log` is renamed to `log.1`, `log.1` to `log.2` and so on; at most `max-file` files are kept.
//! [`Writer`] belongs to the monitor; the reader ([`read`]) takes no lock and tolerates a half-written last line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rctr_storage::explain::Explain;
use rctr_storage::record::LogConfig;

mod line;
mod reader;
mod tail;
mod writer;

pub use reader::{Entry, ReadOptions, read};
pub use writer::Writer;

/// Pieces of a longer line, as docker cuts them.
pub const PIECE: usize = 16 * 1024;

/// Where a container's log is; `directory` is `containers/<id>`.
#[must_use]
pub fn path(directory: &Path) -> PathBuf {
    directory.join("log")
}

/// The `n`th older file of `path`; 0 is `path` itself.
fn rotated(path: &Path, n: u32) -> PathBuf {
    if n == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}

/// Which of the two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, and everything that a terminal shows.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The word in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// How large a log may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file; `None`: no limit.
    pub max_size: Option<u64>,
    /// Files, the current one included; at least 1.
    pub max_file: u32,
}

/// What is wrong with a log or its options.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `max-size` or `max-file` can't be read.
    #[error("invalid log option {name}={value}")]
    Option {
        /// `max-size`, `max-file`.
        name: String,
        /// As given.
        value: String,
    },
    /// A file of the log can't be read or written.
    #[error("cannot {verb} log {}", path.display())]
    Io {
        /// `read`, `write`, `open`.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Logging is off for this container.
    #[error("configured logging driver does not support reading")]
    NoLog,
}

impl Explain for LogError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Option { name, .. } if name == "max-size" => {
                Some("give bytes, or a number with k, m or g: --log-opt max-size=10m".to_owned())
            }
            Self::Option { name, .. } if name == "max-file" => {
                Some("give a number of files: --log-opt max-file=3".to_owned())
            }
            Self::Option { .. } => Some("json-file knows max-size and max-file".to_owned()),
            Self::NoLog => Some("the container was started with --log-driver none".to_owned()),
            Self::Io { .. } => None,
        }
    }
}

/// The limits that a log configuration asks for; unknown options are tolerated (`labels`, `env`, `tag`, `compress`).
///
/// # Errors
/// A size or count that is none, or `max-file` without `max-size`.
pub fn limits(config: &LogConfig) -> Result<Limits, LogError> {
    limits_of(&config.config)
}

fn limits_of(options: &BTreeMap<String, String>) -> Result<Limits, LogError> {
    let invalid = |name: &str, value: &str| LogError::Option {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let max_size = match options.get("max-size").map(String::as_str) {
        None | Some("" | "-1") => None,
        Some(text) => Some(size(text).ok_or_else(|| invalid("max-size", text))?),
    };
    let max_file = match options.get("max-file") {
        None => 1,
        Some(text) => text
            .parse()
            .ok()
            .filter(|n| *n >= 1)
            .ok_or_else(|| invalid("max-file", text))?,
    };
    if max_file > 1 && max_size.is_none() {
        return Err(invalid(
            "max-file",
            &format!("{max_file} (without max-size)"),
        ));
    }
    Ok(Limits { max_size, max_file })
}

/// `10m`, `1.5g`, `512kb`, `100`: binary multiples, as Docker reads them.
fn size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match lower[digits.len()..]
        .trim_end_matches("ib")
        .trim_end_matches('b')
    {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return None,
    };
    let number: f64 = digits.trim().parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a size limit needs no exact bytes; negative ones are refused"
    )]
    (number > 0.0).then_some((number * factor as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_multiples() {
        assert_eq!(size("10m"), Some(10 << 20));
        assert_eq!(size("1.5k"), Some(1536));
        assert_eq!(size("2GB"), Some(2 << 30));
        assert_eq!(size("100"), Some(100));
        assert_eq!(size("-1m"), None);
        assert_eq!(size("ten"), None);
    }

    #[test]
    fn max_file_needs_max_size() {
        let options = BTreeMap::from([("max-file".to_owned(), "3".to_owned())]);
        assert!(limits_of(&options).is_err());
    }
}
