//! `rctr login` and `rctr logout`.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;

use clap::{Arg, ArgMatches, Command};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::SignalFd;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use rctr_storage::reference::Reference;

use super::create::io_failure;
use super::words;
use crate::command::Verb;
use crate::context::Context;
use crate::credentials::{self, Login};
use crate::output;
use crate::registries::{self, Registries, tls_verify};
use crate::report::Failure;

/// `login`.
pub(crate) const LOGIN: Verb = Verb {
    names: &["login"],
    about: "Log in to a registry",
    args: |command| {
        server(command)
            .arg(words::value("username", Some('u'), "Who"))
            .arg(words::value(
                "password",
                Some('p'),
                "The password; others on this machine can see it: better --password-stdin",
            ))
            .arg(words::on(
                "password-stdin",
                None,
                "Read the password from standard input",
            ))
            .arg(tls_verify())
    },
    run: login,
};

/// `logout`.
pub(crate) const LOGOUT: Verb = Verb {
    names: &["logout"],
    about: "Forget the credentials of a registry",
    args: server,
    run: logout,
};

/// Bytes of a password.
const LIMIT: u64 = 64 << 10;

fn server(command: Command) -> Command {
    command.arg(
        Arg::new("server")
            .value_name("SERVER[/REPOSITORY]")
            .help("The registry, or only a part of it (default: Docker Hub)"),
    )
}

/// The registry, and what its credentials stand under.
struct Server {
    registry: String,
    repository: String,
    key: String,
}

impl Server {
    fn of(matches: &ArgMatches) -> Result<Self, Failure> {
        let word = words::text(matches, "server").unwrap_or_default();
        let plain = match credentials::plain(word) {
            "" => "docker.io",
            plain => plain,
        };
        let (registry, repository) = plain.split_once('/').unwrap_or((plain, ""));
        let path = if repository.is_empty() {
            "x"
        } else {
            repository
        };
        // A host without dot and port would be taken for a part of the path.
        let probe = match registry.contains(['.', ':']) || registry == "localhost" {
            true => format!("{registry}/{path}"),
            false => format!("{registry}.x/{path}"),
        };
        Reference::parse_bare(&probe).map_err(|_| {
            Failure::new(format!("{word:?} is no registry"))
                .hint("write HOST[:PORT][/REPOSITORY], for example registry.example:5000")
        })?;
        let key = match repository {
            "" => credentials::key_of(registry),
            path => format!("{registry}/{path}"),
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            key,
        })
    }
}

fn login(_: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let server = Server::of(matches)?;
    let user = words::text(matches, "username");
    let password = words::text(matches, "password");
    let from_stdin = words::is_on(matches, "password-stdin");
    if password.is_some() {
        output::note("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    let password = match (password, from_stdin) {
        (Some(_), true) => {
            return Err(Failure::new(
                "--password and --password-stdin are mutually exclusive",
            ));
        }
        (None, true) if user.is_none() => {
            return Err(Failure::new(
                "Must provide --username with --password-stdin",
            ));
        }
        (None, true) => Some(password_from_stdin()?),
        (password, false) => password.map(str::to_owned),
    };
    if user.is_some_and(str::is_empty) || password.as_ref().is_some_and(String::is_empty) {
        return Err(Failure::new("user name and password must not be empty"));
    }
    let registries = Registries::new(matches)?;
    let known = registries
        .keys
        .login(&server.registry, &server.repository)?;
    if let (None, None, Some(known)) = (user, &password, &known) {
        output::line("Authenticating with existing credentials...");
        match ping(&registries, &server, known) {
            Ok(()) => {
                output::line("Login Succeeded");
                return Ok(0);
            }
            Err(failure) if !io::stdin().is_terminal() => return Err(failure),
            Err(failure) => output::error(&failure),
        }
    }
    let login = ask(user, password, known.as_ref())?;
    ping(&registries, &server, &login)?;
    if let Some(path) = registries.keys.store(&server.key, &login)? {
        output::note(format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\n\
             Configure a credential helper to remove this warning: \"credsStore\" in that file names one.\n",
            path.display()
        ));
    }
    output::line("Login Succeeded");
    Ok(0)
}

fn ping(registries: &Registries, server: &Server, login: &Login) -> Result<(), Failure> {
    let credential = registries::credential(login);
    Ok(registries
        .client
        .ping(&server.registry, Some(&credential))?)
}

/// What wasn't given is asked for.
fn ask(
    user: Option<&str>,
    password: Option<String>,
    known: Option<&Login>,
) -> Result<Login, Failure> {
    if (user.is_none() || password.is_none()) && !io::stdin().is_terminal() {
        return Err(
            Failure::new("Cannot perform an interactive login from a non TTY device")
                .hint("give the password by --password-stdin, and the user by -u"),
        );
    }
    let user = match user {
        Some(user) => user.to_owned(),
        None => {
            let known = known
                .map(|login| login.user.as_str())
                .filter(|user| !user.is_empty());
            let default = known.map(|user| format!(" ({user})")).unwrap_or_default();
            let typed = prompt(&format!("Username{default}: "), Echo::On)?;
            match (typed.as_str(), known) {
                ("", Some(known)) => known.to_owned(),
                _ => typed,
            }
        }
    };
    if user.is_empty() {
        return Err(Failure::new("username is required"));
    }
    let secret = match password {
        Some(password) => password,
        None => prompt("Password: ", Echo::Off)?,
    };
    if secret.is_empty() {
        return Err(Failure::new("password is required"));
    }
    Ok(Login { user, secret })
}

fn password_from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    io::stdin()
        .take(LIMIT)
        .read_to_string(&mut text)
        .map_err(|error| io_failure("cannot read the password from standard input", &error))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Echo {
    On,
    Off,
}

/// A line from the terminal.
fn prompt(text: &str, echo: Echo) -> Result<String, Failure> {
    let mut stdout = io::stdout();
    // A terminal that can't be written to shows in what comes next.
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    let failed = |error: io::Error| io_failure("cannot read from the terminal", &error);
    let line = match echo {
        Echo::On => read_line(None),
        Echo::Off => {
            let silent = Silent::enter().map_err(failed)?;
            let line = read_line(Some(&silent));
            drop(silent);
            output::line("");
            line
        }
    };
    Ok(line
        .map_err(failed)?
        .trim_end_matches(['\r', '\n'])
        .to_owned())
}

fn read_line(silent: Option<&Silent>) -> io::Result<String> {
    if let Some(silent) = silent {
        silent.wait()?;
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line)
}

/// The terminal shows nothing of what is typed; signals wait, so that it shows it again before they end us.
struct Silent {
    before: Termios,
    signals: SignalFd,
    mask: SigSet,
}

impl Silent {
    fn enter() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGQUIT,
            Signal::SIGTSTP,
        ] {
            set.add(signal);
        }
        let mask = SigSet::thread_get_mask()?;
        set.thread_block()?;
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &quiet)?;
        Ok(Self {
            before,
            signals: SignalFd::new(&set)?,
            mask,
        })
    }

    /// Until a line or a signal is there.
    fn wait(&self) -> io::Result<()> {
        let stdin = io::stdin();
        loop {
            let mut fds = [
                PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            poll(&mut fds, PollTimeout::NONE)?;
            if fds[1].any().unwrap_or(false) {
                let number = self.signals.read_signal()?.map(|info| info.ssi_signo);
                let signal = number.and_then(|n| Signal::try_from(i32::try_from(n).ok()?).ok());
                self.leave();
                // The default is that it ends the process.
                let _ = raise(signal.unwrap_or(Signal::SIGINT));
                return Err(io::Error::from(io::ErrorKind::Interrupted));
            }
            if fds[0].any().unwrap_or(false) {
                return Ok(());
            }
        }
    }

    fn leave(&self) {
        // There is nothing else that could be done about it.
        let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.before);
        let _ = self.mask.thread_set_mask();
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.leave();
    }
}

fn logout(_: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let server = Server::of(matches)?;
    let keys = registries::keys();
    match keys.erase(&server.key)? {
        true => output::line(format!("Removing login credentials for {}", server.key)),
        false => output::line(format!("Not logged in to {}", server.key)),
    }
    if let Some(path) = keys.elsewhere(&server.key) {
        output::note(format!(
            "rctr: warning: {} has credentials for {}, too, and they are used",
            path.display(),
            server.key
        ));
    }
    Ok(0)
}
