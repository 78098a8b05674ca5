//! A peer that builds the same Dockerfiles, and what can be compared of two images: configuration and files.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde_json::Value;
use tar::{Archive, EntryType};

use super::sandbox::Sandbox;

/// What of a configuration is the Dockerfile's.
const CONFIG: &[&str] = &[
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
];

/// Mount points and files of containers that a peer may leave in its images: nobody's Dockerfile asked for them.
const OF_CONTAINERS: &[&str] = &[
    "dev",
    "etc/hostname",
    "etc/hosts",
    "etc/mtab",
    "etc/resolv.conf",
    "proc",
    "run",
    "sys",
];

/// An image as text: what `FROM` and the instructions after it have made, by names to compare.
#[derive(Debug)]
pub(crate) struct ImageText {
    /// A line per part: `config Cmd` or a path, and how it is.
    pub(crate) parts: BTreeMap<String, String>,
}

impl ImageText {
    /// Reads the one image of a `docker-archive`.
    pub(crate) fn of_archive(path: &Path) -> Self {
        let members = members(&fs::read(path).unwrap());
        let json = |name: &str| serde_json::from_slice::<Value>(&members[name]).unwrap();
        let manifest = json("manifest.json")[0].clone();
        let mut parts = BTreeMap::new();
        for layer in manifest["Layers"].as_array().unwrap() {
            apply(&mut parts, &members[layer.as_str().unwrap()]);
        }
        parts.retain(|path, _| !of_containers(path));
        let config = json(manifest["Config"].as_str().unwrap())["config"].clone();
        for key in CONFIG {
            if let Some(text) = config_text(&config[key]) {
                parts.insert(format!("config {key}"), text);
            }
        }
        Self { parts }
    }

    /// What differs: name, here, there.
    pub(crate) fn differences(&self, other: &Self) -> Vec<(String, String, String)> {
        let mut names: Vec<_> = self.parts.keys().chain(other.parts.keys()).collect();
        names.sort();
        names.dedup();
        let pair = |name: &String| (name.clone(), self.part(name), other.part(name));
        let all = names.into_iter().map(pair);
        all.filter(|(_, here, there)| here != there).collect()
    }

    /// One of the parts, `-` when it isn't there.
    pub(crate) fn part(&self, name: &str) -> String {
        self.parts.get(name).map_or("-", String::as_str).to_owned()
    }
}

/// buildah as the tests' user, with a store of its own and the image `busybox` of a sandbox.
pub(crate) struct Buildah<'a> {
    sandbox: &'a Sandbox,
}

impl<'a> Buildah<'a> {
    /// Gives it the sandbox's busybox.
    pub(crate) fn new(sandbox: &'a Sandbox) -> Self {
        let buildah = Self { sandbox };
        sandbox.rctr("save -o busybox-saved.tar busybox").ok();
        buildah.run("pull -q docker-archive:busybox-saved.tar");
        buildah
    }

    /// Builds a context below the working directory.
    pub(crate) fn build(&self, name: &str, options: &str) -> ImageText {
        let tar = format!("{name}.peer.tar");
        // Straight into an archive: its store copies all files for each image.
        self.run(&format!(
            "bud -q --isolation chroot --format docker --pull-never -t docker-archive:{tar}:{name}:latest {options} {name}"
        ));
        let mut text = ImageText::of_archive(&self.sandbox.work().join(tar));
        text.forget_mark();
        text
    }

    fn run(&self, words: &str) {
        let store = self.sandbox.dir().join("buildah");
        let store = store.display();
        let line =
            format!("buildah --storage-driver vfs --root {store} --runroot {store}-run {words}");
        let work = self.sandbox.work();
        self.sandbox.program(&line).env("TMPDIR", work).ok();
    }
}

impl ImageText {
    /// buildah's own label.
    fn forget_mark(&mut self) {
        let Some(labels) = self.parts.remove("config Labels") else {
            return;
        };
        let mut labels: Value = serde_json::from_str(&labels).unwrap();
        labels.as_object_mut().unwrap().remove("io.buildah.version");
        if let Some(text) = config_text(&labels) {
            self.parts.insert("config Labels".to_owned(), text);
        }
    }
}

/// JSON, unless it says nothing: absent, null and empty mean the same.
fn config_text(value: &Value) -> Option<String> {
    let says_nothing = match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    (!says_nothing).then(|| value.to_string())
}

fn of_containers(path: &str) -> bool {
    OF_CONTAINERS.iter().any(|p| {
        path.strip_prefix(p)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

fn members(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut members = BTreeMap::new();
    for entry in Archive::new(tar).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        members.insert(plain_path(&entry.path().unwrap()), content);
    }
    members
}

/// Lays a layer over what is there (OCI image-spec, layer.md, "Whiteouts").
fn apply(files: &mut BTreeMap<String, String>, layer: &[u8]) {
    let plain = if layer.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        MultiGzDecoder::new(layer).read_to_end(&mut plain).unwrap();
        plain
    } else {
        layer.to_vec()
    };
    let mut added = BTreeMap::new();
    let mut hard_links = Vec::new();
    for entry in Archive::new(&plain[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = plain_path(&entry.path().unwrap());
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if name == ".wh..wh..opq" {
            remove_below(files, parent);
        } else if let Some(name) = name.strip_prefix(".wh.") {
            let gone = format!("{parent}/{name}");
            let gone = gone.trim_start_matches('/');
            files.remove(gone);
            remove_below(files, gone);
        } else if entry.header().entry_type() == EntryType::Link {
            let target = plain_path(&entry.link_name().unwrap().unwrap());
            hard_links.push((path, target));
        } else {
            let text = file_text(&mut entry);
            added.insert(path, text);
        }
    }
    for (path, text) in added {
        if !text.starts_with("dir") {
            remove_below(files, &path);
        }
        files.insert(path, text);
    }
    for (path, target) in hard_links {
        let text = files[&target].clone();
        files.insert(path, text);
    }
}

fn remove_below(files: &mut BTreeMap<String, String>, dir: &str) {
    let inside = format!("{dir}/");
    files.retain(|path, _| !path.starts_with(&inside));
}

/// `file 644 0:0 "content"`, `dir 755 0:0`, `link → target`.
fn file_text(entry: &mut tar::Entry<'_, &[u8]>) -> String {
    let header = entry.header();
    let kind = header.entry_type();
    let owner = (header.uid().unwrap(), header.gid().unwrap());
    let rights = format!(
        "{:o} {}:{}",
        header.mode().unwrap() & 0o7777,
        owner.0,
        owner.1
    );
    match kind {
        EntryType::Directory => format!("dir {rights}"),
        EntryType::Symlink => {
            let target = entry.link_name().unwrap().unwrap();
            format!("link {}:{} → {}", owner.0, owner.1, target.display())
        }
        EntryType::Regular => {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            match std::str::from_utf8(&content) {
                Ok(text) if text.len() < 200 => format!("file {rights} {text:?}"),
                _ => {
                    let mut hasher = DefaultHasher::new();
                    content.hash(&mut hasher);
                    format!(
                        "file {rights} {} bytes, {:x}",
                        content.len(),
                        hasher.finish()
                    )
                }
            }
        }
        other => format!("{other:?} {rights}"),
    }
}

fn plain_path(path: &Path) -> String {
    let text = path.to_str().unwrap();
    let text = text.trim_start_matches("./").trim_matches('/');
    if text == "." {
        String::new()
    } else {
        text.to_owned()
    }
}
