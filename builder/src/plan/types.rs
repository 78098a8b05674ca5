//! The plan: plain data between the Dockerfile and the engine.

use std::path::PathBuf;
use std::sync::Arc;

use rctr_storage::config::ContainerConfig;
use rctr_storage::image::Image;
use rctr_storage::manifest::Platform;

use crate::dockerfile::{NetworkFlag, SecurityFlag};
use crate::source::{SourceFile, Span, Warning};

/// A whole build.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The Dockerfile.
    pub file: Arc<SourceFile>,
    /// Those that the target needs, each after those that it needs; the last is the target.
    pub stages: Vec<PlannedStage>,
    /// All findings of the build checks, those of the parser included, in the order of their lines.
    pub warnings: Vec<Warning>,
    /// Sentences about the command line: `--build-arg`s that nothing takes.
    pub notes: Vec<String>,
    /// Of the request, `--build-arg SOURCE_DATE_EPOCH`, or a global ARG: what all times become.
    pub epoch: Option<i64>,
    /// `--build-arg BUILDKIT_SANDBOX_HOSTNAME`: what steps see as the host's name.
    pub hostname: Option<String>,
}

/// A stage.
#[derive(Debug, Clone)]
pub struct PlannedStage {
    /// `builder`; `None`: it has no name.
    pub name: Option<String>,
    /// As progress shows it: its name, or `stage-N` with its number in the file; empty for the only stage of a file.
    pub label: String,
    /// Where it starts.
    pub base: Base,
    /// As FROM names the base, expanded: `debian:12`.
    pub base_name: String,
    /// The FROM line.
    pub span: Span,
    /// What makes layers, in order.
    pub steps: Vec<Step>,
    /// The config after the last instruction: the base's with all changes.
    pub config: ContainerConfig,
    /// MAINTAINER, or the base's.
    pub author: Option<String>,
    /// What it is built for.
    pub platform: Platform,
    /// One entry an instruction (the base's not included), in order; those with `step` are in the order of `steps`.
    pub history: Vec<HistoryEntry>,
}

/// How history tells an instruction, in BuildKit's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// `RUN /bin/sh -c apt-get update # buildkit`, `CMD ["a"]`.
    pub created_by: String,
    /// The index in `steps` of the step that made its layer; `None`: it made none.
    pub step: Option<usize>,
}

/// Where a stage starts.
#[derive(Debug, Clone)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An image of the store.
    Image(Box<Image>),
    /// An earlier stage: the index in [`Plan::stages`].
    Stage(usize),
}

/// An instruction that makes a layer.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its lines. Those of the FROM for ONBUILD triggers.
    pub span: Span,
    /// One line, as progress shows it: `RUN apt-get update`, with variables of COPY, ADD and WORKDIR expanded.
    pub name: String,
    /// What it does.
    pub operation: Operation,
}

/// What a step does.
#[derive(Debug, Clone)]
pub enum Operation {
    /// RUN.
    Run(RunStep),
    /// COPY and ADD.
    Copy(CopyStep),
    /// WORKDIR: the directory is made when it is missing.
    Workdir(WorkdirStep),
}

/// RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStep {
    /// Never empty; shell form: with the stage's shell.
    pub argv: Vec<String>,
    /// `NAME=value`: ARGs in scope, then ENV, which wins. `PATH` is always there. Without proxies.
    pub env: Vec<String>,
    /// Predefined proxy ARGs (`http_proxy=…`), in both cases of letters as given: in the environment, but neither in
    /// history nor in the cache key.
    pub proxies: Vec<String>,
    /// Absolute.
    pub cwd: PathBuf,
    /// As USER says; empty: root.
    pub user: String,
    /// Files from heredocs, shown to the process only.
    pub files: Vec<HeredocFile>,
    /// In order.
    pub mounts: Vec<RunMount>,
    /// RUN --network.
    pub network: NetworkFlag,
    /// RUN --security.
    pub security: SecurityFlag,
}

/// A heredoc that is a file: `/dev/pipes/EOF`, executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeredocFile {
    /// Absolute.
    pub path: PathBuf,
    /// Its text.
    pub content: String,
}

/// What a step of `RUN --network=default` sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RunNetwork {
    /// Its own, with a way out.
    #[default]
    Private,
    /// Loopback only.
    None,
    /// The host's.
    Host,
}

/// RUN --mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunMount {
    /// `type=bind`.
    Bind {
        /// Where it comes from.
        from: RunMountFrom,
        /// Path in it; empty: all.
        source: String,
        /// Absolute.
        target: PathBuf,
        /// Writes are discarded, but allowed.
        writable: bool,
    },
    /// `type=cache`.
    Cache {
        /// The target unless given.
        id: String,
        /// Absolute.
        target: PathBuf,
        /// `readonly`.
        read_only: bool,
        /// Among steps.
        sharing: Sharing,
        /// What fills a new one; `None`: nothing.
        from: Option<(RunMountFrom, String)>,
        /// Of a new one.
        mode: u32,
        /// Of a new one.
        uid: u32,
        /// Of a new one.
        gid: u32,
    },
    /// `type=tmpfs`.
    Tmpfs {
        /// Absolute.
        target: PathBuf,
        /// Bytes; 0: no limit.
        size: u64,
    },
    /// `type=secret`.
    Secret {
        /// As in `build --secret id=`.
        id: String,
        /// Absolute file path; `None`: only the variable.
        target: Option<PathBuf>,
        /// Also, or only, a variable of this name.
        env: Option<String>,
        /// Without it the step fails.
        required: bool,
        /// Of the file.
        mode: u32,
        /// Of the file.
        uid: u32,
        /// Of the file.
        gid: u32,
    },
    /// `type=ssh`.
    Ssh {
        /// As in `build --ssh`; `default` unless given.
        id: String,
        /// Of the socket; `None`: `/run/buildkit/ssh_agent.N`.
        target: Option<PathBuf>,
        /// Without it the step fails.
        required: bool,
        /// Of the socket.
        mode: u32,
        /// Of the socket.
        uid: u32,
        /// Of the socket.
        gid: u32,
    },
}

/// Where the files of a mount come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunMountFrom {
    /// The build context.
    Context,
    /// A stage: the index in [`Plan::stages`].
    Stage(usize),
    /// An image of the store: the index in the stages is not needed; its layers, top first.
    Image(Vec<PathBuf>),
    /// `--build-context NAME=DIR`.
    Named(String),
    /// `FROM scratch`: an empty directory.
    Scratch,
}

/// `sharing=` of a cache mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sharing {
    /// By all at once.
    #[default]
    Shared,
    /// One writer at a time, the others get one of their own.
    Private,
    /// The others wait.
    Locked,
}

/// COPY and ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyStep {
    /// In order.
    pub sources: Vec<PlannedSource>,
    /// Where paths are looked up.
    pub from: CopyFrom,
    /// Absolute, WORKDIR applied; a slash at its end says that it is a directory.
    pub destination: String,
    /// `user:group`, names or numbers, as in --chown; `None`: 0:0.
    pub chown: Option<String>,
    /// As in --chmod: octal, or symbolic; checked.
    pub chmod: Option<String>,
    /// --link.
    pub link: bool,
    /// --parents.
    pub parents: bool,
    /// --exclude patterns.
    pub exclude: Vec<String>,
    /// ADD --checksum: `sha256:…`, checked.
    pub checksum: Option<String>,
    /// ADD --keep-git-dir.
    pub keep_git_dir: bool,
    /// Whether local tars are unpacked (ADD without --unpack=false).
    pub unpack_local: bool,
    /// Whether remote tars are unpacked (ADD --unpack=true).
    pub unpack_remote: bool,
}

/// Where COPY looks its paths up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyFrom {
    /// The build context.
    Context,
    /// A stage: the index in [`Plan::stages`].
    Stage(usize),
    /// An image of the store: its ID in hexadecimal digits, and its layers, top first.
    Image(String, Vec<PathBuf>),
    /// `--build-context NAME=DIR`.
    Named(String),
}

/// A source, expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlannedSource {
    /// A path or pattern.
    Path(String),
    /// ADD of an http or https URL.
    Url(String),
    /// ADD of a git repository.
    Git(String),
    /// A file of that name and content.
    Inline {
        /// Of the file.
        name: String,
        /// Expanded, if it is to be.
        content: String,
    },
}

/// WORKDIR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkdirStep {
    /// Absolute.
    pub path: PathBuf,
    /// As USER says: who owns directories that are made. (BuildKit: root, whatever USER says.)
    pub user: String,
}
