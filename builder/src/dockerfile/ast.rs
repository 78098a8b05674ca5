//! A Dockerfile as it was written. Words are as in the file, with quotes, escapes and variables, unless said otherwise.

use std::sync::Arc;

use crate::source::{SourceFile, Span, Warning};

/// A whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// Its text, for excerpts.
    pub file: Arc<SourceFile>,
    /// Directives at its top.
    pub directives: Directives,
    /// ARG before the first FROM.
    pub global_args: Vec<Located<Vec<Argument>>>,
    /// At least one.
    pub stages: Vec<Stage>,
    /// What build checks found that need nothing but the text.
    pub warnings: Vec<Warning>,
}

/// Parser directives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// `\` or a backtick.
    pub escape: char,
    /// `# syntax=`: accepted, never fetched.
    pub syntax: Option<String>,
    /// `# check=`.
    pub check: Check,
}

/// `# check=skip=…;error=true;experimental=…`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Check {
    /// `skip=all`.
    pub skip_all: bool,
    /// Names of rules.
    pub skip: Vec<String>,
    /// `experimental=all`.
    pub experimental_all: bool,
    /// Names of rules that are off otherwise.
    pub experimental: Vec<String>,
    /// Findings fail the build.
    pub error: bool,
}

/// A thing and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// Its lines.
    pub span: Span,
    /// The instruction on one line, as history and progress show it: continuation lines joined, comments left out,
    /// heredocs' content not included.
    pub text: String,
    /// The thing.
    pub node: T,
}

/// FROM and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The FROM line.
    pub from: Located<FromInstruction>,
    /// In order.
    pub instructions: Vec<Located<Instruction>>,
}

/// `FROM [--platform=P] IMAGE [AS NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromInstruction {
    /// Image, stage or `scratch`.
    pub image: String,
    /// Lower case.
    pub name: Option<String>,
    /// `--platform`.
    pub platform: Option<String>,
}

/// `ARG NAME[=VALUE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// Without quotes.
    pub name: String,
    /// As written.
    pub default: Option<String>,
}

/// An instruction within a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// ADD.
    Add(CopyInstruction),
    /// ARG.
    Arg(Vec<Argument>),
    /// CMD.
    Cmd(CommandLine),
    /// COPY.
    Copy(CopyInstruction),
    /// ENTRYPOINT.
    Entrypoint(CommandLine),
    /// ENV: names and values; the old form `ENV NAME VALUE` is one pair.
    Env(Vec<(String, String)>),
    /// EXPOSE.
    Expose(Vec<String>),
    /// HEALTHCHECK.
    Healthcheck(HealthcheckInstruction),
    /// LABEL: names and values.
    Label(Vec<(String, String)>),
    /// MAINTAINER.
    Maintainer(String),
    /// ONBUILD: the instruction, as text.
    Onbuild(String),
    /// RUN.
    Run(RunInstruction),
    /// SHELL: JSON words, as they are meant.
    Shell(Vec<String>),
    /// STOPSIGNAL.
    Stopsignal(String),
    /// USER.
    User(String),
    /// VOLUME.
    Volume(Vec<String>),
    /// WORKDIR.
    Workdir(String),
}

/// A command in one of its two forms. Not expanded: the shell in the container does that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// A line for the stage's shell, continuation lines joined.
    Shell(String),
    /// JSON words, as they are meant.
    Exec(Vec<String>),
}

/// `<<NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The word, without quotes.
    pub name: String,
    /// Lines with their ends; tabs removed if `<<-`.
    pub content: String,
    /// False: the word was quoted, so nothing in it is expanded.
    pub expand: bool,
    /// The descriptor in `3<<NAME`; 0 if none was given.
    pub fd: u32,
}

/// RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunInstruction {
    /// The command; for heredocs the line with the `<<NAME` words still in it.
    pub command: CommandLine,
    /// In order.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`.
    pub mounts: Vec<MountFlag>,
    /// `--network`.
    pub network: NetworkFlag,
    /// `--security`.
    pub security: SecurityFlag,
}

/// `--mount=KEY=VALUE,…`: pairs in order (a key without value has an empty one), values not expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// In order; keys lower case.
    pub options: Vec<(String, String)>,
}

impl MountFlag {
    /// All keys, of all types.
    pub const KEYS: &[&str] = &[
        "type",
        "from",
        "source",
        "src",
        "target",
        "dst",
        "destination",
        "readonly",
        "ro",
        "readwrite",
        "rw",
        "required",
        "id",
        "sharing",
        "size",
        "mode",
        "uid",
        "gid",
        "env",
    ];
    /// Values of `type`.
    pub const TYPES: &[&str] = &["bind", "cache", "tmpfs", "secret", "ssh"];
    /// Values of `sharing`.
    pub const SHARING: &[&str] = &["shared", "private", "locked"];
}

/// RUN --network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NetworkFlag {
    /// As `build --network` says.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's.
    Host,
}

/// RUN --security.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SecurityFlag {
    /// The usual one.
    #[default]
    Sandbox,
    /// `insecure`: all capabilities, no filter.
    Insecure,
}

/// COPY and ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyInstruction {
    /// At least one.
    pub sources: Vec<CopySource>,
    /// Where to.
    pub destination: String,
    /// COPY --from.
    pub from: Option<String>,
    /// --chown.
    pub chown: Option<String>,
    /// --chmod.
    pub chmod: Option<String>,
    /// --link.
    pub link: bool,
    /// COPY --parents.
    pub parents: bool,
    /// --exclude.
    pub exclude: Vec<String>,
    /// ADD --checksum.
    pub checksum: Option<String>,
    /// ADD --keep-git-dir.
    pub keep_git_dir: bool,
    /// ADD --unpack; `None`: local tars are, remote ones aren't.
    pub unpack: Option<bool>,
}

/// A source of COPY and ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// A path, a pattern, a URL.
    Path(String),
    /// A file of that name.
    Heredoc(Heredoc),
}

/// HEALTHCHECK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthcheckInstruction {
    /// `NONE`.
    None,
    /// `[OPTIONS] CMD …`. Durations are as written (`30s`), and checked.
    Check {
        /// What runs.
        command: CommandLine,
        /// Nanoseconds; 0: inherited.
        interval: i64,
        /// Nanoseconds; 0: inherited.
        timeout: i64,
        /// Nanoseconds; 0: inherited.
        start_period: i64,
        /// Nanoseconds; 0: inherited.
        start_interval: i64,
        /// 0: inherited.
        retries: i64,
    },
}
