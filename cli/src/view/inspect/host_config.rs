//! `HostConfig` of a container, with all of docker's keys: those that rctr doesn't have show docker's defaults.

use rctr_storage::record::HostConfig;
use serde_json::{Value, json};

use super::list;
use crate::merge::plan::Security;
use crate::view::container_row::network;

/// Bytes of /dev/shm unless asked for.
const SHM: i64 = 64 << 20;

/// The document.
pub(super) fn document(host: &HostConfig) -> Value {
    let security = Security::of(host);
    let or = |text: &str, default: &str| {
        if text.is_empty() {
            default.to_owned()
        } else {
            text.to_owned()
        }
    };
    let mode = &host.network_mode;
    let network = if mode.starts_with("container:") {
        mode
    } else {
        network(mode)
    };
    let mut out = json!({
        "Binds": list(&host.binds),
        "ContainerIDFile": host.container_id_file,
        "LogConfig": host.log_config,
        "NetworkMode": network,
        "PortBindings": host.port_bindings,
        "RestartPolicy": {
            "Name": or(&host.restart_policy.name, "no"),
            "MaximumRetryCount": host.restart_policy.maximum_retry_count,
        },
        "AutoRemove": host.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": list(&host.volumes_from),
        "ConsoleSize": [0, 0],
        "CapAdd": list(&host.cap_add),
        "CapDrop": list(&host.cap_drop),
        "CgroupnsMode": or(&host.cgroupns_mode, "private"),
        "Dns": host.dns,
        "DnsOptions": host.dns_options,
        "DnsSearch": host.dns_search,
        "ExtraHosts": list(&host.extra_hosts),
        "GroupAdd": list(&host.group_add),
        "IpcMode": or(&host.ipc_mode, "private"),
        "Cgroup": "",
        "Links": null,
        "OomScoreAdj": host.oom_score_adj,
        "PidMode": host.pid_mode,
        "Privileged": host.privileged,
        "PublishAllPorts": host.publish_all_ports,
        "ReadonlyRootfs": host.readonly_rootfs,
        "SecurityOpt": list(&host.security_opt),
    });
    let map = out.as_object_mut().expect("it was made as an object");
    // Docker leaves these out when they are empty.
    if !host.tmpfs.is_empty() {
        map.insert("Tmpfs".to_owned(), json!(host.tmpfs));
    }
    map.insert("UTSMode".to_owned(), json!(host.uts_mode));
    map.insert("UsernsMode".to_owned(), json!(host.userns_mode));
    let shm = if host.shm_size == 0 {
        SHM
    } else {
        host.shm_size
    };
    map.insert("ShmSize".to_owned(), json!(shm));
    if !host.sysctls.is_empty() {
        map.insert("Sysctls".to_owned(), json!(host.sysctls));
    }
    map.insert("Runtime".to_owned(), json!("rctr"));
    map.insert("Isolation".to_owned(), json!(""));
    let Value::Object(limits) = limits(host) else {
        return out;
    };
    map.extend(limits);
    if !host.mounts.is_empty() {
        let mounts: Vec<_> = host.mounts.iter().map(mount).collect();
        map.insert("Mounts".to_owned(), Value::Array(mounts));
    }
    map.insert("MaskedPaths".to_owned(), json!(security.masked));
    map.insert("ReadonlyPaths".to_owned(), json!(security.read_only));
    if host.init {
        map.insert("Init".to_owned(), json!(true));
    }
    out
}

/// Resources.
fn limits(host: &HostConfig) -> Value {
    let pids = if host.pids_limit == 0 {
        Value::Null
    } else {
        json!(host.pids_limit)
    };
    json!({
        "CpuShares": host.cpu_shares,
        "Memory": host.memory,
        "NanoCpus": host.nano_cpus,
        "CgroupParent": "",
        "BlkioWeight": 0,
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": [],
        "BlkioDeviceWriteBps": [],
        "BlkioDeviceReadIOps": [],
        "BlkioDeviceWriteIOps": [],
        "CpuPeriod": host.cpu_period,
        "CpuQuota": host.cpu_quota,
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": host.cpuset_cpus,
        "CpusetMems": host.cpuset_mems,
        "Devices": host.devices,
        "DeviceCgroupRules": null,
        "DeviceRequests": null,
        "MemoryReservation": host.memory_reservation,
        "MemorySwap": host.memory_swap,
        "MemorySwappiness": null,
        "OomKillDisable": null,
        "PidsLimit": pids,
        "Ulimits": host.ulimits.iter().map(|u| json!({"Name": u.name, "Hard": u.hard, "Soft": u.soft})).collect::<Vec<_>>(),
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    })
}

/// A `--mount` as docker shows it.
fn mount(request: &rctr_storage::record::MountRequest) -> Value {
    let mut out = json!({"Type": request.kind});
    if !request.source.is_empty() {
        out["Source"] = json!(request.source);
    }
    out["Target"] = json!(request.target);
    if request.read_only {
        out["ReadOnly"] = json!(true);
    }
    if request.kind == "bind" && !request.propagation.is_empty() {
        out["BindOptions"] = json!({"Propagation": request.propagation});
    }
    if request.no_copy {
        out["VolumeOptions"] = json!({"NoCopy": true});
    }
    out
}
