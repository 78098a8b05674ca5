//! Cache keys: a digest over everything that decides what a step makes, input by input, so that two keys which differ can
//! be told apart (`--explain`).
//!
//! No time stamps, nothing of the host. The same layers below and the same inputs give the same key in any build.

use rctr_storage::cache::StepInput;
use rctr_storage::digest::{Digest, Hasher};
use rctr_storage::image::Image;
use rctr_storage::layer::LayerBlob;

use crate::plan::{CopyFrom, CopyStep, PlannedSource, RunMount, RunStep, WorkdirStep};
use crate::request::BuildRequest;

/// Changes whenever steps come to mean something else.
const VERSION: &str = "rctr build 1";

/// The inputs of a step, collected.
pub(super) struct Inputs {
    hasher: Hasher,
    list: Vec<StepInput>,
}

impl Inputs {
    /// Of a step that stands on `base`.
    pub(super) fn new(kind: &str, base: &Digest) -> Self {
        let mut inputs = Self {
            hasher: Hasher::new(),
            list: Vec::new(),
        };
        inputs.hash(VERSION);
        inputs.hash(kind);
        inputs.add("what it stands on", base.to_string());
        inputs
    }

    fn hash(&mut self, text: &str) {
        self.hasher.update(&(text.len() as u64).to_le_bytes());
        self.hasher.update(text.as_bytes());
    }

    /// An input whose value may be shown.
    pub(super) fn add(&mut self, what: impl Into<String>, value: impl Into<String>) {
        let (what, value) = (what.into(), value.into());
        self.hash(&what);
        self.hash(&value);
        self.list.push(StepInput { what, value });
    }

    /// An input whose value is too long, or nobody's business.
    fn digest(&mut self, what: impl Into<String>, value: &str) {
        self.add(what, Digest::of(value.as_bytes()).to_string());
    }

    /// What another input is made of: told by `--explain`, not hashed again.
    pub(super) fn note(&mut self, parts: Vec<StepInput>) {
        self.list.extend(parts);
    }

    fn some<T: std::fmt::Debug>(&mut self, what: &str, value: &Option<T>) {
        if let Some(value) = value {
            self.add(what, format!("{value:?}"));
        }
    }

    pub(super) fn finish(self) -> (Digest, Vec<StepInput>) {
        (self.hasher.finish(), self.list)
    }
}

/// The key of a stage that starts from nothing.
pub(super) fn scratch() -> Digest {
    Digest::of(b"scratch")
}

/// The key of a stage that starts from an image: its layers, whatever its config says.
pub(super) fn image(image: &Image) -> Digest {
    layers(&image.layers)
}

/// The key of files that don't change.
pub(super) fn layers(layers: &[LayerBlob]) -> Digest {
    let mut hasher = Hasher::new();
    for layer in layers {
        hasher.update(layer.diff_id.to_string().as_bytes());
    }
    hasher.finish()
}

/// RUN, but for the contents of its mounts, which `contents` adds: one call per mount that has some.
pub(super) fn run(inputs: &mut Inputs, step: &RunStep, request: &BuildRequest) {
    inputs.add("the command", format!("{:?}", step.argv));
    for variable in &step.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        inputs.digest(format!("variable {name}"), value);
    }
    inputs.add("the working directory", step.cwd.display().to_string());
    inputs.add("the user", step.user.clone());
    for file in &step.files {
        inputs.digest(format!("heredoc {}", file.path.display()), &file.content);
    }
    for (number, mount) in step.mounts.iter().enumerate() {
        inputs.add(format!("mount {}", number + 1), mount_words(mount));
    }
    inputs.add(
        "--network",
        format!("{:?} {:?}", step.network, request.network),
    );
    inputs.add("--security", format!("{:?}", step.security));
    if !request.extra_hosts.is_empty() {
        inputs.add("--add-host", format!("{:?}", request.extra_hosts));
    }
    inputs.some("--shm-size", &request.shm_size);
    if !request.ulimits.is_empty() {
        inputs.add("--ulimit", format!("{:?}", request.ulimits));
    }
}

/// A mount's options; not what is in it, nor secrets.
fn mount_words(mount: &RunMount) -> String {
    match mount {
        RunMount::Bind {
            target,
            source,
            writable,
            ..
        } => format!("bind {source:?} on {} {writable}", target.display()),
        other => format!("{other:?}"),
    }
}

/// COPY and ADD, but for what is selected.
pub(super) fn copy(inputs: &mut Inputs, step: &CopyStep) {
    inputs.add("the destination", step.destination.clone());
    inputs.some("--chown", &step.chown);
    inputs.some("--chmod", &step.chmod);
    inputs.add("--link", step.link.to_string());
    inputs.add("--parents", step.parents.to_string());
    inputs.add(
        "unpacking",
        format!("{} {}", step.unpack_local, step.unpack_remote),
    );
    inputs.add("--keep-git-dir", step.keep_git_dir.to_string());
}

/// WORKDIR.
pub(super) fn workdir(inputs: &mut Inputs, step: &WorkdirStep) {
    inputs.add("the path", step.path.display().to_string());
    inputs.add("the user", step.user.clone());
}

/// What a selection is remembered by: where from (its key) and what is asked for.
pub(super) fn selection(source: &Digest, step: &CopyStep) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(source.to_string().as_bytes());
    let words = format!(
        "{:?} {:?} {:?} {}",
        step.sources, step.exclude, step.destination, step.parents
    );
    hasher.update(words.as_bytes());
    hasher.finish()
}

/// What a bind mount shows, as a COPY of it would select it.
pub(super) fn mount_selection(source: &str, from: CopyFrom) -> CopyStep {
    let path = if source.is_empty() { "/" } else { source };
    CopyStep {
        sources: vec![PlannedSource::Path(path.to_owned())],
        from,
        destination: "/".to_owned(),
        chown: None,
        chmod: None,
        link: false,
        parents: false,
        exclude: Vec::new(),
        checksum: None,
        keep_git_dir: false,
        unpack_local: false,
        unpack_remote: false,
    }
}
