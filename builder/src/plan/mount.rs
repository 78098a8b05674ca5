//! RUN --mount: from `KEY=VALUE` pairs to what is mounted.

use std::path::PathBuf;

use super::text;
use super::types::{RunMount, RunMountFrom, Sharing};
use crate::dockerfile::{MountFlag, near};

/// A wrong mount: what, and what was meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadMount {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl BadMount {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    fn unknown(message: String, word: &str, among: &[&str]) -> Self {
        let near = near(word, among).map(|word| format!("did you mean {word}?"));
        Self {
            message,
            hint: near.or_else(|| Some(format!("it is one of {}", among.join(", ")))),
        }
    }
}

/// The options, each checked for itself.
#[derive(Debug, Default)]
struct Options {
    kind: Option<String>,
    from: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: Option<bool>,
    id: Option<String>,
    sharing: Option<Sharing>,
    required: Option<bool>,
    size: Option<u64>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    env: Option<String>,
}

/// Where the mount comes from, if it says so: a stage's, an image's or a context's name. Needs no expansion.
pub(super) fn source_name(flag: &MountFlag) -> Option<&str> {
    let value = |key: &str| {
        let mut options = flag.options.iter().rev();
        options.find_map(|(k, v)| (k == key).then_some(v.as_str()))
    };
    let kind = value("type").unwrap_or("bind");
    let takes_files = kind.eq_ignore_ascii_case("bind") || kind.eq_ignore_ascii_case("cache");
    value("from").filter(|name| !name.is_empty() && takes_files)
}

/// Makes a mount of its options, which are expanded. `from`: what [`source_name`] names; `cwd`: absolute;
/// `cache_namespace`: put before the IDs of caches.
pub(super) fn parse(
    flag: &MountFlag,
    from: Option<RunMountFrom>,
    cwd: &str,
    cache_namespace: Option<&str>,
) -> Result<RunMount, BadMount> {
    let options = Options::parse(flag)?;
    let kind = options.kind.as_deref().unwrap_or("bind");
    options.check(kind)?;
    match kind {
        "bind" => options.bind(from, cwd),
        "cache" => options.cache(from, cwd, cache_namespace),
        "tmpfs" => Ok(RunMount::Tmpfs {
            target: options.mount_point(cwd)?,
            size: options.size.unwrap_or(0),
        }),
        "secret" => options.secret(cwd),
        _ => Ok(options.ssh(cwd)),
    }
}

impl Options {
    fn parse(flag: &MountFlag) -> Result<Self, BadMount> {
        let mut options = Self::default();
        for (key, value) in &flag.options {
            options.set(key, value)?;
        }
        Ok(options)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), BadMount> {
        let bad = || BadMount::new(format!("invalid value for {key}: {value:?}"));
        let flag = || match value {
            "" => Ok(true),
            value => text::truth(value).ok_or_else(bad),
        };
        let number = || value.parse::<u32>().map_err(|_| bad());
        let given = || match value {
            "" => Err(BadMount::new(format!(
                "invalid field '{key}' must be a key=value pair"
            ))),
            value => Ok(value.to_owned()),
        };
        match key {
            "type" => self.kind = Some(kind(&given()?)?),
            "from" => self.from = Some(from_name(&given()?)?),
            "source" | "src" => self.source = Some(value.to_owned()),
            "target" | "dst" | "destination" => self.target = Some(given()?),
            "readonly" | "ro" => self.read_only = Some(flag()?),
            "readwrite" | "rw" => self.read_only = Some(!flag()?),
            "required" => self.required = Some(flag()?),
            "id" => self.id = Some(given()?),
            "env" => self.env = Some(given()?),
            "sharing" => self.sharing = Some(sharing(&given()?)?),
            "size" => self.size = Some(size(value).ok_or_else(bad)?),
            "mode" => {
                let mode = u32::from_str_radix(value, 8).ok();
                self.mode = Some(mode.filter(|mode| *mode <= 0o7777).ok_or_else(bad)?);
            }
            "uid" => self.uid = Some(number()?),
            "gid" => self.gid = Some(number()?),
            _ => {
                let message = format!("unexpected key '{key}' in '{key}={value}'");
                return Err(BadMount::unknown(message, key, MountFlag::KEYS));
            }
        }
        Ok(())
    }

    /// Whether each option fits the type.
    fn check(&self, kind: &str) -> Result<(), BadMount> {
        let misplaced = [
            ("required", self.required.is_some(), &["secret", "ssh"][..]),
            ("size", self.size.is_some(), &["tmpfs"]),
            ("env", self.env.is_some(), &["secret"]),
            ("sharing", self.sharing.is_some(), &["cache"]),
            ("mode", self.mode.is_some(), &["cache", "secret", "ssh"]),
            ("uid", self.uid.is_some(), &["cache", "secret", "ssh"]),
            ("gid", self.gid.is_some(), &["cache", "secret", "ssh"]),
            ("from", self.from.is_some(), &["bind", "cache", "tmpfs"]),
        ]
        .into_iter()
        .find(|(_, given, kinds)| *given && !kinds.contains(&kind));
        match misplaced {
            Some((key, ..)) => {
                let message = format!("unexpected key '{key}' for mount type '{kind}'");
                Err(BadMount::new(message))
            }
            None => Ok(()),
        }
    }

    /// Where it is mounted: absolute, and not the root.
    fn mount_point(&self, cwd: &str) -> Result<PathBuf, BadMount> {
        let target = text::within(cwd, self.target.as_deref().unwrap_or(""));
        if target == "/" {
            let mut bad = BadMount::new(format!("invalid mount target {target:?}"));
            bad.hint = Some("say where with target=PATH".to_owned());
            return Err(bad);
        }
        Ok(PathBuf::from(target))
    }

    /// The path in what is mounted; empty: all of it.
    fn path_in_source(&self) -> String {
        let path = text::clean(self.source.as_deref().unwrap_or(""));
        path.trim_start_matches('/').to_owned()
    }

    fn bind(self, from: Option<RunMountFrom>, cwd: &str) -> Result<RunMount, BadMount> {
        Ok(RunMount::Bind {
            from: from.unwrap_or(RunMountFrom::Context),
            source: self.path_in_source(),
            target: self.mount_point(cwd)?,
            writable: self.read_only == Some(false),
        })
    }

    fn cache(
        self,
        from: Option<RunMountFrom>,
        cwd: &str,
        namespace: Option<&str>,
    ) -> Result<RunMount, BadMount> {
        let target = self.mount_point(cwd)?;
        let source = self.path_in_source();
        let id = self.id.unwrap_or_else(|| {
            // As it is written, clean: the same relative target is the same cache in every directory, as in BuildKit.
            let written = self.target.as_deref().unwrap_or("");
            let path = text::clean(written);
            let relative = !written.starts_with('/');
            path.strip_prefix('/')
                .filter(|_| relative)
                .unwrap_or(&path)
                .to_owned()
        });
        Ok(RunMount::Cache {
            id: match namespace {
                Some(namespace) => format!("{namespace}/{id}"),
                None => id,
            },
            target,
            read_only: self.read_only == Some(true),
            sharing: self.sharing.unwrap_or_default(),
            from: from.map(|from| (from, source)),
            mode: self.mode.unwrap_or(0o755),
            uid: self.uid.unwrap_or(0),
            gid: self.gid.unwrap_or(0),
        })
    }

    fn secret(self, cwd: &str) -> Result<RunMount, BadMount> {
        let source = self.source.filter(|source| !source.is_empty());
        let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let id = match (source, self.id, &self.target) {
            (Some(_), Some(_), _) => {
                return Err(BadMount::new("both source and id can't be set"));
            }
            (Some(id), ..) | (None, Some(id), _) => id,
            (None, None, Some(target)) => last(target.trim_end_matches('/')),
            (None, None, None) => {
                let mut bad = BadMount::new("invalid secret mount. one of source, target required");
                bad.hint = Some("say which with id=NAME".to_owned());
                return Err(bad);
            }
        };
        let target = match (self.target, &self.env) {
            (Some(target), _) => Some(text::within(cwd, &target)),
            (None, Some(_)) => None,
            (None, None) => Some(format!("/run/secrets/{}", last(&id))),
        };
        Ok(RunMount::Secret {
            target: target.map(PathBuf::from),
            id,
            env: self.env,
            required: self.required.unwrap_or(false),
            mode: self.mode.unwrap_or(0o400),
            uid: self.uid.unwrap_or(0),
            gid: self.gid.unwrap_or(0),
        })
    }

    fn ssh(self, cwd: &str) -> RunMount {
        let target = self.target.map(|target| text::within(cwd, &target));
        RunMount::Ssh {
            id: self
                .id
                .or(self.source)
                .unwrap_or_else(|| "default".to_owned()),
            target: target.map(PathBuf::from),
            required: self.required.unwrap_or(false),
            mode: self.mode.unwrap_or(0o600),
            uid: self.uid.unwrap_or(0),
            gid: self.gid.unwrap_or(0),
        }
    }
}

fn kind(value: &str) -> Result<String, BadMount> {
    let kind = value.to_ascii_lowercase();
    if MountFlag::TYPES.contains(&kind.as_str()) {
        return Ok(kind);
    }
    let message = format!("unsupported mount type {value:?}");
    Err(BadMount::unknown(message, &kind, MountFlag::TYPES))
}

/// BuildKit resolves `from` before variables have values.
fn from_name(value: &str) -> Result<String, BadMount> {
    if value.contains('$') {
        return Err(BadMount::new(
            "'from' doesn't support variable expansion, define alias stage instead",
        ));
    }
    Ok(value.to_owned())
}

fn sharing(value: &str) -> Result<Sharing, BadMount> {
    match value.to_ascii_lowercase().as_str() {
        "shared" => Ok(Sharing::Shared),
        "private" => Ok(Sharing::Private),
        "locked" => Ok(Sharing::Locked),
        lower => {
            let message = format!("unsupported sharing value {value:?}");
            Err(BadMount::unknown(message, lower, MountFlag::SHARING))
        }
    }
}

/// Bytes of `64m`, `1.5g`, `512`, `8MiB`; binary units.
fn size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let split = lower.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = lower.split_at(split.unwrap_or(lower.len()));
    let unit = unit.trim();
    let unit = unit
        .strip_suffix("ib")
        .or(unit.strip_suffix('b'))
        .unwrap_or(unit);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift);
    }
    let scale = 1u64 << shift;
    #[expect(clippy::cast_precision_loss, reason = "a power of two")]
    let bytes = number.parse::<f64>().ok()? * scale as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "in range"
    )]
    (0.0..9e18).contains(&bytes).then_some(bytes as u64)
}
