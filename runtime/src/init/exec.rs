//! The hidden verb `exec-init`: a further process in a running container, already in its namespaces.

use std::fs::File;
use std::os::fd::OwnedFd;

use super::{Context, Step, console, process, read_order};
use crate::handshake::{Channel, FromInit};
use crate::launch::CHANNEL_FD;
use crate::plan::ProcessPlan;
use crate::sys;

/// The main function of `exec-init`.
pub fn main() -> ! {
    sys::set_name(c"rctr-exec");
    sys::set_dumpable(false);
    let Ok(channel) = Channel::inherited(CHANNEL_FD) else {
        sys::exit_now(125)
    };
    if let Err(failure) = run(&channel) {
        // Without a listener there is nobody to tell.
        let _ = channel.send(&FromInit::Failed(failure), None);
    }
    sys::exit_now(125)
}

fn run(channel: &Channel) -> Step {
    let plan: ProcessPlan = read_order()?;
    // The mount namespace that we joined has the container's root as its root.
    let root: OwnedFd = File::open("/").at("open the root file system", "/")?.into();
    let console = if plan.tty {
        Some(console::open_pty(&root, channel)?)
    } else {
        None
    };
    process::working_directory(&plan)?;
    match console {
        Some(console) => console.attach()?,
        None => drop(nix::unistd::setsid().at("start a session", "")?),
    }
    process::prepare(&plan)?.exec()
}
