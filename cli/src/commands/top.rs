//! `rctr top`: the processes of a container, as ps(1) shows them.

use clap::{Arg, ArgMatches, Command};
use rctr_storage::Store;

use super::words;
use crate::command::Verb;
use crate::context::Context;
use crate::output;
use crate::processes::{self, Column};
use crate::report::Failure;

/// `top`.
pub(crate) const VERB: Verb = Verb {
    names: &["top", "container top"],
    about: "Show the processes of a container",
    args,
    run,
};

fn args(command: Command) -> Command {
    words::required(command, "container", "CONTAINER").arg(
        Arg::new("options")
            .value_name("PS OPTIONS")
            .num_args(0..)
            .trailing_var_arg(true)
            .allow_hyphen_values(true),
    )
}

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let name = words::text(matches, "container").unwrap_or_default();
    let columns = columns(&words::list(matches, "options"))?;
    let store = Store::open(&context.root)?;
    let container = store.find_container(name)?;
    if !super::start::is_up(&container) || container.state.pid == 0 {
        return Err(super::not_running(&container.record.id));
    }
    let all = processes::of_container(container.state.pid);
    let mut rows: Vec<Vec<String>> = vec![columns.iter().map(|c| c.title.to_owned()).collect()];
    for process in &all {
        rows.push(columns.iter().map(|c| (c.cell)(process)).collect());
    }
    output::text(aligned(&rows));
    Ok(0)
}

/// Words of ps(1): `-o a,b`, `-oa,b`, `aux`, `-ef`, `-eo a`; anything else shows the full format.
fn columns(options: &[String]) -> Result<Vec<&'static Column>, Failure> {
    let mut asked: Vec<String> = Vec::new();
    let mut user_format = false;
    let mut iter = options.iter();
    while let Some(word) = iter.next() {
        let flags = word.trim_start_matches('-');
        if let Some((_, list)) = flags.split_once('o') {
            let list = match list {
                "" => iter.next().map(String::as_str).unwrap_or_default(),
                list => list,
            };
            asked.extend(
                list.split([',', ' '])
                    .filter(|c| !c.is_empty())
                    .map(str::to_owned),
            );
        } else if flags.contains('u') && !word.starts_with('-') {
            user_format = true;
        }
    }
    let names: Vec<&str> = match (asked.is_empty(), user_format) {
        (false, _) => asked.iter().map(String::as_str).collect(),
        (true, true) => vec![
            "user", "pid", "%cpu", "%mem", "vsz", "rss", "tty", "stat", "start", "time", "args",
        ],
        (true, false) => vec!["uid", "pid", "ppid", "c", "stime", "tty", "time", "cmd"],
    };
    names
        .iter()
        .map(|name| {
            processes::column(name).ok_or_else(|| {
                Failure::new(format!("unknown user-defined format specifier {name:?}"))
                    .hint(format!("known ones: {}", processes::names()))
            })
        })
        .collect()
}

/// Columns as wide as their widest cell; the last isn't padded.
fn aligned(rows: &[Vec<String>]) -> String {
    let count = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..count)
        .map(|at| {
            rows.iter()
                .map(|row| row[at].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if at + 1 < count {
                let gap = widths[at] + 3 - cell.chars().count();
                line.extend(std::iter::repeat_n(' ', gap));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_ps() {
        let titles = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            columns(&words).map(|c| c.iter().map(|c| c.title).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(titles(&[]).unwrap(), "UID PID PPID C STIME TTY TIME CMD");
        assert_eq!(titles(&["-o", "pid,comm"]).unwrap(), "PID COMMAND");
        assert_eq!(titles(&["-eo", "pid,args"]).unwrap(), "PID COMMAND");
        assert!(titles(&["aux"]).unwrap().starts_with("USER PID %CPU"));
        assert!(titles(&["-o", "what"]).is_err());
    }
}
