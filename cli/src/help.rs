//! `--help`: of a command, of a group (`rctr container`), of all.

use std::fmt::Write;

use clap::{Arg, ArgAction, Command};

use crate::command::Verb;
use crate::commands::VERBS;

/// Characters in a line.
const WIDTH: usize = 100;
/// What newcomers look for first, in the order of their work.
const COMMON: [&str; 13] = [
    "run", "exec", "ps", "logs", "stop", "rm", "commit", "images", "build", "pull", "push", "save",
    "load",
];
/// Groups and what is in them.
const GROUPS: [(&str, &str); 8] = [
    ("container", "Everything about containers"),
    ("image", "Everything about images"),
    ("builder", "The build cache, and the logs of builds"),
    ("buildx", "The same as builder"),
    ("manifest", "Indexes of images for several platforms"),
    ("network", "Everything about networks"),
    ("volume", "Everything about volumes"),
    ("system", "The store as a whole"),
];

/// The answer to `rctr --help`.
pub(crate) fn overview() -> String {
    let mut out = String::from(
        "Usage:  rctr COMMAND [ARGUMENTS]\n\nContainers and images without a daemon and without root\n",
    );
    let mut verbs: Vec<(&str, &str)> = VERBS.iter().filter_map(single).collect();
    verbs.sort_unstable();
    let (mut common, rest): (Vec<_>, Vec<_>) = verbs
        .into_iter()
        .partition(|(name, _)| COMMON.contains(name));
    common.sort_by_key(|(name, _)| COMMON.iter().position(|c| c == name));
    section(&mut out, "Common commands", &common);
    let groups: Vec<_> = GROUPS
        .into_iter()
        .filter(|(name, _)| is_group(name))
        .collect();
    section(
        &mut out,
        "Groups (rctr GROUP --help lists their commands)",
        &groups,
    );
    section(&mut out, "Other commands", &rest);
    out.push_str("\nRun 'rctr COMMAND --help' for more about a command.\n");
    out
}

/// Whether `name` is the first word of commands.
pub(crate) fn is_group(name: &str) -> bool {
    VERBS
        .iter()
        .flat_map(|v| v.names)
        .any(|n| in_group(n, name).is_some())
}

/// The answer to `rctr GROUP --help`.
pub(crate) fn group(name: &str) -> String {
    let about = GROUPS.iter().find(|(group, _)| *group == name);
    let about = about.map_or("", |(_, about)| about);
    let mut out = format!("Usage:  rctr {name} COMMAND [ARGUMENTS]\n\n{about}\n");
    let mut verbs: Vec<(&str, &str)> = VERBS
        .iter()
        .filter_map(|verb| {
            let short = verb.names.iter().find_map(|n| in_group(n, name))?;
            Some((short, verb.about))
        })
        .collect();
    verbs.sort_unstable();
    section(&mut out, "Commands", &verbs);
    let _ = writeln!(
        out,
        "\nRun 'rctr {name} COMMAND --help' for more about a command."
    );
    out
}

/// The command's name within a group.
fn in_group<'n>(name: &'n str, group: &str) -> Option<&'n str> {
    name.strip_prefix(group)?.strip_prefix(' ')
}

/// The one-word name of a command, for the list. `--version` is a flag to whoever types it.
fn single(verb: &Verb) -> Option<(&'static str, &'static str)> {
    let name = verb.names.iter().find(|n| !n.contains(' '))?;
    (!name.starts_with('-')).then_some((name, verb.about))
}

fn section(out: &mut String, title: &str, lines: &[(&str, &str)]) {
    if lines.is_empty() {
        return;
    }
    let width = lines
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or_default();
    let _ = writeln!(out, "\n{title}:");
    for (name, about) in lines {
        let _ = writeln!(out, "  {name:<width$}   {about}");
    }
}

/// The answer to `rctr NAME --help`. `command` has its arguments.
pub(crate) fn command(verb: &Verb, name: &str, mut command: Command) -> String {
    let usage = command.render_usage().to_string();
    let usage = usage
        .trim_start_matches("Usage:")
        .trim()
        .replace("[OPTIONS]", "[FLAGS]");
    let mut out = format!("Usage:  {usage}\n\n{}\n", verb.about);
    let others: Vec<_> = verb
        .names
        .iter()
        .filter(|other| **other != name)
        .map(|other| format!("rctr {other}"))
        .collect();
    if !others.is_empty() {
        let _ = writeln!(out, "\nAlso:\n  {}", others.join(", "));
    }
    let positional: Vec<_> = command
        .get_positionals()
        .filter_map(|arg| Some((placeholder(arg), arg.get_help()?.to_string())))
        .collect();
    arguments(&mut out, "Arguments", &positional);
    let mut flags: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| !arg.is_positional() && !arg.is_hide_set())
        .collect();
    flags.sort_by_key(|arg| arg.get_long());
    let mut flags: Vec<_> = flags
        .into_iter()
        .map(|arg| {
            (
                flag(arg),
                arg.get_help().map(ToString::to_string).unwrap_or_default(),
            )
        })
        .collect();
    if !flags.iter().any(|(name, _)| name.ends_with("--help")) {
        flags.push(("    --help".to_owned(), "Show this help".to_owned()));
    }
    arguments(&mut out, "Flags", &flags);
    out
}

/// `-a, --all`, `    --format TEMPLATE`.
fn flag(arg: &Arg) -> String {
    let short = arg
        .get_short()
        .map_or("    ".to_owned(), |c| format!("-{c}, "));
    let long = arg.get_long().unwrap_or_default();
    let takes_value = !matches!(arg.get_action(), ArgAction::Help | ArgAction::SetTrue)
        && !arg.is_require_equals_set();
    if takes_value {
        format!("{short}--{long} {}", placeholder(arg))
    } else {
        format!("{short}--{long}")
    }
}

/// What stands for an argument's value.
fn placeholder(arg: &Arg) -> String {
    if let Some([name, ..]) = arg.get_value_names() {
        return name.to_string();
    }
    let name = match arg.get_id().as_str() {
        "format" => "TEMPLATE",
        "filter" | "env" | "label" | "build-arg" | "opt" | "sysctl" | "log-opt" | "annotation" => {
            "NAME=VALUE"
        }
        "last" | "tail" => "N",
        "since" | "until" => "TIME",
        "time" | "timeout" | "stop-timeout" => "SECONDS",
        "signal" | "stop-signal" => "SIGNAL",
        "user" => "USER[:GROUP]",
        "publish" => "[IP:][HOST:]PORT",
        "volume" => "SOURCE:TARGET[:OPTIONS]",
        "mount" => "KEY=VALUE,…",
        "change" => "INSTRUCTION",
        "message" => "TEXT",
        "input" | "output" | "env-file" | "label-file" | "cidfile" => "FILE",
        "workdir" | "tmpfs" => "DIRECTORY",
        "memory" | "memory-swap" | "memory-reservation" | "shm-size" => "BYTES",
        "platform" => "OS/ARCHITECTURE",
        "name" | "hostname" => "NAME",
        "detach-keys" => "KEYS",
        _ => "VALUE",
    };
    name.to_owned()
}

/// Two columns, the right one wrapped.
fn arguments(out: &mut String, title: &str, lines: &[(String, String)]) {
    // One long name doesn't push all texts to the right.
    const WIDEST: usize = 34;
    if lines.is_empty() {
        return;
    }
    let left = lines
        .iter()
        .map(|(name, _)| name.chars().count())
        .filter(|n| *n <= WIDEST)
        .max()
        .unwrap_or(WIDEST);
    let _ = writeln!(out, "\n{title}:");
    for (name, text) in lines {
        let mut column = name.chars().count();
        let _ = write!(out, "  {name}");
        if column > left {
            out.push('\n');
            out.push_str("  ");
            column = 0;
        }
        out.push_str(&" ".repeat(left - column + 2));
        for (i, line) in wrapped(text, WIDTH - left - 4).iter().enumerate() {
            if i > 0 {
                out.push_str(&" ".repeat(left + 4));
            }
            let _ = writeln!(out, "{line}");
        }
    }
}

/// Lines of at most `width` characters, broken between words. Never none.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is one from the start");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_has_a_help_text() {
        for verb in VERBS {
            let command = (verb.args)(Command::new(verb.names[0]));
            for arg in command.get_arguments() {
                let told = arg.is_positional()
                    || arg.is_hide_set()
                    || arg.get_help().is_some_and(|h| !h.to_string().is_empty());
                assert!(told, "{} --{}", verb.names[0], arg.get_id());
            }
            command.debug_assert();
        }
    }

    #[test]
    fn no_name_is_given_twice() {
        let mut names: Vec<_> = VERBS.iter().flat_map(|v| v.names).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn long_texts_are_wrapped() {
        assert_eq!(wrapped("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrapped("", 5), [""]);
        assert_eq!(wrapped("abcdefgh i", 5), ["abcdefgh", "i"]);
    }

    #[test]
    fn help_of_a_command() {
        let verb = Verb {
            names: &["port", "container port"],
            about: "Show ports",
            args: |c| c,
            run: |_, _| Ok(0),
        };
        let flags = Command::new("port")
            .bin_name("rctr port")
            .arg(Arg::new("container").value_name("CONTAINER").required(true))
            .arg(Arg::new("format").long("format").help("Go template"))
            .arg(
                Arg::new("all")
                    .long("all")
                    .short('a')
                    .action(ArgAction::SetTrue)
                    .help("All"),
            );
        assert_eq!(
            command(&verb, "port", flags),
            "Usage:  rctr port [FLAGS] <CONTAINER>\n\nShow ports\n\nAlso:\n  rctr container port\n\nFlags:\n  \
             -a, --all              All\n      --format TEMPLATE  Go template\n  -h, --help             Print help\n"
        );
    }
}
