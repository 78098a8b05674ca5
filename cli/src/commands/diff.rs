//! `rctr diff`.

use std::path::Path;

use clap::{ArgMatches, Command};
use rctr_runtime::identity::{self, Mounts};
use rctr_runtime::sandbox;
use rctr_storage::Store;
use rctr_storage::layer::diff::{Change, ChangeKind};

use super::words;
use crate::command::Verb;
use crate::context::Context;
use crate::report::Failure;
use crate::{files, output};

/// `diff`.
pub(crate) const VERB: Verb = Verb {
    names: &["diff", "container diff"],
    about: "List what a container has changed in its image's files",
    args: |command: Command| words::required(command, "container", "CONTAINER"),
    run,
};

fn run(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let store = Store::open(&context.root)?;
    let container = store.find_container(words::text(matches, "container").unwrap_or_default())?;
    let plan = files::rootfs_plan(&store, &container);
    identity::enter(&context.identity()?, Mounts::Host)?;
    let mut out = output::Streams::new();
    for change in shown(files::changes(&plan)?) {
        let kind = match change.kind {
            ChangeKind::Added => 'A',
            ChangeKind::Changed => 'C',
            ChangeKind::Deleted => 'D',
        };
        out.line(format_args!("{kind} {}", change.path.display()));
    }
    out.flush();
    Ok(0)
}

/// Without the files that are only there for ours to be mounted on, as with docker; nor /etc, if nothing else in it is
/// different.
fn shown(mut changes: Vec<Change>) -> Vec<Change> {
    let ours = |change: &Change| {
        change.kind == ChangeKind::Added
            && sandbox::FILES
                .iter()
                .any(|(_, target)| change.path == Path::new(target))
    };
    let before = changes.len();
    changes.retain(|change| !ours(change));
    let etc = Path::new("/etc");
    let other = changes
        .iter()
        .any(|change| change.path != etc && change.path.starts_with(etc));
    if changes.len() < before && !other {
        changes.retain(|change| change.path != etc);
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_of_ours_are_no_changes() {
        let change = |kind, path: &str| Change {
            kind,
            path: path.into(),
        };
        let etc = change(ChangeKind::Changed, "/etc");
        let hosts = change(ChangeKind::Added, "/etc/hosts");
        let user = change(ChangeKind::Added, "/etc/mine");
        assert!(shown(vec![etc.clone(), hosts.clone()]).is_empty());
        assert_eq!(
            shown(vec![etc.clone(), hosts, user.clone()]),
            [etc.clone(), user]
        );
        assert_eq!(shown(vec![etc.clone()]), [etc]);
    }
}
