//! What `run` and `create` are asked for: flags to [`RunRequest`], a plain value. Nothing is read or looked up here;
//! files, the caller's environment and directory come in with [`settle`], images and other containers with
//! [`crate::merge`].

use std::path::PathBuf;

use clap::ArgMatches;
use rctr_storage::config::{ContainerConfig, Healthcheck};
use rctr_storage::manifest::Platform;
use rctr_storage::record::{HostConfig, LogConfig, MountRequest, RestartPolicy};

use crate::report::{ENGINE, Failure};
use rctr_runtime::signals;

pub(crate) mod build;
mod build_cache;
pub(crate) mod build_output;
pub(crate) mod flags;
mod health;
mod isolation;
pub(crate) mod limits;
pub(crate) mod mounts;
mod network;
pub(crate) mod settle;
pub(crate) mod values;

pub(crate) use network::Network;

/// When an image is to be pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Pull {
    /// If it isn't local.
    #[default]
    Missing,
    /// In any case.
    Always,
    /// If the registry has another one by now, and answers.
    Newer,
    /// A missing image is an error.
    Never,
}

/// What the client is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Streams {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// Everything that was asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RunRequest {
    /// As given.
    pub(crate) image: String,
    /// Words after the image; empty: the image's.
    pub(crate) command: Vec<String>,
    /// `--name`.
    pub(crate) name: Option<String>,
    /// `--cidfile`.
    pub(crate) cidfile: Option<PathBuf>,
    /// `--platform`.
    pub(crate) platform: Option<Platform>,
    /// `--pull`.
    pub(crate) pull: Pull,
    /// `-q`.
    pub(crate) quiet: bool,
    /// `-d`.
    pub(crate) detach: bool,
    /// Streams that the client shows.
    pub(crate) attach: Streams,
    /// `--detach-keys`.
    pub(crate) detach_keys: Option<String>,
    /// `--sig-proxy`.
    pub(crate) sig_proxy: bool,
    /// `-e` words: `NAME=value`, or `NAME` until settled.
    pub(crate) env: Vec<String>,
    /// `--env-file`, read first.
    pub(crate) env_files: Vec<PathBuf>,
    /// `--label` words.
    pub(crate) labels: Vec<String>,
    /// `--label-file`, read first.
    pub(crate) label_files: Vec<PathBuf>,
    /// `--entrypoint`; an empty list takes the image's away.
    pub(crate) entrypoint: Option<Vec<String>>,
    /// Overrides of the image's config; env, labels, command and entrypoint are above.
    pub(crate) config: ContainerConfig,
    /// What concerns the host; network and mounts are beside.
    pub(crate) host: HostConfig,
    /// `--network`.
    pub(crate) network: Network,
    /// `-v`, `--mount` and `--tmpfs`, in that order.
    pub(crate) mounts: Vec<MountRequest>,
    /// `--volumes-from`: container, read-only.
    pub(crate) volumes_from: Vec<(String, bool)>,
    /// What was accepted and has no effect, in words for the user.
    pub(crate) warnings: Vec<String>,
}

/// The flags as clap read them.
pub(crate) struct Given<'a> {
    matches: &'a ArgMatches,
    /// `run` or `create`.
    verb: &'static str,
}

impl<'a> Given<'a> {
    /// The last value of a flag.
    fn one(&self, flag: &str) -> Option<&'a str> {
        self.matches.get_one::<String>(flag).map(String::as_str)
    }

    /// The last value, or nothing.
    fn text(&self, flag: &str) -> String {
        self.one(flag).unwrap_or_default().to_owned()
    }

    /// All values of a flag.
    fn many(&self, flag: &str) -> Vec<String> {
        self.matches
            .get_many::<String>(flag)
            .map(|values| values.cloned().collect())
            .unwrap_or_default()
    }

    /// A switch.
    fn on(&self, flag: &str) -> bool {
        self.matches.get_one::<bool>(flag).copied().unwrap_or(false)
    }

    /// Whether `run` has this flag, and its value.
    fn run_only(&self, flag: &str) -> Option<bool> {
        self.matches
            .try_get_one::<bool>(flag)
            .ok()
            .flatten()
            .copied()
    }

    /// The error of a flag whose value is refused.
    fn bad(&self, flag: &str, value: &str, why: impl std::fmt::Display) -> Failure {
        let shown = flags::CREATE
            .iter()
            .chain(flags::RUN)
            .find(|f| f.long == flag && f.short != '\0')
            .map_or_else(
                || format!("--{flag}"),
                |f| format!("-{}, --{flag}", f.short),
            );
        self.refuse(format!(
            "invalid argument {value:?} for \"{shown}\" flag: {why}"
        ))
    }

    /// Any refusal: exit code 125.
    fn refuse(&self, message: impl Into<String>) -> Failure {
        Failure::new(message)
            .code(ENGINE)
            .hint(format!("see 'rctr {} --help'", self.verb))
    }

    /// Parses the value of a flag, when it is given.
    fn parsed<T, E: std::fmt::Display>(
        &self,
        flag: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Failure> {
        self.one(flag)
            .map(|value| parse(value).map_err(|why| self.bad(flag, value, why)))
            .transpose()
    }

    /// A number, when it is given.
    fn number<T: std::str::FromStr>(&self, flag: &str) -> Result<Option<T>, Failure> {
        self.parsed(flag, |value| {
            value.parse().map_err(|_| "not a number in range")
        })
    }
}

impl RunRequest {
    /// From the flags of `verb` (`run` or `create`).
    ///
    /// # Errors
    /// A bad value, or flags that contradict each other: exit code 125.
    pub(crate) fn parse(matches: &ArgMatches, verb: &'static str) -> Result<Self, Failure> {
        let given = Given { matches, verb };
        let mut words = given.many(flags::WORDS).into_iter();
        let mut request = Self {
            image: words.next().unwrap_or_default(),
            command: words.collect(),
            name: given.one("name").map(str::to_owned),
            cidfile: given.one("cidfile").map(PathBuf::from),
            platform: given.parsed("platform", Platform::parse)?,
            detach: given.run_only("detach").unwrap_or(false),
            detach_keys: given
                .matches
                .try_get_one::<String>("detach-keys")
                .ok()
                .flatten()
                .cloned(),
            sig_proxy: given.run_only("sig-proxy").unwrap_or(true),
            quiet: given.on("quiet"),
            env: given.many("env"),
            env_files: given
                .many("env-file")
                .into_iter()
                .map(PathBuf::from)
                .collect(),
            labels: given.many("label"),
            label_files: given
                .many("label-file")
                .into_iter()
                .map(PathBuf::from)
                .collect(),
            entrypoint: given.one("entrypoint").map(|word| match word {
                "" => Vec::new(),
                word => vec![word.to_owned()],
            }),
            ..Self::default()
        };
        request.pull = given.parsed("pull", parse_pull)?.unwrap_or_default();
        config(&given, &mut request)?;
        streams(&given, &mut request)?;
        request.config.healthcheck = healthcheck(&given)?;
        host(&given, &mut request)?;
        isolation::parse(&given, &mut request)?;
        limits::parse(&given, &mut request)?;
        network::parse(&given, &mut request)?;
        isolation::check_sysctls(&given, &request)?;
        storage(&given, &mut request)?;
        if let Some(word) = request
            .env
            .iter()
            .find(|w| w.is_empty() || w.starts_with('='))
        {
            return Err(given.bad("env", word, "invalid environment variable"));
        }
        if let Some(word) = request
            .labels
            .iter()
            .find(|w| w.is_empty() || w.starts_with('='))
        {
            return Err(given.bad("label", word, "invalid label format"));
        }
        Ok(request)
    }
}

fn parse_pull(text: &str) -> Result<Pull, String> {
    match text {
        "" | "missing" => Ok(Pull::Missing),
        "always" => Ok(Pull::Always),
        "newer" => Ok(Pull::Newer),
        "never" => Ok(Pull::Never),
        _ => Err(format!(
            "invalid pull option: '{text}': must be one of \"always\", \"missing\", \"newer\" or \"never\""
        )),
    }
}

fn config(given: &Given<'_>, request: &mut RunRequest) -> Result<(), Failure> {
    let config = &mut request.config;
    config.hostname = given.text("hostname");
    config.domainname = given.text("domainname");
    if config.hostname.len() > 64 || config.hostname.contains(['/', '\n', '\0', ' ']) {
        return Err(given.bad("hostname", &config.hostname, "invalid hostname format"));
    }
    config.user = given.text("user");
    config.working_dir = given.text("workdir");
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(given.refuse(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    config.tty = given.on("tty");
    config.open_stdin = given.on("interactive");
    config.stop_signal = given.text("stop-signal");
    if !config.stop_signal.is_empty() && signals::parse(&config.stop_signal).is_none() {
        return Err(given.refuse(format!("invalid signal: {}", config.stop_signal)));
    }
    config.stop_timeout = given.number("stop-timeout")?;
    for text in given.many("expose") {
        values::expose(config, &text).map_err(|why| given.refuse(why))?;
    }
    Ok(())
}

/// Docker's rules: without `-a` and `-d` stdout and stderr are shown, and stdin under `-i`.
fn streams(given: &Given<'_>, request: &mut RunRequest) -> Result<(), Failure> {
    let words = given.many("attach");
    let mut streams = Streams::default();
    for word in &words {
        match word.to_ascii_lowercase().as_str() {
            "stdin" => streams.stdin = true,
            "stdout" => streams.stdout = true,
            "stderr" => streams.stderr = true,
            _ => {
                let why = "valid streams are STDIN, STDOUT and STDERR";
                return Err(given.bad("attach", word, why));
            }
        }
    }
    if request.detach && !words.is_empty() {
        return Err(given.refuse("conflicting options: cannot specify both --attach and --detach"));
    }
    if words.is_empty() && !request.detach {
        streams = Streams {
            stdin: request.config.open_stdin,
            stdout: true,
            stderr: true,
        };
    }
    request.attach = streams;
    let config = &mut request.config;
    config.attach_stdin = streams.stdin;
    config.attach_stdout = streams.stdout;
    config.attach_stderr = streams.stderr;
    config.stdin_once = config.open_stdin && streams.stdin;
    Ok(())
}

fn healthcheck(given: &Given<'_>) -> Result<Option<Healthcheck>, Failure> {
    let spec = health::Options {
        none: given.on("no-healthcheck"),
        command: given.one("health-cmd"),
        interval: given.one("health-interval"),
        timeout: given.one("health-timeout"),
        start_period: given.one("health-start-period"),
        start_interval: given.one("health-start-interval"),
        retries: given.one("health-retries"),
    };
    spec.parse().map_err(|why| given.refuse(why))
}

fn host(given: &Given<'_>, request: &mut RunRequest) -> Result<(), Failure> {
    let host = &mut request.host;
    host.container_id_file = given.text("cidfile");
    host.auto_remove = given.on("rm");
    host.readonly_rootfs = given.on("read-only");
    host.init = given.on("init");
    host.group_add = given.many("group-add");
    host.annotations = values::pairs(&given.many("annotation"));
    host.restart_policy = given
        .one("restart")
        .map_or_else(|| Ok(RestartPolicy::default()), parse_restart)
        .map_err(|why| given.refuse(why))?;
    let restarts = !matches!(host.restart_policy.name.as_str(), "" | "no");
    if host.auto_remove && restarts {
        return Err(given.refuse("conflicting options: cannot specify both --restart and --rm"));
    }
    host.log_config = log_config(given).map_err(|why| given.refuse(why))?;
    Ok(())
}

/// `no`, `always`, `unless-stopped`, `on-failure[:times]`.
///
/// # Errors
/// Docker's messages.
pub(crate) fn parse_restart(text: &str) -> Result<RestartPolicy, String> {
    let (name, count) = match text.split_once(':') {
        Some((name, count)) => (name, Some(count)),
        None => (text, None),
    };
    let maximum_retry_count = match count {
        None => 0,
        Some(count) => count
            .parse()
            .map_err(|_| "invalid restart policy format: maximum retry count must be an integer")?,
    };
    match name {
        "" if count.is_some() => {
            return Err(
                "invalid restart policy format: no policy provided before colon".to_owned(),
            );
        }
        "on-failure" => {}
        "" | "no" | "always" | "unless-stopped" if count.is_none() => {}
        "no" | "always" | "unless-stopped" => {
            return Err(format!(
                "invalid restart policy: maximum retry count can only be used with 'on-failure', not '{name}'"
            ));
        }
        _ => {
            return Err(format!(
                "invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            ));
        }
    }
    Ok(RestartPolicy {
        name: if name.is_empty() { "no" } else { name }.to_owned(),
        maximum_retry_count,
    })
}

fn log_config(given: &Given<'_>) -> Result<LogConfig, String> {
    let driver = match given.one("log-driver") {
        None | Some("") => "json-file",
        Some(driver @ ("json-file" | "local" | "none")) => driver,
        Some(other) => {
            return Err(format!(
                "no log driver named '{other}': json-file, local and none are available"
            ));
        }
    };
    let config = values::pairs(&given.many("log-opt"));
    for (name, value) in &config {
        match name.as_str() {
            "max-size" => drop(values::parse_size(value)?),
            "max-file" => drop(
                value
                    .parse::<u32>()
                    .ok()
                    .filter(|n| *n > 0)
                    .ok_or_else(|| format!("invalid max-file {value:?}: want a number from 1"))?,
            ),
            "mode" | "max-buffer-size" | "compress" | "labels" | "labels-regex" | "env"
            | "env-regex" | "tag" => {}
            _ => return Err(format!("unknown log opt '{name}' for {driver} log driver")),
        }
    }
    if driver == "none" && !config.is_empty() {
        return Err("log options need a log driver other than none".to_owned());
    }
    Ok(LogConfig {
        driver: driver.to_owned(),
        config,
    })
}

fn storage(given: &Given<'_>, request: &mut RunRequest) -> Result<(), Failure> {
    let refuse = |why: String| given.refuse(why);
    for text in given.many("volume") {
        let parsed = mounts::parse_volume(&text).map_err(refuse)?;
        if parsed.source.is_empty() {
            request
                .config
                .volumes
                .insert(parsed.target.clone(), Default::default());
        } else {
            request.host.binds.push(text);
        }
        request.mounts.push(parsed);
    }
    for text in given.many("mount") {
        let parsed = mounts::parse_mount(&text).map_err(|why| given.bad("mount", &text, why))?;
        request.host.mounts.push(parsed.clone());
        request.mounts.push(parsed);
    }
    for text in given.many("tmpfs") {
        let parsed = mounts::parse_tmpfs(&text).map_err(refuse)?;
        request
            .host
            .tmpfs
            .insert(parsed.target.clone(), parsed.tmpfs_options.clone());
        request.mounts.push(parsed);
    }
    let mut targets: Vec<&str> = request.mounts.iter().map(|m| m.target.as_str()).collect();
    targets.sort_unstable();
    if let Some(pair) = targets.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(refuse(format!("Duplicate mount point: {}", pair[0])));
    }
    request.host.volumes_from = given.many("volumes-from");
    for text in &request.host.volumes_from {
        let parsed = mounts::parse_volumes_from(text).map_err(refuse)?;
        request.volumes_from.push(parsed);
    }
    if let Some(driver) = given
        .one("volume-driver")
        .filter(|d| !matches!(*d, "" | "local"))
    {
        return Err(refuse(format!(
            "volume driver '{driver}' is not available: only local is"
        )));
    }
    if let Some(option) = given.many("storage-opt").first() {
        return Err(refuse(format!(
            "--storage-opt {option} is not supported: the overlay driver has no quota here"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
