//! The monitor's own main: from a fresh process image to a running program, or to the reason why not.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, setns};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, dup2_stdin, dup2_stdout, setsid};
use rctr_storage::atomic::Durability;
use rctr_storage::explain::Explain;
use rctr_storage::store::Store;

use super::clients::Client;
use super::health::Checks;
use super::program::Program;
use super::restart::Restarts;
use super::state::Book;
use super::supervise::Supervisor;
use super::{MonitorOrder, OWN_USER_NAMESPACE, StartFailure, network};
use crate::attach::message::Event;
use crate::attach::{run_directory, socket};
use crate::identity::{self, Entered, Mounts};
use crate::log;
use crate::plan::Namespace;
use crate::{rootfs, sys};

/// What the monitor can't do before the program runs.
#[derive(Debug, thiserror::Error)]
enum SetUpError {
    #[error("cannot read the monitor's order")]
    Order(#[source] io::Error),
    #[error("cannot understand the monitor's order")]
    Format(#[source] serde_json::Error),
    #[error("cannot join the user namespace of the other container")]
    JoinUser(#[source] io::Error),
    #[error("cannot listen in {1}")]
    Listen(#[source] io::Error, String),
}

impl Explain for SetUpError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::JoinUser(_) => {
                Some("is the container whose namespaces are joined running?".to_owned())
            }
            Self::Listen(..) => {
                Some("set XDG_RUNTIME_DIR or RCTR_RUN to a directory of yours".to_owned())
            }
            Self::Order(_) | Self::Format(_) => None,
        }
    }
}

fn refuse(error: &dyn Explain) -> StartFailure {
    StartFailure::new(error, 125)
}

/// Runs a monitor: order on descriptor 0, the cli on descriptor 1. `arguments` are those after the verb; `path` is
/// `$PATH`. Returns when the container has ended, with the exit code for this process.
#[must_use]
pub fn main(arguments: &[OsString], path: &str) -> u8 {
    let (order, cli) = match detach() {
        Ok(fds) => fds,
        // Descriptors 0 and 1 aren't what a monitor gets: somebody called the hidden verb by hand.
        Err(_) => return 125,
    };
    // While the cli still prepares the order: two programs may have to be run for the map.
    let own = arguments.iter().any(|a| a == OWN_USER_NAMESPACE);
    let entered = own.then(|| enter_own(path)).transpose();
    let mut client = Client::new(cli);
    let started = match read_order(order) {
        // The cli has changed its mind.
        Ok(bytes) if bytes.is_empty() => return 0,
        Ok(bytes) => entered.and_then(|entered| {
            let supervisor = set_up(&bytes, own, path, &mut client);
            // Its helpers have had their time to end.
            drop(entered);
            supervisor
        }),
        Err(error) => Err(refuse(&SetUpError::Order(error))),
    };
    match started {
        Ok(supervisor) => {
            supervisor.run(client);
            0
        }
        Err(failure) => {
            let json = serde_json::to_vec(&failure).unwrap_or_default();
            client.event(&Event::Failed(&json));
            failure.code
        }
    }
}

/// Leaves the caller's session and directory; nothing of what it had open stays.
fn detach() -> io::Result<(OwnedFd, OwnedFd)> {
    // Before anything here has opened one.
    sys::close_from(3);
    let order = io::stdin().as_fd().try_clone_to_owned()?;
    let cli = io::stdout().as_fd().try_clone_to_owned()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    // It fails only for the leader of a process group, which a spawned process isn't.
    let _ = setsid();
    chdir("/")?;
    umask(Mode::from_bits_truncate(0o022));
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    sys::set_name(c"rctr-monitor");
    Ok((order, cli))
}

fn enter_own(path: &str) -> Result<Entered, StartFailure> {
    identity::detect(path)
        .and_then(|identity| identity::enter(&identity, Mounts::Host))
        .map_err(|error| refuse(&error))
}

fn read_order(order: OwnedFd) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::from(order).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// From the order to a program that runs, told to the client.
fn set_up(
    bytes: &[u8],
    entered: bool,
    path: &str,
    client: &mut Client,
) -> Result<Supervisor, StartFailure> {
    let order = parse(bytes)?;
    match &order.plan.namespaces.user {
        Namespace::Of(file) => {
            let join = || -> io::Result<()> {
                setns(File::open(file)?, CloneFlags::CLONE_NEWUSER)?;
                sys::set_ids(0, 0, &[])
            };
            join().map_err(|e| refuse(&SetUpError::JoinUser(e)))?;
        }
        Namespace::Private if !entered => drop(enter_own(path)?),
        Namespace::Private | Namespace::Host => {}
    }
    let id = &order.plan.container_id;
    let store = Store::open(&order.store).map_err(|e| refuse(&e))?;
    let mut book = Book::open(store, id).map_err(|e| refuse(&e))?;
    let attempt = launch(&order, &mut book);
    match attempt {
        Ok((program, listener, log)) => {
            let pid = program.pid.as_raw();
            if let Some(streams) = order.attach {
                client.attach_primary(streams);
            }
            client.event(&Event::Started { pid });
            let restarts = Restarts::new(order.restart.clone());
            let checks = Checks::new(order.health.as_ref());
            let kept = if restarts.possible() || checks.is_some() {
                keep(bytes).ok()
            } else {
                None
            };
            Ok(Supervisor::new(
                &order, book, program, listener, log, restarts, checks, kept,
            ))
        }
        Err(failure) => {
            // What can't be written or removed now is for the next command; the failure is the news.
            if order.auto_remove {
                book.remove(|| {});
            } else {
                let _ = book.never_started(i32::from(failure.code), failure.line());
            }
            socket::unbind(&run_directory(&order.run, id));
            Err(failure)
        }
    }
}

type Parts = (Program, OwnedFd, Option<log::Writer>);

/// Starts the program, with its log and socket: who asks for it finds them there.
fn launch(order: &MonitorOrder, book: &mut Book) -> Result<Parts, StartFailure> {
    let durability = match order.auto_remove {
        true => Durability::None,
        false => Durability::Fsync,
    };
    rootfs::prepare(&order.store, &order.plan.rootfs, durability).map_err(|e| refuse(&e))?;
    let health = Checks::first_state(order.health.as_ref());
    let files = |book: &Book| {
        let outlets = outlets(order, book)?;
        let network = network::prepare(&order.network, book.store(), &book.directory())?;
        Ok((network, outlets))
    };
    let (program, (listener, log)) = Program::start(order, book, health, files)?;
    Ok((program, listener, log))
}

/// Socket and log.
fn outlets(
    order: &MonitorOrder,
    book: &Book,
) -> Result<(OwnedFd, Option<log::Writer>), StartFailure> {
    let log = match order.log.driver.as_str() {
        "none" => None,
        _ => {
            let limits = log::limits(&order.log).map_err(|e| refuse(&e))?;
            let path = log::path(&book.directory());
            Some(log::Writer::open(&path, limits).map_err(|e| refuse(&e))?)
        }
    };
    let directory = run_directory(&order.run, &order.plan.container_id);
    let listener = socket::bind_in(&directory)
        .map_err(|e| refuse(&SetUpError::Listen(e, directory.display().to_string())))?;
    Ok((listener, log))
}

/// The order in a memory file: it counts for nobody's resident memory until it is needed.
fn keep(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"rctr-order", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}

/// The order of [`keep`].
pub(super) fn kept_order(file: &mut File) -> Result<MonitorOrder, StartFailure> {
    let mut bytes = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut bytes))
        .map_err(|e| refuse(&SetUpError::Order(e)))?;
    parse(&bytes)
}

/// The order, with what its network asks of the plan.
fn parse(bytes: &[u8]) -> Result<MonitorOrder, StartFailure> {
    let mut order: MonitorOrder =
        serde_json::from_slice(bytes).map_err(|e| refuse(&SetUpError::Format(e)))?;
    for (name, value) in order.network.sysctls() {
        let defaults = &mut order.plan.default_sysctls;
        defaults.insert(name.to_owned(), value.to_owned());
    }
    Ok(order)
}
