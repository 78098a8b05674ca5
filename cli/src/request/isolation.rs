//! Capabilities, security options, namespaces, devices, sysctls, ulimits.

use rctr_storage::record::{Device, Ulimit};

use super::{Given, Network, RunRequest, values};
use crate::report::Failure;

pub(super) fn parse(given: &Given<'_>, request: &mut RunRequest) -> Result<(), Failure> {
    let refuse = |why: String| given.refuse(why);
    let host = &mut request.host;
    host.privileged = given.on("privileged");
    host.cap_add = given
        .many("cap-add")
        .iter()
        .map(|c| capability(c))
        .collect();
    host.cap_drop = given
        .many("cap-drop")
        .iter()
        .map(|c| capability(c))
        .collect();
    for (at, word) in given.many("security-opt").into_iter().enumerate() {
        let word = security_option(&word, &mut request.warnings)
            .ok_or_else(|| given.refuse(format!("invalid --security-opt {}: {word:?}", at + 1)))?;
        host.security_opt.push(word);
    }
    host.pid_mode = mode(given, "pid", "PID", &["host"])?;
    host.ipc_mode = mode(
        given,
        "ipc",
        "IPC",
        &["host", "none", "private", "shareable"],
    )?;
    host.uts_mode = mode(given, "uts", "UTS", &["host"])?;
    host.cgroupns_mode = mode(given, "cgroupns", "CGROUP", &["host", "private"])?;
    host.userns_mode = mode(given, "userns", "USER", &["host"])?;
    if host.uts_mode == "host" && !request.config.hostname.is_empty() {
        return Err(refuse(
            "conflicting options: hostname and the UTS mode".to_owned(),
        ));
    }
    host.cgroup_parent = given.text("cgroup-parent");
    if !host.cgroup_parent.is_empty() {
        request
            .warnings
            .push("--cgroup-parent has no effect here".to_owned());
    }
    match given.one("runtime") {
        None | Some("" | "rctr" | "runc" | "crun" | "io.containerd.runc.v2") => {}
        Some(name) => return Err(refuse(format!("unknown or invalid runtime name: {name}"))),
    }
    match given.one("isolation") {
        None | Some("" | "default") => {}
        Some(name) => {
            return Err(refuse(format!(
                "invalid isolation {name:?}: only default is possible on Linux"
            )));
        }
    }
    if given.one("gpus").is_some() {
        return Err(refuse(
            "--gpus is not supported: name the nodes with --device".to_owned(),
        ));
    }
    for word in given.many("device") {
        host.devices.push(parse_device(&word).map_err(refuse)?);
    }
    if !given.many("device-cgroup-rule").is_empty() {
        request
            .warnings
            .push("--device-cgroup-rule has no effect without root".to_owned());
    }
    for word in given.many("sysctl") {
        let (name, value) = word
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| given.bad("sysctl", &word, "want name=value"))?;
        host.sysctls
            .insert(name.replace('/', "."), value.to_owned());
    }
    for word in given.many("ulimit") {
        let ulimit = parse_ulimit(&word).map_err(|why| given.bad("ulimit", &word, why))?;
        host.ulimits.retain(|u| u.name != ulimit.name);
        host.ulimits.push(ulimit);
    }
    host.shm_size = given.parsed("shm-size", values::parse_size)?.unwrap_or(0);
    Ok(())
}

/// Only what belongs to one of the container's own namespaces may be set; after the network is known.
pub(super) fn check_sysctls(given: &Given<'_>, request: &RunRequest) -> Result<(), Failure> {
    let host = &request.host;
    for name in host.sysctls.keys() {
        let ipc = ["kernel.msg", "kernel.shm", "kernel.sem", "fs.mqueue."]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        let net = name.starts_with("net.");
        if !ipc && !net && !matches!(name.as_str(), "kernel.domainname" | "kernel.hostname") {
            return Err(given.refuse(format!(
                "sysctl \"{name}\" is not in a separate kernel namespace"
            )));
        }
        if (net && request.network == Network::Host) || (ipc && host.ipc_mode == "host") {
            let which = if net { "network" } else { "ipc" };
            return Err(given.refuse(format!(
                "sysctl \"{name}\" not allowed in host {which} namespace"
            )));
        }
    }
    Ok(())
}

/// Upper case, without `CAP_`. Whether it exists is checked where the sets are made.
fn capability(word: &str) -> String {
    let upper = word.to_ascii_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
}

/// The option as it is kept; `None` when it is unknown.
fn security_option(word: &str, warnings: &mut Vec<String>) -> Option<String> {
    let (key, value) = word.split_once(['=', ':']).unwrap_or((word, ""));
    match key {
        "no-new-privileges" => match value {
            "" => Some("no-new-privileges".to_owned()),
            value => values::parse_bool(value)
                .ok()
                .map(|on| format!("no-new-privileges={on}")),
        },
        "seccomp" if !value.is_empty() => Some(format!("seccomp={value}")),
        "apparmor" | "label" => {
            if !matches!(value, "" | "unconfined" | "disable") {
                warnings.push(format!("--security-opt {word} has no effect without root"));
            }
            Some(format!("{key}={value}"))
        }
        "systempaths" if value == "unconfined" => Some(word.to_owned()),
        "mask" | "unmask" if !value.is_empty() => Some(format!("{key}={value}")),
        "writable-cgroups" => {
            warnings.push("--security-opt writable-cgroups has no effect here".to_owned());
            Some(word.to_owned())
        }
        _ => None,
    }
}

/// One of `words`, `container:NAME`, or nothing.
fn mode(given: &Given<'_>, flag: &str, name: &str, words: &[&str]) -> Result<String, Failure> {
    let value = given.text(flag);
    let joins = matches!(flag, "pid" | "ipc");
    let container = value
        .strip_prefix("container:")
        .is_some_and(|c| !c.is_empty());
    if value.is_empty() || words.contains(&value.as_str()) || (joins && container) {
        return Ok(value);
    }
    Err(given.refuse(format!("--{flag}: invalid {name} mode: {value:?}")))
}

/// `SRC[:DST[:rwm]]`.
fn parse_device(text: &str) -> Result<Device, String> {
    let fields: Vec<&str> = text.split(':').collect();
    let is_mode = |m: &str| !m.is_empty() && m.chars().all(|c| "rwm".contains(c));
    let (source, target, mode) = match fields[..] {
        [source] => (source, source, "rwm"),
        [source, mode] if is_mode(mode) => (source, source, mode),
        [source, target] => (source, target, "rwm"),
        [source, target, mode] if is_mode(mode) => (source, target, mode),
        [_, _, mode] => return Err(format!("invalid device mode: {mode}")),
        _ => return Err(format!("invalid device specification: {text}")),
    };
    if !source.starts_with('/') {
        return Err(format!(
            "invalid device specification: {text}: a CDI name is not supported, give a path"
        ));
    }
    if !target.starts_with('/') {
        return Err(format!(
            "invalid device specification: {text}: '{target}' is not an absolute path"
        ));
    }
    Ok(Device {
        path_on_host: source.to_owned(),
        path_in_container: super::mounts::clean(target),
        cgroup_permissions: mode.to_owned(),
    })
}

const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `name=soft[:hard]`; -1 and `unlimited` are no limit.
///
/// # Errors
/// Docker's messages.
pub(crate) fn parse_ulimit(text: &str) -> Result<Ulimit, String> {
    let invalid = || format!("invalid ulimit argument: {text}");
    let (name, limits) = text.split_once('=').ok_or_else(invalid)?;
    if !ULIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |text: &str| match text {
        "unlimited" | "-1" => Ok(-1),
        text => text
            .parse::<i64>()
            .ok()
            .filter(|n| *n >= 0)
            .ok_or_else(invalid),
    };
    let (soft, hard) = match limits.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(limits)?, number(limits)?),
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        ));
    }
    Ok(Ulimit {
        name: name.to_owned(),
        soft,
        hard,
    })
}
