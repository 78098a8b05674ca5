//! Init: the container's first process, from its birth in new namespaces to the exec of the program.
//!
//! It is a fresh image of our executable with one thread, root of the container's user namespace, PID 1 of its PID
//! namespace. What it does is the list in [`set_up`] and [`start`]; each step names itself, its object and its errno
//! when it fails, and the parent reports that as one sentence.

mod console;
mod dev;
mod exec;
mod layered;
mod mounts;
mod process;
mod reaper;
mod rootfs;
mod target;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::mount::{MsFlags, mount};

use crate::emulation::{self, Emulation};
use crate::handshake::{Channel, Failure, FailureKind, FromInit, FromParent};
use crate::launch::{CHANNEL_FD, ORDER_FD};
use crate::plan::{LaunchPlan, Namespace};
use crate::sys;

pub use exec::main as exec_main;
pub(crate) use rootfs::mount_overlay;

/// What a step returns.
type Step<T = ()> = Result<T, Failure>;

/// Names the step and the object of an error.
trait Context<T> {
    fn at(self, step: &str, object: impl AsRef<str>) -> Step<T>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn at(self, step: &str, object: impl AsRef<str>) -> Step<T> {
        self.map_err(|error| {
            let error: io::Error = error.into();
            Failure {
                step: step.to_owned(),
                object: object.as_ref().to_owned(),
                errno: error.raw_os_error().unwrap_or(0),
                detail: if error.raw_os_error().is_none() {
                    error.to_string()
                } else {
                    String::new()
                },
                kind: FailureKind::SetUp,
                shape: None,
            }
        })
    }
}

/// The main function of the hidden verb `init`.
pub fn main() -> ! {
    sys::set_name(c"rctr-init");
    // Until the program runs: in a PID namespace that others are in, too, nobody may look at us.
    sys::set_dumpable(false);
    let Ok(channel) = Channel::inherited(CHANNEL_FD) else {
        sys::exit_now(125)
    };
    let result = read_order::<LaunchPlan>().and_then(|plan| {
        let console = set_up(&plan, &channel)?;
        if plan.tells_made {
            tell_made(&plan, &channel)?;
        }
        await_release(&channel)?;
        start(&plan, console)
    });
    if let Err(failure) = result {
        // Without a listener there is nobody to tell.
        let _ = channel.send(&FromInit::Failed(failure), None);
    }
    sys::exit_now(125)
}

/// The world of the container, in the order that the kernel needs.
fn set_up(plan: &LaunchPlan, channel: &Channel) -> Step<Option<console::Console>> {
    // If the monitor dies, so do we; again after the user changed, which clears it (prctl(2)).
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0)
        .at("ask to die with the monitor", "")?;
    umask();
    // Nothing that we mount may reach the host, while unmounts there still reach us.
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_SLAVE,
        None::<&str>,
    )
    .at("detach from the host's mounts", "/")?;
    let root = rootfs::mount_root(&plan.rootfs, channel)?;
    if let Some(emulation) = &plan.emulation {
        emulate(emulation, channel)?;
    }
    // Volumes are filled from the image, so before anything covers it.
    mounts::fill_volumes(&root, &plan.mounts)?;
    mounts::give_to_user(&root, plan)?;
    mounts::standard(&root, plan)?;
    dev::populate(&root, plan)?;
    // The monitor has made files of them meanwhile.
    hear(channel, |word| matches!(word, FromParent::Files))?;
    mounts::requested(&root, &plan.mounts)?;
    let console = if plan.process.tty {
        Some(console::open(&root, channel)?)
    } else {
        None
    };
    host_name(plan)?;
    sysctls(plan)?;
    if plan.namespaces.net == Namespace::Private {
        sys::loopback_up().at("bring the loopback interface up", "lo")?;
    }
    if !plan.privileged {
        // After the sysctls, which are written there.
        mounts::protect(&root, plan)?;
    }
    rootfs::pivot(&root, &plan.rootfs)?;
    process::working_directory(&plan.process)?;
    Ok(console)
}

/// The step of [`emulate`], whose failure has a hint of its own.
pub(crate) const EMULATE: &str = "let the kernel run programs of another processor";

/// Registers the handler; the parent keeps it. While the host's files are there.
fn emulate(emulation: &Emulation, channel: &Channel) -> Step {
    let object = format!(
        "{}, by {}",
        emulation.architecture,
        emulation.interpreter.display()
    );
    let kept = emulation::register(emulation).at(EMULATE, object)?;
    channel
        .send(&FromInit::Emulation, Some(kept.as_fd()))
        .at("tell the monitor", "")
}

/// From here on the container runs.
fn start(plan: &LaunchPlan, console: Option<console::Console>) -> Step {
    if let Some(console) = console {
        console.attach()?;
    }
    let program = process::prepare(&plan.process)?;
    if plan.init {
        reaper::become_parent_of_program()?;
    }
    program.exec()
}

fn read_order<T: serde::de::DeserializeOwned>() -> Step<T> {
    let mut text = Vec::new();
    let read = sys::inherited_fd(ORDER_FD).and_then(|fd| File::from(fd).read_to_end(&mut text));
    read.at("read the work order", "")?;
    serde_json::from_slice(&text)
        .map_err(io::Error::other)
        .at("understand the work order", "")
}

/// Tells the parent which mount points were made.
fn tell_made(plan: &LaunchPlan, channel: &Channel) -> Step {
    for path in target::made() {
        let Ok(inside) = path.strip_prefix(&plan.rootfs.merged) else {
            continue;
        };
        channel
            .send(&FromInit::Made(Path::new("/").join(inside)), None)
            .at("tell the monitor", "")?;
    }
    Ok(())
}

/// Tells the parent that all stands, and waits for its word.
fn await_release(channel: &Channel) -> Step {
    channel
        .send(&FromInit::Ready, None)
        .at("tell the monitor", "")?;
    hear(channel, |word| matches!(word, FromParent::Release))
}

/// Waits for this word of the parent's.
fn hear(channel: &Channel, wanted: impl Fn(&FromParent) -> bool) -> Step {
    match channel.receive::<FromParent>() {
        Ok(Some((word, _))) if wanted(&word) => Ok(()),
        Ok(Some(_)) => {
            Err(io::Error::from_raw_os_error(libc::EPROTO)).at("hear from the monitor", "")
        }
        // The monitor is gone: nobody wants the container.
        Ok(None) => sys::exit_now(125),
        Err(error) => Err(error).at("hear from the monitor", ""),
    }
}

fn umask() {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
}

fn host_name(plan: &LaunchPlan) -> Step {
    if plan.namespaces.uts != Namespace::Private {
        return Ok(());
    }
    nix::unistd::sethostname(&plan.hostname).at("set the host name", &plan.hostname)?;
    if !plan.domainname.is_empty() {
        std::fs::write("/proc/sys/kernel/domainname", &plan.domainname)
            .at("set the domain name", &plan.domainname)?;
    }
    Ok(())
}

/// The user's own settings replace and outdo ours, which aren't worth a failure.
fn sysctls(plan: &LaunchPlan) -> Step {
    for (name, value) in &plan.default_sysctls {
        let _ = set_sysctl(name, value);
    }
    for (name, value) in &plan.sysctls {
        set_sysctl(name, value).at("set the sysctl", format!("{name}={value}"))?;
    }
    Ok(())
}

/// sysctl(8) names: `.` separates, `/` is allowed too. They are written through the host's /proc, which shows the
/// values of the writer's own namespaces.
fn set_sysctl(name: &str, value: &str) -> io::Result<()> {
    let path = if name.contains('/') {
        name.to_owned()
    } else {
        name.replace('.', "/")
    };
    if path.split('/').any(|part| part == "..") {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    std::fs::write(format!("/proc/sys/{path}"), value)
}

/// Mounts a volume inside `root`, outside of containers: for a look into a stopped one.
pub(crate) fn bind_volume(root: &OwnedFd, source: &Path, target: &Path) -> io::Result<()> {
    mounts::bind(
        root,
        source,
        target,
        mounts::ReadOnly::No,
        mounts::Tree::Recursive,
        "rprivate",
    )
}
