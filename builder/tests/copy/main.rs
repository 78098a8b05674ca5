//! COPY, ADD and WORKDIR on the real kernel, as root of a user namespace. What is expected was compared with BuildKit.
//!
//! Wants a host where this user may map IDs; without it says so and passes.
#![expect(
    clippy::print_stdout,
    reason = "a test program with its own main reports by itself"
)]

mod archives;
mod bases;
mod harness;
mod keys;
mod sources;
mod speed;

use std::time::Instant;

use rctr_runtime::identity::{self, Mounts};

use harness::Place;

type Test = (&'static str, fn(&Place));

macro_rules! tests {
    ($($module:ident :: $name:ident),* $(,)?) => {
        &[$((stringify!($name), $module::$name as fn(&Place))),*]
    };
}

const ALL: &[Test] = tests![
    sources::a_directory_gives_its_content,
    sources::links_in_sources_are_followed,
    sources::patterns,
    sources::several_sources_go_into_a_directory,
    sources::ignored_files_are_not_there,
    sources::exclude,
    sources::parents,
    sources::missing_sources,
    sources::modes_and_owners,
    sources::times,
    sources::all_kinds_of_files,
    sources::inline_files,
    sources::attributes_and_holes,
    bases::files_go_where_links_lead,
    bases::directories_are_brought_up,
    bases::what_is_in_the_way,
    bases::whiteouts_are_seen_through,
    bases::names_are_looked_up_in_the_image,
    bases::a_linked_layer_does_not_look_below,
    bases::stages_keep_their_owners,
    bases::workdir,
    bases::overlay_reads_the_layer,
    archives::archives_of_all_compressions,
    archives::broken_archives,
    archives::archives_replace_what_is_in_the_way,
    archives::archives_stay_in_their_place,
    archives::urls_and_repositories,
    keys::keys_tell_what_matters,
    keys::keys_of_stages,
    keys::what_is_changed_between_key_and_copy_is_refused,
    keys::a_build_that_is_ended_reads_no_more,
    speed::many_files,
];

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let path = std::env::var("PATH").unwrap_or_default();
    let entered =
        identity::detect(&path).and_then(|identity| identity::enter(&identity, Mounts::Private));
    if let Err(error) = entered {
        println!("skipped: {error}");
        return;
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o027));
    for (name, test) in ALL.iter().filter(|(name, _)| name.contains(&filter)) {
        let start = Instant::now();
        test(&Place::new(name));
        println!("ok {name} ({} ms)", start.elapsed().as_millis());
    }
}
