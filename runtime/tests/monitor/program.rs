//! What the cli would do: this executable plays its part.

use std::collections::BTreeMap;
use std::fs;

use rctr_runtime::attach::message::Streams;
use rctr_runtime::attach::{Client, Outcome, RelayOptions, keys};
use rctr_runtime::monitor::{self, MonitorOrder};
use rctr_runtime::net::{Mode, NetworkPlan};
use rctr_runtime::plan::{
    Driver, LaunchPlan, Namespace, Namespaces, ProcessPlan, RootfsPlan, Seccomp,
};
use rctr_storage::Store;
use rctr_storage::config::ContainerConfig;
use rctr_storage::digest::Digest;
use rctr_storage::record::{ContainerRecord, HostConfig, LogConfig};

use crate::Spec;
use crate::harness::layer_dir;

fn relay_options(spec: &Spec) -> RelayOptions {
    let (stdin, stdout, stderr) = spec.attach.unwrap_or((spec.open_stdin, true, !spec.tty));
    RelayOptions {
        streams: Streams {
            stdin,
            stdout,
            stderr,
        },
        tty: spec.tty,
        detach_keys: keys::parse(keys::DEFAULT).unwrap(),
        sig_proxy: true,
    }
}

fn code_of(outcome: Outcome) -> i32 {
    match outcome {
        Outcome::Exited(code) => code,
        Outcome::Detached => 200,
        Outcome::Interrupted(_) => 201,
        Outcome::OutputClosed => 141,
        Outcome::GivenUp => 1,
    }
}

/// `run` (with `attach`: in the foreground).
pub(crate) fn run(spec: &Spec) -> i32 {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let prepared = monitor::prepare(true, &path).unwrap();
    let store = Store::open(&spec.top.join("store")).unwrap();
    if store.find_container(&spec.id).is_err() {
        store.create_container(record(spec)).unwrap();
    }
    let options = relay_options(spec);
    match prepared.start(order(spec, &store), spec.attach.map(|_| &options)) {
        Ok(started) => started
            .client
            .map_or(0, |client| code_of(client.relay(&options).unwrap())),
        Err(error) => {
            println!("{error} {:?}", rctr_storage::explain::Explain::hint(&error));
            error.exit_code().into()
        }
    }
}

pub(crate) fn attach(spec: &Spec) -> i32 {
    let options = relay_options(spec);
    let client = Client::connect(&spec.top.join("run"), &spec.id, &options).unwrap();
    code_of(client.relay(&options).unwrap())
}

pub(crate) fn layer() -> Digest {
    Digest::from_hex(&"ab".repeat(32)).unwrap()
}

fn record(spec: &Spec) -> ContainerRecord {
    ContainerRecord {
        version: rctr_storage::record::RECORD_VERSION,
        id: spec.id.clone(),
        name: format!("n{}", &spec.id[..12]),
        created: rctr_storage::timestamp::now(),
        path: String::new(),
        args: Vec::new(),
        image: layer(),
        layers: vec![layer()],
        platform: String::new(),
        driver: "overlay".to_owned(),
        config: ContainerConfig::default(),
        host_config: HostConfig {
            auto_remove: spec.rm,
            ..HostConfig::default()
        },
        mounts: Vec::new(),
    }
}

fn order(spec: &Spec, store: &Store) -> MonitorOrder {
    let dir = store.container_dir(&spec.id);
    let merged = dir.join("merged");
    let _ = fs::create_dir(&merged);
    let new = Namespace::Private;
    MonitorOrder {
        store: store.root().to_owned(),
        run: spec.top.join("run"),
        plan: LaunchPlan {
            container_id: spec.id.clone(),
            namespaces: Namespaces {
                user: new.clone(),
                pid: new.clone(),
                net: new.clone(),
                ipc: new.clone(),
                uts: new.clone(),
                cgroup: new,
            },
            rootfs: RootfsPlan {
                driver: Driver::Overlay,
                lowers: vec![layer_dir(&spec.top)],
                upper: dir.join("upper"),
                work: dir.join("work"),
                merged,
                read_only: false,
                volatile: false,
            },
            mounts: Vec::new(),
            devices: Vec::new(),
            shm_size: 1 << 20,
            sysctls: BTreeMap::new(),
            default_sysctls: BTreeMap::new(),
            masked_paths: Vec::new(),
            readonly_paths: Vec::new(),
            privileged: false,
            emulation: None,
            hostname: "test".to_owned(),
            domainname: String::new(),
            process: ProcessPlan {
                argv: spec.argv.clone(),
                env: vec!["PATH=/bin".to_owned()],
                cwd: "/".into(),
                create_cwd: false,
                user: String::new(),
                additional_groups: Vec::new(),
                capabilities: ["CAP_SETUID", "CAP_SETGID", "CAP_KILL"]
                    .map(str::to_owned)
                    .to_vec(),
                rlimits: Vec::new(),
                no_new_privileges: false,
                seccomp: Seccomp::Default,
                tty: spec.tty,
                oom_score_adj: None,
            },
            init: false,
            tells_made: false,
        },
        network: spec.network.clone().unwrap_or(NetworkPlan {
            mode: Mode::None,
            ..NetworkPlan::default()
        }),
        open_stdin: spec.open_stdin,
        stdin_once: spec.stdin_once,
        log: LogConfig {
            config: spec.log.clone(),
            ..LogConfig::default()
        },
        auto_remove: spec.rm,
        restart: spec.restart.clone(),
        stop_signal: 15,
        stop_timeout: 10,
        health: spec.health.clone(),
        attach: None,
        size: None,
    }
}
