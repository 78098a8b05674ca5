//! A context, layers, and steps that are run on them.

use std::cell::{Cell, RefCell};
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rctr_builder::context::Context;
use rctr_builder::copy::{self, CopyError, CopyOrder, Remote, SourceTree};
use rctr_builder::plan::{CopyFrom, CopyStep, PlannedSource};
use rctr_storage::Store;

/// What a test works with; deleted at its end.
pub(crate) struct Place {
    pub(crate) top: PathBuf,
    pub(crate) store: Store,
    count: Cell<u32>,
    /// What was fetched.
    pub(crate) remotes: RefCell<Vec<Remote>>,
}

/// `COPY a b /c` as a step.
pub(crate) fn step(sources: &[&str], destination: &str) -> CopyStep {
    CopyStep {
        sources: sources
            .iter()
            .map(|path| PlannedSource::Path((*path).to_owned()))
            .collect(),
        from: CopyFrom::Context,
        destination: destination.to_owned(),
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

pub(crate) fn add(sources: &[&str], destination: &str) -> CopyStep {
    CopyStep {
        unpack_local: true,
        ..step(sources, destination)
    }
}

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        let base = std::env::var_os("RCTR_TEST_TMP").map_or_else(std::env::temp_dir, PathBuf::from);
        let top = base.join(format!("rctr-copy-{}-{name}", std::process::id()));
        fs::create_dir_all(top.join("context")).unwrap();
        let store = Store::open(&top.join("store")).unwrap();
        Self {
            top,
            store,
            count: Cell::new(0),
            remotes: RefCell::default(),
        }
    }

    pub(crate) fn context_path(&self) -> PathBuf {
        self.top.join("context")
    }

    pub(crate) fn context(&self) -> Context {
        Context::directory(&self.context_path(), &self.store).unwrap()
    }

    /// Writes a file of the context.
    pub(crate) fn file(&self, path: &str, content: &str) -> PathBuf {
        write(&self.context_path().join(path), content)
    }

    pub(crate) fn new_dir(&self) -> PathBuf {
        let count = self.count.get();
        self.count.set(count + 1);
        let dir = self.top.join(format!("layer-{count}"));
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        dir
    }

    /// Runs the step over `lowers` (top first); returns the upper directory.
    pub(crate) fn run(&self, step: &CopyStep, lowers: &[PathBuf]) -> Result<PathBuf, CopyError> {
        let context = self.context();
        self.run_from(step, SourceTree::Context(&context), lowers, None)
    }

    pub(crate) fn run_from(
        &self,
        step: &CopyStep,
        from: SourceTree<'_>,
        lowers: &[PathBuf],
        epoch: Option<i64>,
    ) -> Result<PathBuf, CopyError> {
        let upper = self.new_dir();
        copy::copy(&CopyOrder {
            step,
            from,
            remotes: &self.remotes.borrow(),
            lowers,
            upper: upper.clone(),
            epoch,
            cancel: None,
        })
        .map(|()| upper)
    }

    /// What the step makes on no layers at all.
    pub(crate) fn makes(&self, step: &CopyStep) -> Vec<String> {
        list(&self.run(step, &[]).unwrap())
    }

    pub(crate) fn error(&self, step: &CopyStep, lowers: &[PathBuf]) -> String {
        self.run(step, lowers).unwrap_err().to_string()
    }

    pub(crate) fn digest(&self, step: &CopyStep) -> Result<String, CopyError> {
        let context = self.context();
        let selection = copy::digest(
            step,
            &SourceTree::Context(&context),
            &self.remotes.borrow(),
            None,
        )?;
        context.hashes.save().unwrap();
        Ok(selection.digest.to_string())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let removed = rctr_storage::tree::remove_tree(&self.top);
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

/// Writes a file and the directories on the way.
pub(crate) fn write(path: &Path, content: &str) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    path.to_owned()
}

pub(crate) fn link(target: &str, path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(target, path).unwrap();
}

pub(crate) fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn set_time(path: &Path, seconds: u64) {
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    let file = File::open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
}

pub(crate) fn time(path: &Path) -> i64 {
    fs::symlink_metadata(path).unwrap().mtime()
}

/// A tree as text, sorted: `etc/ 755 0:0`, `etc/a 644 0:0 "content"`, `etc/l -> a 0:0`.
pub(crate) fn list(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    collect(dir, "", &mut lines);
    lines.sort();
    lines
}

fn collect(dir: &Path, prefix: &str, lines: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let meta = fs::symlink_metadata(entry.path()).unwrap();
        let kind = meta.file_type();
        let owner = format!("{}:{}", meta.uid(), meta.gid());
        let mode = format!("{:o}", meta.mode() & 0o7777);
        lines.push(if kind.is_symlink() {
            let target = fs::read_link(entry.path()).unwrap();
            format!("{name} -> {} {owner}", target.display())
        } else if kind.is_dir() {
            format!("{name}/ {mode} {owner}")
        } else if kind.is_fifo() {
            format!("{name}| {mode} {owner}")
        } else if kind.is_file() {
            let content = fs::read(entry.path()).unwrap();
            format!(
                "{name} {mode} {owner} {:?}",
                String::from_utf8_lossy(&content)
            )
        } else {
            format!("{name} device {} {mode} {owner}", meta.rdev())
        });
        if kind.is_dir() {
            collect(&entry.path(), &format!("{name}/"), lines);
        }
    }
}
