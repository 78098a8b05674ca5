//! `rctr build`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use clap::ArgMatches;
use nix::sys::signal::{SigSet, Signal};
use rctr_builder::build::Job;
use rctr_builder::context::{ContextSource, DockerfileSource};
use rctr_builder::engine::run::Cancel;
use rctr_builder::engine::{BuildError, Cause, Host, Kept};
use rctr_builder::{fetch, git};
use rctr_runtime::emulation::{self, Emulation};
use rctr_runtime::identity::{self, Mounts};
use rctr_runtime::plan::Driver;
use rctr_storage::Store;
use rctr_storage::manifest::Platform;

use super::create::io_failure;
use super::{build_report as report, pull, push, words};
use crate::command::Verb;
use crate::context::Context;
use crate::output;
use crate::progress::trace::Trace;
use crate::progress::{Display, Style};
use crate::registries::Lazily;
use crate::report::{Failure, Refused};
use crate::request::build_output::Outputs;
use crate::request::{build as request, build_output};
use crate::web;

/// `build`.
pub(crate) const VERB: Verb = Verb {
    names: &[
        "build",
        "image build",
        "builder build",
        "buildx build",
        "buildx b",
    ],
    about: "Build an image from a Dockerfile",
    args: request::args,
    run,
};

/// This process as the host of a build.
struct Here<'a> {
    context: &'a Context,
    display: &'a Display,
    cancel: &'a Arc<Cancel>,
    /// Since it was entered.
    entered: OnceLock<Driver>,
    /// The signal that has ended the build; 0: none.
    signal: &'a Arc<AtomicU8>,
}

impl Host for Here<'_> {
    fn enter(&self) -> Result<Driver, Cause> {
        if let Some(driver) = self.entered.get() {
            return Ok(*driver);
        }
        let enter = || -> Result<Driver, Failure> {
            let driver = self.context.driver()?;
            identity::enter(&self.context.identity()?, Mounts::Private)?;
            Ok(driver)
        };
        let driver = enter().map_err(|failure| -> Cause { Box::new(Refused(failure)) })?;
        // Until here this process had to have one thread.
        end_by_signal(self.cancel, self.signal);
        self.display.entered();
        Ok(*self.entered.get_or_init(|| driver))
    }

    fn emulation(&self, platform: &Platform) -> Option<Emulation> {
        emulation::find(&platform.to_string(), &self.context.path)
    }
}

/// Ctrl-C ends the steps under way; the second one ends us, too.
fn end_by_signal(cancel: &Arc<Cancel>, told: &Arc<AtomicU8>) {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        set.add(signal);
    }
    // Threads that are made later inherit it.
    if set.thread_block().is_err() {
        return;
    }
    let (cancel, told) = (Arc::clone(cancel), Arc::clone(told));
    std::thread::spawn(move || {
        for signals in 0.. {
            let Ok(signal) = set.wait() else { return };
            told.store(signal as u8, Ordering::Relaxed);
            cancel.cancel();
            if signals > 0 {
                let mut one = SigSet::empty();
                one.add(signal);
                // The default is that it ends the process.
                let _ = one.thread_unblock();
                let _ = nix::sys::signal::raise(signal);
            }
        }
    });
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let mut build_request = request::parse(matches)?;
    let Outputs {
        outputs,
        names,
        push: pushes,
    } = build_output::outputs(matches)?;
    build_request.tags.extend(names);
    request::check_outputs(&build_request, &outputs)?;
    let pushes = match pushes {
        true => Some(push::AfterBuild::prepare(&build_request.tags)?),
        false => None,
    };
    let check = check_only(matches)?;
    for note in request::without_effect(matches) {
        output::note(note);
    }
    let style = style(matches)?;
    let store = Store::open(&context.root)?;
    let display = Display::new(style);
    let cancel = Cancel::new().map_err(|error| io_failure("cannot make a descriptor", &error))?;
    let cancel = Arc::new(cancel);
    let signal = Arc::new(AtomicU8::new(0));
    let shell = shell_on_error(matches)?;
    let registries = Lazily::default();
    let trace = words::text(matches, "trace").map(|_| Trace::new(display.progress()));
    let job = Job {
        store: &store,
        context: source(words::text(matches, "context").unwrap_or_default()),
        dockerfile: dockerfile(words::text(matches, "file")),
        request: build_request,
        host: &Here {
            context,
            display: &display,
            cancel: &cancel,
            entered: OnceLock::new(),
            signal: &signal,
        },
        puller: &pull::Quietly,
        web: &fetch::Client::new(fetch::Settings {
            web: web::settings(),
            ..fetch::Settings::default()
        }),
        git: &git(),
        repositories: &|name, access| registries.repository(name, access),
        cancel: &cancel,
        progress: match &trace {
            Some(trace) => trace.clone(),
            None => display.progress(),
        },
        check,
        outputs: outputs.clone(),
    };
    let result = job.run();
    display.finish();
    if let (Some(trace), Some(path)) = (&trace, words::text(matches, "trace")) {
        std::fs::write(path, trace.page("rctr build"))
            .map_err(|error| io_failure(format!("cannot write {path}"), &error))?;
    }
    match result {
        Ok(outcome) if check => Ok(report::checked(&outcome.warnings)),
        Ok(outcome) => {
            report::notes(&outcome, style);
            let built = outcome.image.is_some() || outcome.index.is_some();
            let pushed = match pushes.filter(|_| built) {
                Some(push) => push.run(&store, style == Style::Quiet)?,
                None => None,
            };
            report::result(matches, &outcome, &outputs, pushed.as_ref())?;
            Ok(0)
        }
        Err(error) => {
            if let (Some(found), true) = (report::findings(&error), check) {
                return Ok(report::checked(found));
            }
            report::explain(&error, style);
            if let (BuildError::Step(step), true) = (&error, shell) {
                open_shell(step.kept.as_ref());
            }
            Err(failure(error, signal.load(Ordering::Relaxed)))
        }
    }
}

/// With the exit code of a program that the signal has ended, if one has interrupted the build.
fn failure(error: BuildError, signal: u8) -> Failure {
    let interrupted = matches!(error, BuildError::Canceled);
    let failure = report::failure(error);
    match signal {
        1.. if interrupted => failure.code(128 + signal),
        _ => failure,
    }
}

/// git with the caller's environment, but for what would make it look elsewhere.
fn git() -> git::Settings {
    let env = std::env::vars_os().filter(|(name, _)| !name.as_encoded_bytes().starts_with(b"GIT_"));
    git::Settings {
        program: PathBuf::from("git"),
        env: env.collect(),
    }
}

/// What PATH|URL|- means.
fn source(word: &str) -> ContextSource {
    ContextSource::of(word)
}

fn dockerfile(word: Option<&str>) -> DockerfileSource {
    match word {
        None | Some("") => DockerfileSource::InContext("Dockerfile".to_owned()),
        Some("-") => DockerfileSource::Stdin,
        Some(path) => DockerfileSource::File(PathBuf::from(path)),
    }
}

/// `--check`, `--call check`.
fn check_only(matches: &ArgMatches) -> Result<bool, Failure> {
    match words::text(matches, "call") {
        None | Some("build") => Ok(words::is_on(matches, "check")),
        Some("check" | "lint") => Ok(true),
        Some(other) => Err(words::bad("call", other, "want build or check")),
    }
}

/// `--quiet`, `--progress`.
fn style(matches: &ArgMatches) -> Result<Style, Failure> {
    match words::text(matches, "progress") {
        _ if words::is_on(matches, "quiet") => Ok(Style::Quiet),
        word => Style::parse(word.unwrap_or("auto")),
    }
}

/// `--on-error`: whether it is `shell`.
fn shell_on_error(matches: &ArgMatches) -> Result<bool, Failure> {
    match words::text(matches, "on-error") {
        None | Some("fail") => Ok(false),
        Some("shell") => Ok(true),
        Some(other) => Err(words::bad("on-error", other, "want shell or fail")),
    }
}

/// `--on-error=shell`: a container of what the failed step has left, with this terminal.
fn open_shell(kept: Option<&Kept>) {
    let Some(kept) = kept else {
        output::note("rctr: warning: no shell can be opened: the step left no files");
        return;
    };
    // It is to get its signals itself. Failing, ^C does nothing there.
    let _ = SigSet::empty().thread_set_mask();
    let words = ["run", "--rm", "-i"].iter().copied();
    let terminal = std::io::stdin().is_terminal().then_some("-t");
    let child = std::process::Command::new("/proc/self/exe")
        .args(
            words
                .chain(terminal)
                .chain([kept.image.as_str(), kept.shell.as_str()]),
        )
        .status();
    if let Err(error) = child {
        output::note(format!("rctr: warning: no shell can be opened: {error}"));
    }
}
