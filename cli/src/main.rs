//! `rctr`: arguments in, tables and JSON out. No engine logic lives here.

use std::env;
use std::process::ExitCode;

mod changes;
mod command;
mod commands;
mod context;
mod credentials;
mod files;
mod filter;
mod format;
mod help;
mod leftovers;
mod merge;
mod moment;
mod order;
mod output;
mod places;
mod processes;
mod progress;
mod registries;
mod report;
mod request;
mod template;
mod view;
mod web;

fn main() -> ExitCode {
    // Our own children: containers' first processes, `exec`ed ones and build steps. They must do nothing else before.
    match env::args_os()
        .nth(1)
        .as_deref()
        .and_then(std::ffi::OsStr::to_str)
    {
        Some("init") if env::args_os().len() == 2 => rctr_runtime::init::main(),
        Some("exec-init") if env::args_os().len() == 2 => rctr_runtime::init::exec_main(),
        Some(rctr_runtime::monitor::VERB) => {
            let arguments: Vec<_> = env::args_os().skip(2).collect();
            let path = env::var("PATH").unwrap_or_default();
            return ExitCode::from(rctr_runtime::monitor::main(&arguments, &path));
        }
        Some(rctr_runtime::step::VERB) if env::args_os().len() == 2 => {
            return ExitCode::from(rctr_runtime::step::main());
        }
        Some(rctr_runtime::monitor::RELAY_VERB) if env::args_os().len() == 2 => {
            let code = rctr_runtime::net::relay::run();
            return ExitCode::from(u8::try_from(code).unwrap_or(1));
        }
        _ => {}
    }
    match command::dispatch(env::args_os().skip(1).collect()) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            output::error(&failure);
            ExitCode::from(failure.code)
        }
    }
}
