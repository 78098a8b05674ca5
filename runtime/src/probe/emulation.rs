//! Whether programs of another processor run here.

use super::{Outcome, Probe, Trouble, World};
use crate::emulation;

/// Tried with the processor that most images are for beside this one. Few want it, so its absence is no fault.
pub(super) fn emulation(world: &World<'_>) -> Probe {
    const NAME: &str = "emulation";
    let other = match std::env::consts::ARCH {
        "aarch64" => "amd64",
        _ => "arm64",
    };
    if emulation::is_system_wide(other) {
        return Probe::works(
            NAME,
            format!("{other} programs run by a handler of the host"),
        );
    }
    let means =
        format!("images for {other} and other processors can be made and moved, but not run");
    let Some(handler) = emulation::find(&format!("linux/{other}"), world.surroundings.path) else {
        return Probe::note(NAME, format!("no static qemu for {other} in $PATH"))
            .means(means)
            .fix("apt install qemu-user-static");
    };
    let qemu = handler.interpreter.display().to_string();
    let attempt = world.inside(|| match emulation::register(&handler) {
        Ok(_) => Ok(format!(
            "{other} programs run by {qemu}, in containers only"
        )),
        Err(error) => Err(Trouble {
            what: format!("{qemu} is here, but no binfmt_misc of our own"),
            errno: error.raw_os_error().unwrap_or(0),
        }),
    });
    match attempt {
        None => Probe::not_tried(NAME),
        Some(Ok(found)) => Probe::works(NAME, found),
        Some(Err(trouble)) => Probe::new(NAME, Outcome::Note, trouble.to_string())
            .means(means)
            .fix("Linux 6.7 or newer; or a handler for the whole host, by root: apt install qemu-user-static binfmt-support"),
    }
}
