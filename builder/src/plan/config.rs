//! How instructions change an image's config, and how history tells it. Used for Dockerfiles and `commit --change`.
//!
//! All words are expanded already.

use rctr_runtime::signals;
use rctr_storage::config::{ContainerConfig, Healthcheck};
use serde_json::Value;

use super::ports::{self, InvalidPort};
use super::text;
use crate::dockerfile::{CommandLine, HealthcheckInstruction, Instruction};

/// What `PATH` is where neither image nor Dockerfile says it.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The least time that HEALTHCHECK takes, in nanoseconds.
const LEAST_INTERVAL: i64 = 1_000_000;

/// Why an instruction can't be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// STOPSIGNAL.
    #[error("invalid signal: {signal}")]
    Signal {
        /// What was given.
        signal: String,
    },
    /// VOLUME "".
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// EXPOSE.
    #[error(transparent)]
    Port(#[from] InvalidPort),
    /// ENV and LABEL.
    #[error("{instruction} names can not be blank")]
    BlankName {
        /// ENV or LABEL.
        instruction: &'static str,
    },
    /// HEALTHCHECK.
    #[error("{option} {} cannot be less than 1ms", text::duration(*.nanos))]
    Interval {
        /// `Interval`.
        option: &'static str,
        /// What was given.
        nanos: i64,
    },
}

/// What instructions of the same stage have set: it decides what ENTRYPOINT means for CMD.
#[derive(Debug, Clone, Copy, Default)]
pub struct SetHere {
    cmd: bool,
}

/// Applies an instruction that is about the config; others change nothing.
///
/// # Errors
/// When a value is none.
pub fn apply(
    config: &mut ContainerConfig,
    set: &mut SetHere,
    instruction: &Instruction,
) -> Result<(), ConfigError> {
    match instruction {
        Instruction::Cmd(line) => {
            config.cmd = command(config, line);
            set.cmd = true;
        }
        Instruction::Entrypoint(line) => {
            config.entrypoint = command(config, line);
            // The inherited CMD was made for the inherited ENTRYPOINT.
            if !set.cmd {
                config.cmd = None;
            }
        }
        Instruction::Env(pairs) => {
            for (name, value) in named("ENV", pairs)? {
                set_env(&mut config.env, name, value);
            }
        }
        Instruction::Label(pairs) => {
            for (name, value) in named("LABEL", pairs)? {
                config.labels.insert(name.clone(), value.clone());
            }
        }
        Instruction::Expose(words) => {
            for key in exposed(words)? {
                config.exposed_ports.insert(key, Default::default());
            }
        }
        Instruction::Healthcheck(check) => config.healthcheck = Some(healthcheck(check)?),
        Instruction::Onbuild(trigger) => config.on_build.push(trigger.clone()),
        Instruction::Shell(words) => config.shell = Some(words.clone()),
        Instruction::Stopsignal(signal) => {
            if signals::parse(signal).is_none() {
                let signal = signal.clone();
                return Err(ConfigError::Signal { signal });
            }
            config.stop_signal.clone_from(signal);
        }
        Instruction::User(user) => config.user.clone_from(user),
        Instruction::Volume(paths) => {
            for path in paths {
                if path.is_empty() {
                    return Err(ConfigError::EmptyVolume);
                }
                config.volumes.insert(path.clone(), Default::default());
            }
        }
        Instruction::Workdir(path) => {
            config.working_dir = text::within(&config.working_dir, path);
        }
        Instruction::Add(_)
        | Instruction::Arg(_)
        | Instruction::Copy(_)
        | Instruction::Maintainer(_)
        | Instruction::Run(_) => {}
    }
    Ok(())
}

/// Puts a variable in `env`: over the entry of that name, else at the end.
pub fn set_env(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    let same = |other: &String| other.split('=').next() == Some(name);
    match env.iter().position(same) {
        Some(at) => env[at] = entry,
        None => env.push(entry),
    }
}

/// The value of a variable in `env`.
#[must_use]
pub fn get_env<'e>(env: &'e [String], name: &str) -> Option<&'e str> {
    env.iter()
        .filter_map(|entry| entry.split_once('='))
        .find_map(|(n, value)| (n == name).then_some(value))
}

/// A shell-form line with the image's shell, or the words of the exec form. `None`: nothing is to be run.
fn command(config: &ContainerConfig, line: &CommandLine) -> Option<Vec<String>> {
    let words = match line {
        CommandLine::Exec(words) => words.clone(),
        CommandLine::Shell(line) => in_shell(config, line),
    };
    // Docker leaves an empty list out of the document, so it can't be told from none there either.
    (!words.is_empty()).then_some(words)
}

/// The arguments that give `script` to the image's shell.
pub(super) fn in_shell(config: &ContainerConfig, script: &str) -> Vec<String> {
    let mut words = match &config.shell {
        Some(shell) if !shell.is_empty() => shell.clone(),
        _ => vec!["/bin/sh".to_owned(), "-c".to_owned()],
    };
    words.push(script.to_owned());
    words
}

fn named<'p>(
    instruction: &'static str,
    pairs: &'p [(String, String)],
) -> Result<impl Iterator<Item = &'p (String, String)>, ConfigError> {
    if pairs.iter().any(|(name, _)| name.is_empty()) {
        return Err(ConfigError::BlankName { instruction });
    }
    Ok(pairs.iter())
}

fn exposed(words: &[String]) -> Result<Vec<String>, ConfigError> {
    let mut keys = Vec::new();
    for word in words {
        keys.extend(ports::parse(word)?);
    }
    Ok(keys)
}

fn healthcheck(instruction: &HealthcheckInstruction) -> Result<Healthcheck, ConfigError> {
    let HealthcheckInstruction::Check {
        command,
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
    } = instruction
    else {
        return Ok(Healthcheck {
            test: vec!["NONE".to_owned()],
            ..Healthcheck::default()
        });
    };
    for (option, nanos) in [
        ("Interval", *interval),
        ("Timeout", *timeout),
        ("Start period", *start_period),
        ("Start interval", *start_interval),
    ] {
        if nanos != 0 && nanos < LEAST_INTERVAL {
            return Err(ConfigError::Interval { option, nanos });
        }
    }
    let words = match command {
        CommandLine::Exec(words) => ("CMD", words.clone()),
        CommandLine::Shell(line) => ("CMD-SHELL", vec![line.clone()]),
    };
    Ok(Healthcheck {
        test: std::iter::once(words.0.to_owned()).chain(words.1).collect(),
        interval: *interval,
        timeout: *timeout,
        start_period: *start_period,
        start_interval: *start_interval,
        retries: *retries,
    })
}

/// How history tells an instruction that makes no layer, once it is applied; `None`: history doesn't mention it.
pub(super) fn created_by(config: &ContainerConfig, instruction: &Instruction) -> Option<String> {
    let pairs = |word: &str, pairs: &[(String, String)]| {
        let pairs: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
        format!("{word} {}", pairs.join(" "))
    };
    let command = |words: &Option<Vec<String>>| text::quoted_list(words.as_deref().unwrap_or(&[]));
    Some(match instruction {
        Instruction::Cmd(_) => format!("CMD {}", command(&config.cmd)),
        Instruction::Entrypoint(_) => format!("ENTRYPOINT {}", command(&config.entrypoint)),
        Instruction::Env(env) => pairs("ENV", env),
        Instruction::Label(labels) => pairs("LABEL", labels),
        Instruction::Expose(words) => {
            let keys = exposed(words).unwrap_or_default();
            format!("EXPOSE {}", text::list(&keys))
        }
        Instruction::Healthcheck(_) => {
            let check = config.healthcheck.clone().unwrap_or_default();
            format!("HEALTHCHECK {}", healthcheck_text(&check))
        }
        Instruction::Maintainer(name) => format!("MAINTAINER {name}"),
        Instruction::Shell(words) => format!("SHELL {}", text::list(words)),
        Instruction::Stopsignal(signal) => format!("STOPSIGNAL {signal}"),
        Instruction::User(user) => format!("USER {user}"),
        Instruction::Volume(paths) => format!("VOLUME {}", text::list(paths)),
        Instruction::Workdir(_) => format!("WORKDIR {}", config.working_dir),
        Instruction::Onbuild(_)
        | Instruction::Add(_)
        | Instruction::Arg(_)
        | Instruction::Copy(_)
        | Instruction::Run(_) => return None,
    })
}

fn healthcheck_text(check: &Healthcheck) -> String {
    format!(
        "{{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        text::list(&check.test),
        text::duration(check.interval),
        text::duration(check.timeout),
        text::duration(check.start_period),
        text::duration(check.start_interval),
        check.retries
    )
}

/// Marks CMD as one that needs no escaping, as BuildKit does in every image whose Dockerfile has a CMD.
pub(super) fn mark_args_escaped(config: &mut ContainerConfig) {
    let key = "ArgsEscaped".to_owned();
    config.extra.insert(key, Value::Bool(true));
}
