//! `build`: flags to a request. What they name (files, directories) isn't looked at, but for the environment's values
//! of `--build-arg NAME` and `--secret env=`.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command};
use rctr_builder::build::Output;
use rctr_builder::engine::Files;
use rctr_builder::plan::RunNetwork;
use rctr_builder::request::{BakedSecrets, BuildRequest, NamedContext, SecretSource};
use rctr_storage::archive::Format;
use rctr_storage::manifest::Platform;
use rctr_storage::reference::Reference;

use super::build_cache;
use super::flags::Takes::{Many, Nothing, One};
use super::flags::{self, Flag, NO, flag};
use super::isolation::parse_ulimit;
use super::network::parse_host;
use super::values::{pairs, parse_csv, parse_size};
use crate::commands::words::{bad, is_on, list, on, text, value};
use crate::report::Failure;

/// Flags that docker has and that mean nothing here, with why. Those with a value.
const IGNORED: [(&str, &str); 14] = [
    ("builder", "there are no builder instances"),
    ("cgroup-parent", "steps run in the caller's cgroup"),
    ("cpu-period", "steps are not limited"),
    ("cpu-quota", "steps are not limited"),
    ("cpu-shares", "steps are not limited"),
    ("cpuset-cpus", "steps are not limited"),
    ("cpuset-mems", "steps are not limited"),
    ("memory", "steps are not limited"),
    ("memory-swap", "steps are not limited"),
    ("isolation", "there is one technology"),
    ("security-opt", "steps run in the default sandbox"),
    ("provenance", "there are no attestations"),
    ("sbom", "there are no attestations"),
    ("attest", "there are no attestations"),
];

/// The same for switches: what they ask for is always so, or means nothing here.
const IGNORED_SWITCHES: [&str; 5] = [
    "rm",
    "force-rm",
    "compress",
    "load",
    "disable-content-trust",
];

/// The flags.
const FLAGS: &[Flag] = &[
    flag('t', "tag", Many, "Name of the image: NAME[:TAG]"),
    flag(
        'f',
        "file",
        One,
        "The Dockerfile (default: PATH/Dockerfile; -: standard input)",
    ),
    flag(
        NO,
        "build-arg",
        Many,
        "Set an ARG: NAME[=VALUE]; without a value the environment's",
    ),
    flag(NO, "target", One, "Build this stage"),
    flag(
        NO,
        "platform",
        Many,
        "Build for these platforms: linux/arm64,…",
    ),
    flag(NO, "no-cache", Nothing, "Run every step"),
    flag(
        NO,
        "no-cache-filter",
        Many,
        "Run every step of these stages",
    ),
    flag(NO, "pull", Nothing, "Look for newer base images"),
    flag(
        NO,
        "secret",
        Many,
        "For RUN --mount=type=secret: id=ID[,src=FILE|,env=NAME]",
    ),
    flag(
        NO,
        "ssh",
        Many,
        "For RUN --mount=type=ssh: default|ID[=SOCKET|=KEY…]",
    ),
    flag(NO, "label", Many, "Set metadata of the image: KEY=VALUE"),
    flag(
        NO,
        "add-host",
        Many,
        "Add a line to /etc/hosts of steps: NAME:IP",
    ),
    flag(
        NO,
        "network",
        One,
        "Network of steps: default, none or host",
    ),
    flag(NO, "shm-size", One, "Size of /dev/shm in steps"),
    flag(
        NO,
        "ulimit",
        Many,
        "Resource limit of steps: NAME=SOFT[:HARD]",
    ),
    flag('q', "quiet", Nothing, "Print the image's ID only"),
    flag(NO, "iidfile", One, "Write the image's ID to this file"),
    flag(
        NO,
        "metadata-file",
        One,
        "Write what was built to this file, as JSON",
    ),
    flag(NO, "progress", One, "auto, tty, plain, rawjson or quiet"),
    flag(
        'o',
        "output",
        Many,
        "Where the result goes: type=local|tar|oci|docker|image[,dest=PATH], or a directory",
    ),
    flag(
        NO,
        "build-context",
        Many,
        "A further context: NAME=DIRECTORY|docker-image://IMAGE",
    ),
    flag(
        NO,
        "cache-from",
        Many,
        "Use this cache: type=local,src=DIRECTORY",
    ),
    flag(
        NO,
        "cache-to",
        Many,
        "Write the cache: type=local,dest=DIRECTORY",
    ),
    flag(NO, "squash", Nothing, "Make one layer of all steps"),
    flag(
        NO,
        "jobs",
        One,
        "Steps that run at once (default: no limit)",
    ),
    flag(NO, "call", One, "check: only run the build checks"),
    flag(NO, "check", Nothing, "Run the build checks, build nothing"),
    flag(
        NO,
        "allow",
        Many,
        "Allow a step more: security.insecure, network.host",
    ),
    flag(
        NO,
        "push",
        Nothing,
        "Push the image, as --output type=registry",
    ),
    flag(
        NO,
        "explain",
        Nothing,
        "Tell why steps are not served from the cache",
    ),
    flag(
        NO,
        "fail-on-miss",
        Nothing,
        "Fail when a step is not in the cache",
    ),
    flag(
        NO,
        "on-error",
        One,
        "shell: open a shell where a step has failed",
    ),
    flag(
        NO,
        "trace",
        One,
        "Write the build's time line to this file, as HTML",
    ),
    flag(
        NO,
        "baked-secrets",
        One,
        "warn or refuse: values that look like secrets in the image",
    ),
];

/// Adds the flags and PATH.
pub(crate) fn args(command: Command) -> Command {
    let command = FLAGS
        .iter()
        .fold(command, |command, flag| command.arg(flags::arg(flag)))
        .arg(Arg::new("context").value_name("PATH|URL|-").required(true));
    let command = IGNORED.iter().fold(command, |command, (flag, _)| {
        let short = match *flag {
            "memory" => Some('m'),
            "cpu-shares" => Some('c'),
            _ => None,
        };
        command.arg(value(flag, short, "Accepted, without effect").hide(true))
    });
    IGNORED_SWITCHES.iter().fold(command, |command, flag| {
        command.arg(on(flag, None, "Accepted, without effect").hide(true))
    })
}

/// One sentence for each flag that was given and does nothing.
pub(crate) fn without_effect(matches: &ArgMatches) -> Vec<String> {
    IGNORED
        .iter()
        .filter(|(flag, _)| {
            text(matches, flag).is_some_and(|v| !matches!(v, "" | "false" | "default"))
        })
        .map(|(flag, why)| format!("rctr: warning: --{flag} has no effect: {why}"))
        .collect()
}

/// The request.
///
/// # Errors
/// A value that can't be meant.
pub(crate) fn parse(matches: &ArgMatches) -> Result<BuildRequest, Failure> {
    let tags = list(matches, "tag");
    let tags = tags
        .iter()
        .map(|tag| tagged(tag).map_err(|why| bad("tag", tag, why)))
        .collect::<Result<_, _>>()?;
    let mut request = BuildRequest {
        target: text(matches, "target").map(str::to_owned),
        build_args: from_environment(&list(matches, "build-arg"))?,
        labels: pairs(&list(matches, "label")),
        tags,
        network: network(matches)?,
        no_cache: is_on(matches, "no-cache"),
        no_cache_filter: words_of(matches, "no-cache-filter"),
        pull: is_on(matches, "pull"),
        cache_from: build_cache::from(matches)?,
        cache_to: build_cache::to(matches)?,
        squash: is_on(matches, "squash"),
        explain: is_on(matches, "explain"),
        fail_on_miss: is_on(matches, "fail-on-miss"),
        allow_insecure: words_of(matches, "allow")
            .iter()
            .any(|w| w == "security.insecure"),
        ..BuildRequest::default()
    };
    let mut platforms = platforms(matches)?;
    match platforms.len() {
        0 | 1 => request.platform = platforms.pop(),
        _ => request.platforms = platforms,
    }
    for host in list(matches, "add-host") {
        let parsed = parse_host(&host).map_err(|why| bad("add-host", &host, why))?;
        if let Some((name, address)) = parsed.split_once(':') {
            request
                .extra_hosts
                .push((name.to_owned(), address.to_owned()));
        }
    }
    if let Some(size) = text(matches, "shm-size") {
        let bytes = parse_size(size).map_err(|why| bad("shm-size", size, why))?;
        request.shm_size = u64::try_from(bytes).ok().filter(|b| *b > 0);
    }
    for word in list(matches, "ulimit") {
        let limit = parse_ulimit(&word).map_err(|why| bad("ulimit", &word, why))?;
        request.ulimits.retain(|known| known.name != limit.name);
        request.ulimits.push(limit);
    }
    if let Some(jobs) = text(matches, "jobs") {
        request.jobs = jobs
            .parse()
            .map_err(|_| bad("jobs", jobs, "want a number"))?;
    }
    for word in list(matches, "secret") {
        let (id, source) = secret(&word).map_err(|why| bad("secret", &word, why))?;
        request.secrets.insert(id, source);
    }
    for word in list(matches, "ssh") {
        let (id, paths) = ssh(&word).map_err(|why| bad("ssh", &word, why))?;
        request.ssh.insert(id, paths);
    }
    for word in list(matches, "build-context") {
        let (name, context) =
            named_context(&word).map_err(|why| bad("build-context", &word, why))?;
        request.contexts.insert(name, context);
    }
    request.baked_secrets = match text(matches, "baked-secrets") {
        None | Some("warn") => BakedSecrets::Warn,
        Some("refuse") => BakedSecrets::Refuse,
        Some(other) => return Err(bad("baked-secrets", other, "want warn or refuse")),
    };
    let epoch = request.build_args.get("SOURCE_DATE_EPOCH").cloned();
    let epoch = epoch
        .or_else(|| env::var("SOURCE_DATE_EPOCH").ok())
        .filter(|e| !e.is_empty());
    if let Some(epoch) = epoch {
        let seconds = epoch.parse().map_err(|_| {
            Failure::new(format!("invalid SOURCE_DATE_EPOCH: {epoch:?}"))
                .hint("it is seconds since 1970")
        })?;
        request.epoch = Some(seconds);
    }
    Ok(request)
}

/// A tag as `-t` wants it: a name without a digest.
pub(super) fn tagged(text: &str) -> Result<Reference, String> {
    let reference = Reference::parse(text).map_err(|error| match error.hint() {
        Some(hint) => format!("{error} ({hint})"),
        None => error.to_string(),
    })?;
    match reference.digest {
        Some(_) => Err("a tag can't have a digest".to_owned()),
        None => Ok(reference),
    }
}

/// Values separated by commas or given several times.
fn words_of(matches: &ArgMatches, flag: &str) -> Vec<String> {
    list(matches, flag)
        .iter()
        .flat_map(|word| word.split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

fn from_environment(words: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut args = BTreeMap::new();
    for word in words {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), env::var(word).ok()),
        };
        if name.is_empty() {
            return Err(bad("build-arg", word, "it has no name: want NAME=VALUE"));
        }
        args.extend(value.map(|value| (name.to_owned(), value)));
    }
    Ok(args)
}

/// `--platform`, each once.
fn platforms(matches: &ArgMatches) -> Result<Vec<Platform>, Failure> {
    let words = list(matches, "platform");
    let words = words.iter().flat_map(|w| w.split(','));
    let mut platforms = Vec::new();
    for word in words.map(str::trim).filter(|w| !w.is_empty()) {
        let platform = match word {
            "local" => Platform::host(),
            word => Platform::parse(word).map_err(|why| bad("platform", word, why))?,
        };
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    Ok(platforms)
}

/// What is made for several platforms: an image of the store, an OCI archive, or directories.
///
/// # Errors
/// When something else is asked for.
pub(crate) fn check_outputs(request: &BuildRequest, outputs: &[Output]) -> Result<(), Failure> {
    if request.platforms.len() < 2 {
        return Ok(());
    }
    let refused = outputs.iter().find_map(|output| match output {
        Output::Archive(Format::Docker, _) => Some((
            "docker's archives hold an image for one platform",
            "--output type=oci writes one archive for all platforms",
        )),
        Output::Files(Files::Tar(_)) => Some((
            "a tar of files is for one platform",
            "--output type=local,dest=DIRECTORY makes a directory for each",
        )),
        _ => None,
    });
    match refused {
        Some((what, hint)) => Err(Failure::new(what).hint(hint)),
        None => Ok(()),
    }
}

fn network(matches: &ArgMatches) -> Result<RunNetwork, Failure> {
    Ok(match text(matches, "network") {
        None | Some("default" | "" | "bridge" | "private" | "sandbox") => RunNetwork::Private,
        Some("none") => RunNetwork::None,
        Some("host") => RunNetwork::Host,
        Some(other) => return Err(bad("network", other, "want default, none or host")),
    })
}

/// `id=ID[,src=FILE|,env=NAME][,type=file|env]`.
fn secret(text: &str) -> Result<(String, SecretSource), String> {
    let mut id = None;
    let mut source: Option<&str> = None;
    let mut variable: Option<&str> = None;
    let mut kind = "";
    let words = parse_csv(text)?;
    for word in &words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("id", value) => id = Some(value.to_owned()),
            ("src" | "source", value) => source = Some(value),
            ("env", value) => variable = Some(value),
            ("type", value @ ("file" | "env")) => kind = value,
            ("type", other) => return Err(format!("unsupported secret type {other:?}")),
            (key, _) => return Err(format!("unexpected key {key:?}: want id, src or env")),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or("it needs an id")?;
    let value_of = |name: &str| {
        env::var_os(name)
            .map(|value| SecretSource::Value(value.into_encoded_bytes()))
            .ok_or_else(|| format!("the environment has no {name}"))
    };
    let found = match (source, variable) {
        (Some(path), None) if kind != "env" => SecretSource::File(PathBuf::from(path)),
        (Some(name), None) | (None, Some(name)) => value_of(name)?,
        (Some(_), Some(_)) => return Err("it has both src and env".to_owned()),
        // As docker: the environment's, else the file of that name.
        (None, None) => value_of(&id).unwrap_or_else(|_| SecretSource::File(PathBuf::from(&id))),
    };
    Ok((id, found))
}

/// `default`, `ID=PATH,…`.
fn ssh(text: &str) -> Result<(String, Vec<PathBuf>), String> {
    let (id, paths) = text.split_once('=').unwrap_or((text, ""));
    let mut paths: Vec<PathBuf> = paths
        .split(',')
        .filter(|p| !p.is_empty())
        .map(PathBuf::from)
        .collect();
    if paths.is_empty() {
        let socket = env::var_os("SSH_AUTH_SOCK").filter(|s| !s.is_empty());
        paths.push(PathBuf::from(
            socket.ok_or("SSH_AUTH_SOCK is not set: is an agent running?")?,
        ));
    }
    let id = if id.is_empty() { "default" } else { id };
    Ok((id.to_owned(), paths))
}

fn named_context(text: &str) -> Result<(String, NamedContext), String> {
    let (name, value) = text.split_once('=').ok_or("want NAME=VALUE")?;
    let value = value.trim_start_matches("path:");
    if name.is_empty() || value.is_empty() {
        return Err("want NAME=VALUE".to_owned());
    }
    let context = match value.split_once("://") {
        Some(("docker-image", image)) => NamedContext::Image(image.to_owned()),
        Some((scheme, _)) => {
            return Err(format!(
                "{scheme}:// is not supported: want a directory or docker-image://IMAGE"
            ));
        }
        None => NamedContext::Directory(PathBuf::from(value)),
    };
    Ok((name.to_lowercase(), context))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(words: &[&str]) -> Result<BuildRequest, Failure> {
        let command = args(Command::new("build"));
        let words = ["build"].iter().chain(words).chain(&["."]);
        parse(&command.try_get_matches_from(words).unwrap())
    }

    #[test]
    fn flags_become_a_request() {
        let got = request(&[
            "-t",
            "a:1",
            "-t",
            "b",
            "--build-arg",
            "X=1=2",
            "--target",
            "t",
            "--platform",
            "linux/x86_64",
            "--add-host",
            "h:1.2.3.4",
            "--ulimit",
            "nofile=10:20",
            "--shm-size",
            "1m",
            "--no-cache-filter",
            "A,b",
            "--memory",
            "1g",
            "--rm",
            "--force-rm=false",
            "--network",
            "none",
            "--secret",
            "id=s,src=/f",
        ])
        .unwrap();
        assert_eq!(got.tags.len(), 2);
        assert_eq!(got.build_args["X"], "1=2");
        let nameless = request(&["--build-arg", "=x"]).unwrap_err();
        assert!(nameless.message.contains("no name"), "{}", nameless.message);
        let spaced = request(&["-t", "Foo Bar"]).unwrap_err();
        assert!(spaced.message.contains("NAME[:TAG]"), "{}", spaced.message);
        assert_eq!(got.platform.unwrap().architecture, "amd64");
        assert_eq!(got.extra_hosts, [("h".to_owned(), "1.2.3.4".to_owned())]);
        assert_eq!((got.ulimits.len(), got.shm_size), (1, Some(1 << 20)));
        assert_eq!(got.no_cache_filter, ["a", "b"]);
        assert_eq!(got.network, RunNetwork::None);
        assert_eq!(got.secrets["s"], SecretSource::File(PathBuf::from("/f")));
    }

    #[test]
    fn bad_values_are_told() {
        for words in [
            ["-t", "Bad Tag:1"],
            ["--platform", "a/b/c/d"],
            ["--ulimit", "x"],
            ["--network", "mine"],
            ["--secret", "src=/f"],
            ["--build-context", "x"],
            ["--jobs", "many"],
            ["--add-host", "x"],
            ["--secret", "id=a,kind=b"],
        ] {
            let failure = request(&words).unwrap_err();
            assert!(failure.message.contains(words[1]), "{}", failure.message);
        }
    }
}
