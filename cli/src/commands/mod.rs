//! One file per command, without engine logic.

use crate::command::Verb;
use crate::report::Failure;

mod attach;
mod build;
mod build_logs;
mod build_report;
mod builder;
mod check;
mod commit;
mod cp;
pub(crate) mod create;
mod df;
mod df_verbose;
mod diff;
mod doctor;
mod exec;
mod export;
mod history;
mod image_cp;
mod images;
mod import;
mod info;
mod inspect;
mod load;
mod login;
mod logs;
mod manifest;
mod port;
mod prune;
mod ps;
mod pull;
mod push;
mod rename;
mod rm;
mod run;
mod save;
mod search;
mod sizes;
pub(crate) mod start;
pub(crate) mod stop;
mod tag;
mod top;
mod version;
mod volume;
pub(crate) mod words;

/// All commands.
pub(crate) const VERBS: &[Verb] = &[
    attach::VERB,
    build::VERB,
    build_logs::HISTORY,
    build_logs::LOGS,
    builder::DU,
    builder::PRUNE,
    check::VERB,
    create::VERB,
    df::VERB,
    commit::VERB,
    cp::VERB,
    diff::VERB,
    doctor::VERB,
    exec::VERB,
    export::VERB,
    history::VERB,
    image_cp::VERB,
    images::VERB,
    import::VERB,
    info::VERB,
    inspect::CONTAINER,
    inspect::IMAGE,
    inspect::VERB,
    inspect::VOLUME,
    load::VERB,
    login::LOGIN,
    login::LOGOUT,
    logs::VERB,
    manifest::ANNOTATE,
    manifest::CREATE,
    manifest::INSPECT,
    manifest::PUSH,
    manifest::REMOVE,
    port::VERB,
    prune::CONTAINER,
    prune::IMAGE,
    prune::SYSTEM,
    prune::VOLUME,
    ps::VERB,
    pull::VERB,
    push::VERB,
    rename::VERB,
    rm::VERB,
    run::VERB,
    save::VERB,
    search::VERB,
    start::VERB,
    stop::KILL,
    stop::RESTART,
    stop::STOP,
    stop::WAIT,
    tag::REMOVE,
    tag::TAG,
    top::VERB,
    version::SHORT,
    version::VERB,
    volume::CREATE,
    volume::LIST,
    volume::REMOVE,
];

/// The failure of a command that needs a running container.
pub(crate) fn not_running(id: &str) -> Failure {
    Failure::new(format!(
        "container {} is not running",
        id.get(..12).unwrap_or(id)
    ))
    .hint(format!(
        "start it: rctr start {}",
        id.get(..12).unwrap_or(id)
    ))
}
