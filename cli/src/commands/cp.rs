//! `rctr cp`: between a container, running or not, and the host's files or a tar stream.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::thread;

use clap::{ArgMatches, Command};
use rctr_storage::Store;
use rctr_storage::container::Container;
use rctr_storage::tree::{self, Follow, Found, PackOptions, TreeError, UnpackOptions};

use super::{save, start, words};
use crate::command::Verb;
use crate::context::Context;
use crate::files::{self, Volumes};
use crate::report::{ENGINE, Failure};
use crate::request::mounts::clean;

/// `cp`.
pub(crate) const VERB: Verb = Verb {
    names: &["cp", "container cp"],
    about: "Copy files into or out of a container",
    args,
    run,
};

/// Symbolic links in the destination, as the kernel's own limit.
const LINKS: usize = 40;

fn args(command: Command) -> Command {
    let command = command
        .args_override_self(true)
        .override_usage("rctr cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n       rctr cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH")
        .arg(words::on("archive", Some('a'), "Keep owners and groups"))
        .arg(words::on("follow-link", Some('L'), "Copy what a link at the source leads to"))
        .arg(words::on("quiet", Some('q'), "Show no progress (there is none)"));
    let command = words::required(command, "source", "SOURCE");
    words::required(command, "destination", "DESTINATION")
}

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// Name and path in it.
    Container(String, String),
    /// A path on the host.
    Host(String),
    /// Standard input or output.
    Stream,
}

impl Place {
    /// As docker reads it: absolute paths, and those whose part before a colon starts with a dot, are the host's.
    fn parse(word: &str) -> Self {
        if word == "-" {
            return Self::Stream;
        }
        match word.split_once(':') {
            Some((name, path)) if !word.starts_with(['/', '.']) && !name.is_empty() => {
                Self::Container(name.to_owned(), path.to_owned())
            }
            _ => Self::Host(word.to_owned()),
        }
    }
}

/// How a copy is made.
struct Manner {
    owners: Owners,
    follow: Follow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owners {
    /// `-a`.
    Kept,
    /// Root inside, the caller outside: the same one, seen from the container's user namespace.
    Root,
}

impl Manner {
    /// Modes stay as they are, set-user-ID and set-group-ID included, as docker's and podman's do (and `cp -a`'s): an
    /// owner's copy runs as that owner only. What a container has made so and is copied to where others can reach it
    /// runs as the caller for them: whoever doesn't trust the container copies into a directory of his own.
    fn unpack(&self) -> UnpackOptions {
        UnpackOptions {
            owner: match self.owners {
                Owners::Kept => None,
                Owners::Root => Some((0, 0)),
            },
        }
    }
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let place = |id: &str| Place::parse(words::text(matches, id).unwrap_or_default());
    let manner = Manner {
        owners: if words::is_on(matches, "archive") {
            Owners::Kept
        } else {
            Owners::Root
        },
        follow: if words::is_on(matches, "follow-link") {
            Follow::Yes
        } else {
            Follow::No
        },
    };
    let store = Store::open(&context.root)?;
    let find = |name: &str| store.find_container(name).map_err(Failure::from);
    match (place("source"), place("destination")) {
        (Place::Container(..), Place::Container(..)) => {
            Err(Failure::new("copying between containers is not supported")
                .hint("copy to the host first, or: rctr cp A:PATH - | rctr cp - B:DIRECTORY"))
        }
        (Place::Container(name, path), Place::Stream) => {
            save::refuse_terminal()?;
            let container = find(&name)?;
            let root = files::enter(context, &store, &container, Volumes::Shown)?;
            to_stream(&root, &Inside::new(&name, &path), &manner)
        }
        (Place::Container(name, path), Place::Host(destination)) => {
            let destination = absolute(&destination)?;
            let container = find(&name)?;
            let root = files::enter(context, &store, &container, Volumes::Shown)?;
            to_host(&root, &Inside::new(&name, &path), &destination, &manner)
        }
        (source @ (Place::Host(_) | Place::Stream), Place::Container(name, path)) => {
            let source = match source {
                Place::Host(path) => Some(absolute(&path)?),
                _ if io::stdin().is_terminal() => {
                    return Err(Failure::new(
                        "standard input is a terminal, not a tar stream",
                    ));
                }
                _ => None,
            };
            let container = find(&name)?;
            check_writable(&container)?;
            let root = files::enter(context, &store, &container, Volumes::Shown)?;
            let inside = Inside::new(&name, &path);
            match source {
                Some(source) => from_host(&root, &source, &inside, &manner),
                None => from_stream(&root, &inside),
            }
        }
        _ => Err(Failure::new("must specify at least one container source")
            .hint("one side is CONTAINER:PATH")
            .code(1)),
    }?;
    Ok(0)
}

/// The files of a stopped container are mounted writable, whatever it asked for.
fn check_writable(container: &Container) -> Result<(), Failure> {
    if container.record.host_config.readonly_rootfs && !start::is_up(container) {
        return Err(Failure::new("container rootfs is marked read-only"));
    }
    Ok(())
}

/// A path in a container.
struct Inside {
    /// As the user calls the container.
    container: String,
    /// As given, from the root.
    path: String,
}

impl Inside {
    fn new(container: &str, path: &str) -> Self {
        Self {
            container: container.to_owned(),
            path: format!("/{}", path.trim_start_matches('/')),
        }
    }

    fn look(&self, root: &Path, follow: Follow) -> Result<Option<Found>, Failure> {
        Ok(tree::look(root, &self.path, follow)?)
    }

    fn missing(&self) -> Failure {
        Failure::new(format!(
            "No such container:path: {}:{}",
            self.container, self.path
        ))
    }
}

/// Absolute; a trailing slash or dot stays.
fn absolute(path: &str) -> Result<String, Failure> {
    if path.starts_with('/') {
        return Ok(path.to_owned());
    }
    let here = std::env::current_dir()
        .map_err(|error| super::create::io_failure("cannot tell the current directory", &error))?;
    Ok(format!("{}/{path}", here.display()))
}

/// The last name of a path; empty for the root.
fn base(path: &str) -> String {
    clean(path)
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// The directory of a path.
fn parent(path: &str) -> String {
    let path = clean(path);
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/".to_owned(),
        Some((parent, _)) => parent.to_owned(),
    }
}

/// What is to be copied: its contents (`DIR/.`) or itself.
fn wants_contents(path: &str) -> bool {
    path.ends_with("/.") || clean(path) == "/"
}

/// The path says that it is a directory.
fn says_directory(path: &str) -> bool {
    path.ends_with('/') || path.ends_with("/.")
}

/// Where a copy goes: the directory that is unpacked into, and the name of the copy in it (empty: the contents only).
#[derive(Debug, PartialEq, Eq)]
struct Target {
    directory: String,
    name: String,
}

/// Docker's table. `existing` is whether the destination is a directory, `None` when it isn't there.
fn target(
    source: &str,
    is_directory: bool,
    destination: &str,
    existing: Option<bool>,
) -> Result<Target, String> {
    let into = |name: String| Target {
        directory: clean(destination),
        name,
    };
    let renamed = || Target {
        directory: parent(destination),
        name: base(destination),
    };
    match (existing, is_directory) {
        (Some(true), true) if wants_contents(source) => Ok(into(String::new())),
        (Some(true), _) => Ok(into(base(source))),
        (Some(false), _) if says_directory(destination) => {
            Err(format!("{destination}: not a directory"))
        }
        (Some(false), true) => Err(format!("cannot copy a directory to the file {destination}")),
        (None, false) if says_directory(destination) => {
            Err(format!("{destination}: no such directory"))
        }
        (Some(false) | None, _) => Ok(renamed()),
    }
}

fn to_stream(root: &Path, source: &Inside, manner: &Manner) -> Result<(), Failure> {
    let found = source
        .look(root, manner.follow)?
        .ok_or_else(|| source.missing())?;
    let name = match found {
        Found::Directory if wants_contents(&source.path) => String::new(),
        _ => base(&source.path),
    };
    let options = PackOptions {
        name,
        follow: manner.follow,
        ..PackOptions::default()
    };
    let mut out = io::stdout().lock();
    tree::pack(root, &source.path, &options, &mut out)?;
    out.flush().map_err(|source| TreeError::Write { source })?;
    Ok(())
}

fn to_host(
    root: &Path,
    source: &Inside,
    destination: &str,
    manner: &Manner,
) -> Result<(), Failure> {
    let found = source
        .look(root, manner.follow)?
        .ok_or_else(|| source.missing())?;
    check_source(&source.path, &found)?;
    // The host's own links are followed, as by any program.
    let real = std::fs::canonicalize(destination);
    let (destination, existing) = match &real {
        Ok(path) => (
            keep_tail(&path.to_string_lossy(), destination),
            Some(path.is_dir()),
        ),
        Err(_) => (destination.to_owned(), None),
    };
    let target = target(
        &source.path,
        found == Found::Directory,
        &destination,
        existing,
    )
    .map_err(Failure::new)?;
    let options = PackOptions {
        name: target.name.clone(),
        follow: manner.follow,
        ..PackOptions::default()
    };
    if !Path::new(&target.directory).is_dir() {
        return Err(Failure::new(format!(
            "{}: no such directory",
            target.directory
        )));
    }
    // Nothing of the container's leads out of the directory: it is the root of what is unpacked.
    stream(
        (root, &source.path, &options),
        (Path::new(&target.directory), "/", &manner.unpack()),
    )
}

fn from_host(
    root: &Path,
    source: &str,
    destination: &Inside,
    manner: &Manner,
) -> Result<(), Failure> {
    let meta = match manner.follow {
        Follow::Yes => std::fs::metadata(source),
        Follow::No => std::fs::symlink_metadata(if source.len() > 1 {
            source.trim_end_matches('/')
        } else {
            source
        }),
    };
    let meta =
        meta.map_err(|error| super::create::io_failure(format!("cannot read {source}"), &error))?;
    let kind = if meta.is_dir() || says_directory(source) && Path::new(source).is_dir() {
        Found::Directory
    } else {
        Found::Other
    };
    check_source(source, &kind)?;
    let (path, existing) = resolve(root, destination)?;
    let target = target(source, kind == Found::Directory, &path, existing).map_err(Failure::new)?;
    if tree::look(root, &target.directory, Follow::Yes)? != Some(Found::Directory) {
        return Err(Inside::new(&destination.container, &target.directory).missing());
    }
    let options = PackOptions {
        name: target.name.clone(),
        follow: manner.follow,
        ..PackOptions::default()
    };
    stream(
        (Path::new("/"), source, &options),
        (root, &target.directory, &manner.unpack()),
    )
}

fn from_stream(root: &Path, destination: &Inside) -> Result<(), Failure> {
    let (path, existing) = resolve(root, destination)?;
    match existing {
        Some(true) => {}
        Some(false) => {
            return Err(Failure::new(format!(
                "destination \"{}:{}\" must be a directory",
                destination.container, destination.path
            )));
        }
        None => return Err(destination.missing()),
    }
    tree::unpack(
        root,
        &path,
        &mut io::stdin().lock(),
        &UnpackOptions { owner: None },
    )?;
    Ok(())
}

/// A path that says that it is a directory must be one.
fn check_source(path: &str, found: &Found) -> Result<(), Failure> {
    if says_directory(path) && *found != Found::Directory {
        return Err(Failure::new(format!("{path}: not a directory")));
    }
    Ok(())
}

/// The destination with the links at its end followed, and whether it is a directory; `None`: nothing is there.
fn resolve(root: &Path, destination: &Inside) -> Result<(String, Option<bool>), Failure> {
    let mut path = destination.path.clone();
    for _ in 0..LINKS {
        match tree::look(root, &path, Follow::No)? {
            Some(Found::Link(target)) => {
                let target = target.to_string_lossy();
                let next = match target.strip_prefix('/') {
                    Some(_) => target.to_string(),
                    None => format!("{}/{target}", parent(&path)),
                };
                path = keep_tail(&clean(&next), &path);
            }
            found => return Ok((path, found.map(|found| found == Found::Directory))),
        }
    }
    Err(Failure::new(format!(
        "too many levels of symbolic links: {}",
        destination.path
    )))
}

/// `path` with the trailing slash of `given`.
fn keep_tail(path: &str, given: &str) -> String {
    if says_directory(given) && !path.ends_with('/') {
        format!("{path}/")
    } else {
        path.to_owned()
    }
}

/// Packs at one end and unpacks at the other.
fn stream(
    (from, path, pack): (&Path, &str, &PackOptions),
    (to, directory, unpack): (&Path, &str, &UnpackOptions),
) -> Result<(), Failure> {
    let (mut reader, mut writer) = io::pipe()
        .map_err(|error| super::create::io_failure("cannot make a pipe", &error).code(ENGINE))?;
    let (packed, unpacked) = thread::scope(|scope| {
        let packing = scope.spawn(move || {
            let result = tree::pack(from, path, pack, &mut writer);
            drop(writer);
            result
        });
        let unpacked = tree::unpack(to, directory, &mut reader, unpack);
        drop(reader);
        (packing.join().expect("packing doesn't panic"), unpacked)
    });
    match packed {
        // It stopped because the other end did, whose error is the news.
        Err(TreeError::Write { .. }) if unpacked.is_err() => {}
        packed => packed?,
    }
    Ok(unpacked?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart() {
        for (word, place) in [
            ("-", Place::Stream),
            ("c:/x", Place::Container("c".to_owned(), "/x".to_owned())),
            ("c:x/", Place::Container("c".to_owned(), "x/".to_owned())),
            ("/a:b", Place::Host("/a:b".to_owned())),
            ("./a:b", Place::Host("./a:b".to_owned())),
            ("plain", Place::Host("plain".to_owned())),
            (":x", Place::Host(":x".to_owned())),
        ] {
            assert_eq!(Place::parse(word), place, "{word}");
        }
    }

    /// (source, is it a directory, destination, is that one there and a directory) to (directory, name).
    #[test]
    fn targets_follow_docker_s_table() {
        for (source, directory, destination, existing, result) in [
            ("/f", false, "/d", Some(true), Some(("/d", "f"))),
            ("/f", false, "/d/", Some(true), Some(("/d", "f"))),
            ("/f", false, "/g", Some(false), Some(("/", "g"))),
            ("/f", false, "/g", None, Some(("/", "g"))),
            ("/f", false, "/g/", None, None),
            ("/f", false, "/g/", Some(false), None),
            ("/s", true, "/d", Some(true), Some(("/d", "s"))),
            ("/s/", true, "/d", Some(true), Some(("/d", "s"))),
            ("/s/.", true, "/d", Some(true), Some(("/d", ""))),
            ("/s/.", true, "/x/new", None, Some(("/x", "new"))),
            ("/s", true, "/x/new/", None, Some(("/x", "new"))),
            ("/s", true, "/g", Some(false), None),
            ("/", true, "/d", Some(true), Some(("/d", ""))),
        ] {
            let got = target(source, directory, destination, existing).ok();
            let want = result.map(|(directory, name)| Target {
                directory: directory.to_owned(),
                name: name.to_owned(),
            });
            assert_eq!(got, want, "{source} {destination} {existing:?}");
        }
    }
}
