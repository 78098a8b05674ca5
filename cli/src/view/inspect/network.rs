//! `NetworkSettings` of a container.

use std::collections::BTreeMap;

use rctr_storage::container::Container;
use rctr_storage::record::{PortBinding, Status};
use serde_json::{Value, json};

use crate::view::container_row::network;

/// The document. A container without a network of its own has no address.
pub(super) fn document(container: &Container) -> Value {
    let mut out = json!({
        "Bridge": "",
        "SandboxID": "",
        "SandboxKey": "",
        "Ports": ports(container),
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
    });
    let endpoint = endpoint(container);
    for (key, value) in &endpoint {
        out[key] = value.clone();
    }
    let mut networks = serde_json::Map::new();
    let name = network(&container.record.host_config.network_mode);
    if !name.is_empty() {
        let mut entry = json!({
            "IPAMConfig": null,
            "Links": null,
            "Aliases": null,
            "DriverOpts": null,
            "GwPriority": 0,
            "NetworkID": "",
        });
        for (key, value) in endpoint {
            entry[key] = value;
        }
        entry["DNSNames"] = Value::Null;
        networks.insert(name.to_owned(), entry);
    }
    out["Networks"] = Value::Object(networks);
    out
}

fn endpoint(container: &Container) -> Vec<(&'static str, Value)> {
    // What a killed monitor has left in the record is no address any more.
    let end = container.state.endpoint.clone().filter(|_| live(container));
    let end = end.unwrap_or_default();
    vec![
        ("EndpointID", json!("")),
        ("Gateway", json!(end.gateway)),
        ("GlobalIPv6Address", json!("")),
        ("GlobalIPv6PrefixLen", json!(0)),
        ("IPAddress", json!(end.ip_address)),
        ("IPPrefixLen", json!(end.ip_prefix_len)),
        ("IPv6Gateway", json!("")),
        ("MacAddress", json!(end.mac_address)),
    ]
}

fn live(container: &Container) -> bool {
    matches!(container.state.status, Status::Running | Status::Paused)
}

/// What is bound now; ports that are only exposed are null. Nothing while the container doesn't run.
fn ports(container: &Container) -> BTreeMap<String, Option<Vec<PortBinding>>> {
    if !live(container) {
        return BTreeMap::new();
    }
    let mut ports = container.state.ports.clone();
    for key in container.record.config.exposed_ports.keys() {
        ports.entry(key.clone()).or_default();
    }
    ports
}
