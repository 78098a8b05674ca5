//! `rctr info`: the engine, its store and the machine, in Docker's shape.

use std::fmt::Write;

use clap::ArgMatches;
use rctr_runtime::host::Host;
use rctr_storage::Store;
use rctr_storage::record::Status;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::version::{VERSION, format_arg, formatted};
use crate::command::Verb;
use crate::context::Context;
use crate::output;
use crate::report::Failure;
use crate::template::{Data, Kind, Schema};

/// `info`.
pub(crate) const VERB: Verb = Verb {
    names: &["info", "system info"],
    about: "Show the engine, its store and the machine",
    args: format_arg,
    run,
};

const SCHEMA: Schema = Schema(&[
    ("Runtimes", Kind::StructMap),
    ("GenericResources", Kind::List),
    ("Warnings", Kind::List),
    ("Plugins.Authorization", Kind::List),
    ("Swarm.RemoteManagers", Kind::List),
]);

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let info = document(&Host::read(), &Contents::of(context)?, context);
    match formatted(matches, &info, || Data::typed(&info, &SCHEMA))? {
        Some(text) => output::line(text),
        None => {
            output::text(as_text(&info));
            for warning in info["Warnings"].as_array().into_iter().flatten() {
                output::note(warning.as_str().unwrap_or_default());
            }
        }
    }
    Ok(0)
}

/// What the store holds, and who puts root file systems together.
struct Contents {
    running: usize,
    paused: usize,
    stopped: usize,
    images: usize,
    driver: &'static str,
    warnings: Vec<String>,
}

impl Contents {
    fn of(context: &Context) -> Result<Self, Failure> {
        let store = Store::open(&context.root)?;
        let containers = store.containers()?;
        let count = |status: &[Status]| {
            let of = containers
                .iter()
                .filter(|c| status.contains(&c.state.status));
            of.count()
        };
        let running = count(&[Status::Running, Status::Restarting]);
        let paused = count(&[Status::Paused]);
        let (driver, warnings) = match context.driver() {
            Ok(driver) => (driver.as_str(), Vec::new()),
            Err(failure) => {
                let warning = format!("WARNING: {}; `rctr doctor` tells more", failure.message);
                ("none", vec![warning])
            }
        };
        let images = store.images()?;
        Ok(Self {
            running,
            paused,
            stopped: containers.len() - running - paused,
            images: images.iter().filter(|i| i.part_of.is_none()).count(),
            driver,
            warnings,
        })
    }
}

/// Docker's shape; what has no meaning here has the value that says so there.
fn document(host: &Host, contents: &Contents, context: &Context) -> Value {
    let mut info = json!({
        "ID": "",
        "Containers": contents.running + contents.paused + contents.stopped,
        "ContainersRunning": contents.running,
        "ContainersPaused": contents.paused,
        "ContainersStopped": contents.stopped,
        "Images": contents.images,
        "Driver": contents.driver,
        "DriverStatus": [],
        "SystemTime": now(),
        "CgroupVersion": host.cgroup_version.to_string(),
        "KernelVersion": host.kernel,
        "OperatingSystem": host.operating_system,
        "OSVersion": host.os_version,
        "OSType": "linux",
        "Architecture": host.machine,
        "NCPU": host.cpus,
        "MemTotal": host.memory,
        "DockerRootDir": context.root,
        "Name": host.name,
        "SecurityOptions": [
            "name=seccomp,profile=builtin",
            "name=cgroupns",
            if host.rootless { "name=rootless" } else { "name=userns" },
        ],
        "Warnings": contents.warnings,
    });
    for part in [engine(), absent()] {
        for (name, value) in part.as_object().into_iter().flatten() {
            info[name] = value.clone();
        }
    }
    info
}

/// What is the same everywhere.
fn engine() -> Value {
    json!({
        "ServerVersion": VERSION,
        "LoggingDriver": "json-file",
        "CgroupDriver": "none",
        "Plugins": {
            "Volume": ["local"],
            "Network": ["host", "none", "private"],
            "Authorization": null,
            "Log": ["json-file", "local", "none"],
        },
        "IPv4Forwarding": true,
        "Runtimes": {"rctr": {"path": "rctr"}},
        "DefaultRuntime": "rctr",
        "InitBinary": "rctr",
        "LiveRestoreEnabled": true,
        "Debug": false,
        "ExperimentalBuild": false,
        "ClientInfo": {"Debug": false, "Version": VERSION, "Context": "default", "Plugins": [], "Warnings": []},
    })
}

/// What Docker has and we haven't.
fn absent() -> Value {
    json!({
        "MemoryLimit": false,
        "SwapLimit": false,
        "CpuCfsPeriod": false,
        "CpuCfsQuota": false,
        "CPUShares": false,
        "CPUSet": false,
        "PidsLimit": false,
        "OomKillDisable": false,
        "NFd": 0,
        "NGoroutines": 0,
        "NEventsListener": 0,
        "IndexServerAddress": "",
        "RegistryConfig": {"InsecureRegistryCIDRs": [], "IndexConfigs": {}, "Mirrors": []},
        "GenericResources": null,
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Labels": [],
        "Swarm": {
            "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "",
            "RemoteManagers": null,
        },
        "Isolation": "",
    })
}

fn now() -> String {
    let now = OffsetDateTime::now_utc().format(&Rfc3339);
    now.unwrap_or_default()
}

/// Lines of the text: indent, name, field of the document.
const FIELDS: &[(usize, &str, &str)] = &[
    (1, "Containers", "Containers"),
    (2, "Running", "ContainersRunning"),
    (2, "Paused", "ContainersPaused"),
    (2, "Stopped", "ContainersStopped"),
    (1, "Images", "Images"),
    (1, "Server Version", "ServerVersion"),
    (1, "Storage Driver", "Driver"),
    (1, "Logging Driver", "LoggingDriver"),
    (1, "Cgroup Driver", "CgroupDriver"),
    (1, "Cgroup Version", "CgroupVersion"),
    (1, "Plugins", "Plugins"),
    (1, "Security Options", "SecurityOptions"),
    (1, "Kernel Version", "KernelVersion"),
    (1, "Operating System", "OperatingSystem"),
    (1, "OSType", "OSType"),
    (1, "Architecture", "Architecture"),
    (1, "CPUs", "NCPU"),
    (1, "Total Memory", "MemTotal"),
    (1, "Name", "Name"),
    (1, "Docker Root Dir", "DockerRootDir"),
    (1, "Debug Mode", "Debug"),
    (1, "Experimental", "ExperimentalBuild"),
    (1, "Live Restore Enabled", "LiveRestoreEnabled"),
];

fn as_text(info: &Value) -> String {
    let mut out = format!(
        "Client: rctr\n Version:    {VERSION}\n Context:    default\n Debug Mode: false\n\nServer:\n"
    );
    for (indent, name, field) in FIELDS {
        let value = match (*field, &info[*field]) {
            ("Plugins", value) => plugins(value),
            ("SecurityOptions", value) => security(value),
            ("MemTotal", value) => gibibytes(value.as_u64().unwrap_or_default()),
            (_, Value::String(text)) => format!(" {text}"),
            (_, value) => format!(" {value}"),
        };
        let _ = writeln!(out, "{:indent$}{name}:{value}", "");
    }
    out
}

fn gibibytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "only a few digits are shown")]
    let bytes = bytes as f64;
    format!(" {:.2}GiB", bytes / f64::from(1 << 30))
}

fn words(list: &Value) -> impl Iterator<Item = &str> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(Value::as_str)
}

fn plugins(plugins: &Value) -> String {
    let line = |kind: &str| {
        let names: Vec<_> = words(&plugins[kind]).collect();
        format!("\n  {kind}: {}", names.join(" "))
    };
    ["Volume", "Network", "Log"].map(line).concat()
}

/// `name=seccomp,profile=builtin` as a name with its settings below it.
fn security(options: &Value) -> String {
    let mut out = String::new();
    for option in words(options) {
        for (key, value) in option.split(',').filter_map(|part| part.split_once('=')) {
            let _ = match key {
                "name" => write!(out, "\n  {value}"),
                _ => write!(out, "\n   Profile: {value}"),
            };
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Template;

    #[test]
    fn scripts_find_their_fields() {
        let context = Context {
            root: "/store".into(),
            run: "/run/x".into(),
            path: String::new(),
            driver: None,
        };
        let contents = Contents {
            running: 1,
            paused: 0,
            stopped: 2,
            images: 4,
            driver: "overlay",
            warnings: Vec::new(),
        };
        let info = document(&Host::read(), &contents, &context);
        let show = |source: &str| {
            let template = Template::parse(source).unwrap();
            template.render(&Data::typed(&info, &SCHEMA)).unwrap()
        };
        assert_eq!(
            show("{{.Containers}} {{.ContainersRunning}} {{.Images}}"),
            "3 1 4"
        );
        assert_eq!(
            show("{{.Driver}} {{.OSType}} {{.DockerRootDir}}"),
            "overlay linux /store"
        );
        assert_eq!(
            show("{{.Swarm.LocalNodeState}} {{.ServerVersion}}"),
            format!("inactive {VERSION}")
        );
        assert_eq!(
            show("{{range $name, $r := .Runtimes}}{{$name}}{{end}}"),
            "rctr"
        );
        assert!(show("{{.SecurityOptions}}").contains("name=seccomp,profile=builtin"));
        let text = as_text(&info);
        assert!(text.contains("\n Containers: 3\n  Running: 1\n"), "{text}");
        assert!(
            text.contains(" Security Options:\n  seccomp\n   Profile: builtin\n  cgroupns\n"),
            "{text}"
        );
    }
}
