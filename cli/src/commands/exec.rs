//! `rctr exec`.

use std::env;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command};
use rctr_runtime::attach::message::Streams;
use rctr_runtime::attach::{self, RelayOptions};
use rctr_runtime::caps;
use rctr_runtime::exec;
use rctr_runtime::launch::Stdio;
use rctr_runtime::plan::{ProcessPlan, Rlimit, Seccomp};
use rctr_runtime::process::Known;
use rctr_runtime::sandbox;
use rctr_storage::Store;
use rctr_storage::container::Container;
use rctr_storage::record::Status;

use super::create::io_failure;
use super::{run as foreground, words};
use crate::command::Verb;
use crate::context::Context;
use crate::merge::plan::{self, Security};
use crate::order;
use crate::report::{CANNOT_INVOKE, Failure};
use crate::request::settle::{Surroundings, settle_env};
use crate::request::values::set_env;

/// `exec`.
pub(crate) const VERB: Verb = Verb {
    names: &["exec", "container exec"],
    about: "Run a command in a running container",
    args,
    run,
};

fn args(command: Command) -> Command {
    command
        .args_override_self(true)
        .override_usage("rctr exec [OPTIONS] CONTAINER COMMAND [ARG...]")
        .arg(words::on(
            "detach",
            Some('d'),
            "Leave it running in the background",
        ))
        .arg(words::on("interactive", Some('i'), "Keep stdin open"))
        .arg(words::on("tty", Some('t'), "Allocate a terminal"))
        .arg(words::on(
            "privileged",
            None,
            "All capabilities of the user namespace",
        ))
        .arg(words::values(
            "env",
            Some('e'),
            "Set a variable: NAME=value, or NAME from the caller",
        ))
        .arg(words::values(
            "env-file",
            None,
            "Read variables from a file",
        ))
        .arg(words::value(
            "user",
            Some('u'),
            "Name or UID[:group or GID]",
        ))
        .arg(words::value(
            "workdir",
            Some('w'),
            "Working directory inside",
        ))
        .arg(words::value(
            "detach-keys",
            None,
            "Key sequence that detaches",
        ))
        .arg(
            Arg::new("words")
                .value_names(["CONTAINER", "COMMAND"])
                .num_args(2..)
                .required(true)
                .trailing_var_arg(true),
        )
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let mut argv = words::list(matches, "words");
    let name = argv.remove(0);
    let tty = words::is_on(matches, "tty");
    let detach = words::is_on(matches, "detach");
    let stdin = words::is_on(matches, "interactive") && !detach;
    foreground::check_terminal(tty && stdin)?;
    let store = Store::open(&context.root)?;
    let container = store.find_container(&name)?;
    match container.state.status {
        Status::Running if container.state.pid != 0 => {}
        Status::Paused => {
            return Err(Failure::new(format!(
                "container {name} is paused, unpause the container before exec"
            )));
        }
        _ => return Err(super::not_running(&container.record.id)),
    }
    let process = process(&container, argv, matches)?;
    let target = Known {
        pid: container.state.pid,
        start: container.state.pid_start,
    };
    let failed = |error: rctr_runtime::launch::LaunchError| {
        let code = error.exit_code();
        // An engine's failure ends `exec` with 1.
        Failure::from(error).code(if code == 125 { 1 } else { code })
    };
    if detach {
        exec::spawn(target, &process, Stdio::default()).map_err(failed)?;
        return Ok(0);
    }
    let relay = RelayOptions {
        streams: Streams {
            stdin,
            stdout: true,
            stderr: !tty,
        },
        tty,
        detach_keys: foreground::detach_keys(words::text(matches, "detach-keys"))?,
        sig_proxy: tty,
    };
    let piped = Streams {
        stdin: stdin && !tty,
        stdout: !tty,
        stderr: !tty,
    };
    let (stdio, mut local) =
        attach::pipes(piped).map_err(|error| io_failure("cannot make pipes", &error))?;
    let launched = exec::spawn(target, &process, stdio).map_err(failed)?;
    local.console = launched.console;
    let outcome = attach::relay_local(local, std::os::fd::AsFd::as_fd(&launched.pidfd), &relay)?;
    Ok(foreground::exit_code(outcome))
}

fn process(
    container: &Container,
    argv: Vec<String>,
    matches: &ArgMatches,
) -> Result<ProcessPlan, Failure> {
    let record = &container.record;
    let host = &record.host_config;
    let tty = words::is_on(matches, "tty");
    let files: Vec<PathBuf> = words::list(matches, "env-file")
        .into_iter()
        .map(PathBuf::from)
        .collect();
    let around = Surroundings {
        env: &|name| env::var(name).ok(),
        directory: &env::current_dir,
    };
    let mut environment = plan::environment(record, tty);
    for entry in settle_env(&words::list(matches, "env"), &files, &around)? {
        set_env(&mut environment, entry);
    }
    let directory = match words::text(matches, "workdir") {
        Some(path) if !path.starts_with('/') => {
            return Err(
                Failure::new(format!("Cwd must be an absolute path: {path}")).code(CANNOT_INVOKE),
            );
        }
        Some(path) => PathBuf::from(path),
        None => plan::directory(&record.config.working_dir),
    };
    let security = Security::of(host);
    let privileged = words::is_on(matches, "privileged");
    Ok(ProcessPlan {
        argv,
        env: environment,
        cwd: directory,
        create_cwd: false,
        user: words::text(matches, "user")
            .unwrap_or(&record.config.user)
            .to_owned(),
        additional_groups: host.group_add.clone(),
        capabilities: match privileged {
            true => caps::all(),
            false => order::capabilities(host)?,
        },
        rlimits: host
            .ulimits
            .iter()
            .map(sandbox::rlimit)
            .collect::<Vec<Rlimit>>(),
        no_new_privileges: security.no_new_privileges,
        seccomp: match privileged {
            true => Seccomp::Unconfined,
            false => security.seccomp,
        },
        tty,
        oom_score_adj: Some(host.oom_score_adj).filter(|n| *n != 0),
    })
}
