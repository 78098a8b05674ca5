//! From a plan to a running network: see the module's picture.

use std::ffi::OsString;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use super::handle::{NetworkHandle, Recipe, reap};
use super::helper::{self, Found, Starting};
use super::listen::{self, Bound, Listener, Published};
use super::relay_process::Relay;
use rctr_storage::record::Endpoint;

use super::{Mode, NetError, NetworkPlan, Subnet, host, names};

/// A helper that isn't up by then never will be.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A network that is decided on: its ports are ours, its helper is chosen, nothing runs yet.
#[derive(Debug)]
pub struct Prepared {
    plan: NetworkPlan,
    private: Option<Private>,
    listeners: Vec<Listener>,
    host_resolv_conf: String,
}

#[derive(Debug)]
struct Private {
    found: Found,
    subnet: Subnet,
}

/// Decides on the network and takes the published ports, before anything of the container is started.
///
/// `others` tells what running containers have published; it is asked for only when a port is taken.
///
/// # Errors
/// No helper is installed, or a port is taken, reserved or unknown to the host.
pub fn prepare(
    plan: &NetworkPlan,
    others: &dyn Fn() -> Vec<Published>,
) -> Result<Prepared, NetError> {
    // Without the file the C library asks 127.0.0.1; so does the helper.
    let host_resolv_conf = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let (mut private, mut listeners) = (None, Vec::new());
    if plan.mode == Mode::Private {
        let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
        let subnet = Subnet::choose(&routes, &names::name_servers(&host_resolv_conf));
        private = Some(Private {
            found: helper::find(plan.helper)?,
            subnet,
        });
        listeners = listen::bind_all(&plan.ports, others)?;
    }
    Ok(Prepared {
        plan: plan.clone(),
        private,
        listeners,
        host_resolv_conf,
    })
}

impl Prepared {
    /// The text of the container's /etc/resolv.conf.
    #[must_use]
    pub fn resolv_conf(&self) -> String {
        names::resolv_conf(&self.plan, self.subnet(), &self.host_resolv_conf)
    }

    /// The text of the container's /etc/hosts.
    #[must_use]
    pub fn hosts(&self) -> String {
        let wants_gateway = self
            .plan
            .extra_hosts
            .iter()
            .any(|(_, address)| address == "host-gateway");
        let gateway = if wants_gateway {
            host::host_gateway()
        } else {
            None
        };
        let host_file = match self.plan.mode {
            Mode::Host => fs::read_to_string("/etc/hosts").unwrap_or_default(),
            _ => String::new(),
        };
        let address = self.subnet().map(|subnet| IpAddr::V4(subnet.container()));
        names::hosts(&self.plan, address, gateway, &host_file)
    }

    /// The container's network, mode `private` only.
    #[must_use]
    pub fn subnet(&self) -> Option<Subnet> {
        self.private.as_ref().map(|private| private.subnet)
    }

    /// The ports as they are bound: what `rctr port` shows.
    #[must_use]
    pub fn ports(&self) -> Bound {
        listen::bound(&self.listeners)
    }

    /// The container's own addresses, as its state has them.
    #[must_use]
    pub fn endpoint(&self) -> Option<Endpoint> {
        let private = self.private.as_ref()?;
        Some(private.subnet.endpoint(private.found.sets_mac))
    }

    /// Starts the helper processes for the network namespace of `pid` and returns at once. `relay` is the command that
    /// runs [`relay::run`]: our own program and its hidden verb. The caller can enter that namespace: it has made it,
    /// or is root of the user namespace that owns it.
    ///
    /// # Errors
    /// A program can't be started.
    pub fn attach(self, pid: i32, relay: &[OsString]) -> Result<Attaching, NetError> {
        let ports = self.ports();
        let Some(Private { found, subnet }) = self.private else {
            return Ok(Attaching {
                relay: None,
                helper: None,
                handle: NetworkHandle::new(ports, None),
            });
        };
        let recipe = Recipe {
            found,
            mtu: self.plan.mtu,
            subnet,
            pid,
            relay: relay.to_vec(),
            listeners: self.listeners,
        };
        reap();
        // The slower one first.
        let helper = recipe.start_helper()?;
        Ok(Attaching {
            relay: recipe.start_relay()?,
            helper: Some(helper),
            handle: NetworkHandle::new(ports, Some(recipe)),
        })
    }
}

/// Helpers on their way up.
#[derive(Debug)]
pub struct Attaching {
    relay: Option<Relay>,
    helper: Option<Starting>,
    handle: NetworkHandle,
}

impl Attaching {
    /// Waits until the network is usable: interface, address, route, published ports.
    ///
    /// # Errors
    /// What the helper said. Nothing is left running then.
    pub fn finish(self) -> Result<NetworkHandle, NetError> {
        let mut handle = self.handle;
        handle.relay = self.relay;
        if let Some(helper) = self.helper {
            handle.helper = Some(helper.finish(START_TIMEOUT)?);
        }
        if let Some(relay) = &handle.relay {
            relay.wait()?;
        }
        handle.entrust()?;
        Ok(handle)
    }
}
