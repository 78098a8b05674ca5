//! `registries.conf`, version 2 (containers-registries.conf(5)): where images are instead of where their names say.
//!
//! Names without a registry are docker.io's, as docker has them: `unqualified-search-registries` isn't followed.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Access, RegistryError};
use crate::explain::Explain;
use crate::reference::Reference;

/// Why registries.conf can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    /// It can't be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Not of the form.
    #[error("{}, line {line}: {reason}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// In the parser's words.
        reason: String,
    },
    /// Of the form, but it makes no sense.
    #[error("{}: {reason}", path.display())]
    Meaning {
        /// Which file.
        path: PathBuf,
        /// What.
        reason: String,
    },
}

impl Explain for ConfError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Read { .. } => "make it readable for you, or remove it".to_owned(),
            Self::Syntax { .. } | Self::Meaning { .. } => {
                "containers-registries.conf(5) tells the form: [[registry]] with prefix, location and [[registry.mirror]]"
                    .to_owned()
            }
        })
    }
}

/// What the files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistriesConf {
    registries: Vec<Registry>,
    aliases: BTreeMap<String, String>,
}

/// A place to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The image there.
    pub(super) reference: Reference,
    /// Plain http or a bad certificate will do.
    pub(super) insecure: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    registry: Vec<Registry>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    /// Of version 1.
    registries: Option<toml::Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Registry {
    /// Of names that it is about; by default the location.
    #[serde(default)]
    prefix: String,
    /// What the prefix is replaced by; by default itself.
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<Mirror>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<Pulls>,
}

/// Which pulls a mirror is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Pulls {
    All,
    DigestOnly,
    TagOnly,
}

impl RegistriesConf {
    /// Reads these, the weakest first: files, and directories whose `*.conf` are read in the order of their names. What
    /// isn't there says nothing. A prefix that comes again is what the later one says.
    ///
    /// # Errors
    /// When one can't be read or isn't of the form.
    pub fn load(paths: &[PathBuf]) -> Result<Self, ConfError> {
        let mut conf = Self::default();
        for path in paths {
            for file in files(path)? {
                match fs::read_to_string(&file) {
                    Ok(text) => conf.add(&file, &text)?,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(source) => return Err(ConfError::Read { path: file, source }),
                }
            }
        }
        Ok(conf)
    }

    fn add(&mut self, path: &Path, text: &str) -> Result<(), ConfError> {
        let file: File = toml::from_str(text).map_err(|error| ConfError::Syntax {
            path: path.to_owned(),
            line: line(text, error.span()),
            reason: error.message().to_owned(),
        })?;
        let meaning = |reason: String| ConfError::Meaning {
            path: path.to_owned(),
            reason,
        };
        if file.registries.is_some() {
            let reason = "[registries] is of version 1, which isn't supported";
            return Err(meaning(reason.to_owned()));
        }
        for mut registry in file.registry {
            settle(&mut registry).map_err(meaning)?;
            self.registries
                .retain(|known| known.prefix != registry.prefix);
            self.registries.push(registry);
        }
        self.aliases.extend(file.aliases);
        Ok(())
    }

    /// The full name that stands for a short one (`[aliases]`).
    #[must_use]
    pub fn alias(&self, short: &str) -> Option<&str> {
        self.aliases.get(short).map(String::as_str)
    }

    /// Whether plain http or a bad certificate will do for a registry.
    pub(super) fn is_insecure(&self, registry: &str) -> bool {
        self.find(registry).is_some_and(|(found, _)| found.insecure)
    }

    /// Where `name` is, in the order to be tried: mirrors, which are for pulling, then the location.
    pub(super) fn endpoints(
        &self,
        name: &Reference,
        access: Access,
    ) -> Result<Vec<Endpoint>, RegistryError> {
        let Some((registry, length)) = self.find(&full(name)) else {
            return Ok(vec![Endpoint {
                reference: name.clone(),
                insecure: false,
            }]);
        };
        if registry.blocked {
            return Err(RegistryError::Blocked {
                name: name.to_string(),
            });
        }
        let mirrors = registry.mirror.iter().filter(|mirror| {
            let pulls = mirror
                .pull_from_mirror
                .unwrap_or(match registry.mirror_by_digest_only {
                    true => Pulls::DigestOnly,
                    false => Pulls::All,
                });
            access == Access::Pull
                && match pulls {
                    Pulls::All => true,
                    Pulls::DigestOnly => name.digest.is_some(),
                    Pulls::TagOnly => name.digest.is_none(),
                }
        });
        let mirrors = mirrors.map(|mirror| (mirror.location.as_str(), mirror.insecure));
        let own = (registry.location.as_str(), registry.insecure);
        mirrors
            .chain([own])
            .map(|(location, insecure)| {
                Ok(Endpoint {
                    reference: moved(name, location, length)?,
                    insecure,
                })
            })
            .collect()
    }

    /// The one with the longest prefix of `name` (a registry, or a full name), and that prefix's length there.
    fn find(&self, name: &str) -> Option<(&Registry, usize)> {
        let fitting = self.registries.iter().filter_map(|registry| {
            let length = matching(&registry.prefix, name)?;
            Some((registry, length))
        });
        fitting.max_by_key(|(registry, _)| registry.prefix.len())
    }
}

/// The file itself, or those of a directory.
fn files(path: &Path) -> Result<Vec<PathBuf>, ConfError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).map_err(|source| ConfError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mut found: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "conf")
    });
    found.sort();
    Ok(found)
}

fn line(text: &str, span: Option<std::ops::Range<usize>>) -> usize {
    let before = text
        .get(..span.map_or(0, |span| span.start))
        .unwrap_or(text);
    1 + before.matches('\n').count()
}

/// Fills in what one may leave out, and says what is wrong.
fn settle(registry: &mut Registry) -> Result<(), String> {
    if registry.prefix.is_empty() {
        registry.prefix.clone_from(&registry.location);
    }
    if registry.prefix.is_empty() {
        return Err("a [[registry]] has neither prefix nor location".to_owned());
    }
    let is_wildcard = registry.prefix.starts_with("*.");
    if registry.location.is_empty() && !is_wildcard {
        registry.location.clone_from(&registry.prefix);
    }
    let mirrors = registry
        .mirror
        .iter_mut()
        .map(|mirror| &mut mirror.location);
    let own = [&mut registry.prefix, &mut registry.location];
    for text in own.into_iter().chain(mirrors) {
        if text.contains("://") {
            return Err(format!(
                "{text:?} must be written without http:// or https://"
            ));
        }
        text.truncate(text.trim_end_matches('/').len());
    }
    match registry
        .mirror
        .iter()
        .any(|mirror| mirror.location.is_empty())
    {
        true => Err(format!("a mirror of {:?} has no location", registry.prefix)),
        false => Ok(()),
    }
}

/// With everything in it that the user may leave out.
fn full(name: &Reference) -> String {
    let tag = name.tag.as_ref().map(|tag| format!(":{tag}"));
    let digest = name.digest.map(|digest| format!("@{digest}"));
    let (tag, digest) = (tag.unwrap_or_default(), digest.unwrap_or_default());
    format!("{}/{}{tag}{digest}", name.domain, name.path)
}

/// How much of `name` the prefix is: whole words, or with `*.` all subdomains.
fn matching(prefix: &str, name: &str) -> Option<usize> {
    if let Some(suffix) = prefix.strip_prefix('*') {
        let domain = name.split('/').next().unwrap_or(name);
        return domain.ends_with(suffix).then_some(domain.len());
    }
    let rest = name.strip_prefix(prefix)?;
    // A port is of another registry; a tag of the same repository.
    let is_whole = match rest.chars().next() {
        None | Some('/' | '@') => true,
        Some(':') => prefix.contains('/'),
        Some(_) => false,
    };
    is_whole.then_some(prefix.len())
}

/// `name` with `location` for its first `length` bytes.
fn moved(name: &Reference, location: &str, length: usize) -> Result<Reference, RegistryError> {
    if location.is_empty() {
        return Ok(name.clone());
    }
    let repository = format!("{}/{}", name.domain, name.path);
    // A prefix may have a tag.
    let rest = repository.get(length..).unwrap_or_default();
    let moved = format!("{location}{rest}");
    match moved.split_once('/') {
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => Ok(Reference {
            domain: domain.to_owned(),
            path: path.to_owned(),
            tag: name.tag.clone(),
            digest: name.digest,
        }),
        _ => Err(RegistryError::Location {
            name: name.to_string(),
            location: moved,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn conf(text: &str) -> RegistriesConf {
        let mut conf = RegistriesConf::default();
        conf.add(Path::new("registries.conf"), text).unwrap();
        conf
    }

    fn places(conf: &RegistriesConf, name: &str, access: Access) -> Vec<String> {
        let name = Reference::parse(name).unwrap();
        let endpoints = conf.endpoints(&name, access).unwrap();
        let shown = |endpoint: &Endpoint| {
            let insecure = if endpoint.insecure { " insecure" } else { "" };
            format!("{}{insecure}", full(&endpoint.reference))
        };
        endpoints.iter().map(shown).collect()
    }

    const MIRRORS: &str = r#"
        unqualified-search-registries = ["quay.io"]
        short-name-mode = "enforcing"
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "mirror:5000"
        insecure = true
        [[registry.mirror]]
        location = "cache.test/hub/"
        pull-from-mirror = "digest-only"
        [[registry.mirror]]
        location = "tags.test"
        pull-from-mirror = "tag-only"
        [[registry]]
        prefix = "docker.io/library/secret"
        blocked = true
        [[registry]]
        prefix = "example.com/foo"
        location = "internal.test/bar"
        insecure = true
        [[registry]]
        prefix = "*.wild.test"
        insecure = true
        [aliases]
        debian = "docker.io/library/debian"
    "#;

    #[test]
    fn mirrors_come_first_and_are_for_pulling() {
        let conf = conf(MIRRORS);
        assert_eq!(
            places(&conf, "x", Access::Pull),
            [
                "mirror:5000/library/x:latest insecure",
                "tags.test/library/x:latest",
                "docker.io/library/x:latest"
            ]
        );
        let digest = Digest::of(b"");
        assert_eq!(
            places(&conf, &format!("me/x@{digest}"), Access::Pull),
            [
                format!("mirror:5000/me/x@{digest} insecure"),
                format!("cache.test/hub/me/x@{digest}"),
                format!("docker.io/me/x@{digest}")
            ]
        );
        assert_eq!(
            places(&conf, "x", Access::Push),
            ["docker.io/library/x:latest"]
        );
        assert_eq!(conf.alias("debian"), Some("docker.io/library/debian"));
    }

    #[test]
    fn the_longest_prefix_of_whole_words_counts() {
        let conf = conf(MIRRORS);
        for (name, want) in [
            ("example.com/foo/app:1", "internal.test/bar/app:1 insecure"),
            ("example.com/foo:1", "internal.test/bar:1 insecure"),
            ("example.com/food:1", "example.com/food:1"),
            ("a.b.wild.test/x:1", "a.b.wild.test/x:1 insecure"),
            ("wild.test/x:1", "wild.test/x:1"),
            ("other.test/x:1", "other.test/x:1"),
        ] {
            assert_eq!(places(&conf, name, Access::Push), [want]);
        }
        assert!(conf.is_insecure("a.wild.test") && !conf.is_insecure("example.com"));
        let secret = Reference::parse("secret:1").unwrap();
        let error = conf.endpoints(&secret, Access::Pull).unwrap_err();
        assert_eq!(error.to_string(), "secret:1 is blocked by registries.conf");
        assert_eq!(
            places(&conf, "secrets", Access::Push),
            ["docker.io/library/secrets:latest"]
        );
    }

    #[test]
    fn a_port_is_another_registry() {
        let conf = conf("[[registry]]\nlocation = \"localhost\"\ninsecure = true");
        assert!(conf.is_insecure("localhost") && !conf.is_insecure("localhost:5000"));
    }

    #[test]
    fn bad_files_are_refused_with_their_place() {
        for (text, want) in [
            (
                "[[registry]]\nlocation = 5",
                "c, line 2: invalid type: integer `5`, expected a string",
            ),
            ("a = \n", "c, line 1: "),
            (
                "[[registry]]\ninsecure = true",
                "c: a [[registry]] has neither prefix nor location",
            ),
            (
                "[[registry]]\nlocation = \"https://x\"",
                "c: \"https://x\" must be written without http:// or https://",
            ),
            (
                "[registries.search]\nregistries = []",
                "c: [registries] is of version 1, which isn't supported",
            ),
            (
                "[[registry]]\nprefix = \"x.y\"\n[[registry.mirror]]\nlocation = \"\"",
                "c: a mirror of \"x.y\" has no location",
            ),
            (
                "[[registry]]\nprefix = \"x.y\"\n[[registry.mirror]]\nlocation = \"z\"\npull-from-mirror = \"x\"",
                "c, line 5: unknown variant `x`",
            ),
        ] {
            let error = RegistriesConf::default()
                .add(Path::new("c"), text)
                .unwrap_err();
            assert!(error.to_string().starts_with(want), "{text}: {error}");
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn later_files_win() {
        let scratch = crate::testing::Scratch::new();
        let (main, dir) = (
            scratch.path("registries.conf"),
            scratch.path("registries.conf.d"),
        );
        fs::create_dir(&dir).unwrap();
        fs::write(&main, MIRRORS).unwrap();
        fs::write(
            dir.join("b.conf"),
            "[[registry]]\nlocation = \"docker.io\"\nblocked = true",
        )
        .unwrap();
        fs::write(dir.join("a.conf"), "[[registry]]\nlocation = \"docker.io\"").unwrap();
        fs::write(dir.join("c.bak"), "rubbish").unwrap();
        let conf = RegistriesConf::load(&[scratch.path("none"), main, dir]).unwrap();
        let name = Reference::parse("x").unwrap();
        assert!(matches!(
            conf.endpoints(&name, Access::Pull),
            Err(RegistryError::Blocked { .. })
        ));
        assert!(conf.is_insecure("x.wild.test"));
    }
}
