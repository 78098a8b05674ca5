//! `inspect`: Docker's JSON documents.
//!
//! Each kind has a function that makes the document and a [`Schema`](crate::template::Schema) that says what in it is a
//! Go map, pointer or omitted field, so that templates find what they find with docker.

use serde_json::{Value, json};

use rctr_storage::config::ContainerConfig;

pub(crate) mod container;
mod host_config;
pub(crate) mod image;
mod network;
pub(crate) mod volume;

/// An empty list is null, as Go's nil slice.
fn list<T: serde::Serialize>(items: &[T]) -> Value {
    if items.is_empty() {
        Value::Null
    } else {
        json!(items)
    }
}

/// `Config` of containers and images.
fn config(config: &ContainerConfig) -> Value {
    let mut out = json!({
        "Hostname": config.hostname,
        "Domainname": config.domainname,
        "User": config.user,
        "AttachStdin": config.attach_stdin,
        "AttachStdout": config.attach_stdout,
        "AttachStderr": config.attach_stderr,
    });
    let mut set = |key: &str, value: Value| out[key] = value;
    if !config.exposed_ports.is_empty() {
        set("ExposedPorts", json!(config.exposed_ports));
    }
    set("Tty", json!(config.tty));
    set("OpenStdin", json!(config.open_stdin));
    set("StdinOnce", json!(config.stdin_once));
    set("Env", list(&config.env));
    set("Cmd", json!(config.cmd));
    if let Some(check) = &config.healthcheck {
        set("Healthcheck", json!(check));
    }
    set("Image", json!(config.image));
    let volumes = if config.volumes.is_empty() {
        Value::Null
    } else {
        json!(config.volumes)
    };
    set("Volumes", volumes);
    set("WorkingDir", json!(config.working_dir));
    set("Entrypoint", json!(config.entrypoint));
    set("OnBuild", list(&config.on_build));
    set("Labels", json!(config.labels));
    if !config.stop_signal.is_empty() {
        set("StopSignal", json!(config.stop_signal));
    }
    if let Some(seconds) = config.stop_timeout {
        set("StopTimeout", json!(seconds));
    }
    if let Some(shell) = &config.shell {
        set("Shell", json!(shell));
    }
    for (key, value) in &config.extra {
        set(key, value.clone());
    }
    out
}

/// Directories as mount options have them: the top one first, colons between.
fn joined(layers: &[std::path::PathBuf]) -> String {
    let words: Vec<_> = layers.iter().map(|l| l.to_string_lossy()).collect();
    words.join(":")
}
