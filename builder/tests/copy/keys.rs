//! Content keys.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::chown;
use std::time::{Duration, SystemTime};

use rctr_builder::copy::{self, CopyError, CopyOrder, SourceTree};
use rctr_builder::engine::run::Cancel;
use rctr_builder::plan::{CopyStep, PlannedSource};

use crate::harness::{Place, link, mode, set_time, step, write};

pub(crate) fn keys_tell_what_matters(place: &Place) {
    let context = place.context_path();
    let fill = || {
        place.file("d/a", "1");
        place.file("d/s/b", "2");
        link("a", &context.join("d/l"));
    };
    fill();
    let key = || place.digest(&step(&["d"], "/x")).unwrap();
    let first = key();
    assert_eq!(first, key());
    // Neither times nor owners, nor what isn't selected.
    set_time(&context.join("d/a"), 5);
    set_time(&context.join("d/s"), 5);
    chown(context.join("d/a"), Some(1), Some(2)).unwrap();
    place.file("other", "");
    mode(&context.join("d"), 0o700);
    assert_eq!(first, key());
    let changes: &[(&str, &dyn Fn())] = &[
        ("content", &|| drop(place.file("d/a", "3"))),
        ("mode", &|| mode(&context.join("d/a"), 0o600)),
        ("mode of a directory", &|| mode(&context.join("d/s"), 0o700)),
        ("target", &|| {
            fs::remove_file(context.join("d/l")).unwrap();
            link("b", &context.join("d/l"));
        }),
        ("name", &|| {
            fs::rename(context.join("d/a"), context.join("d/c")).unwrap()
        }),
        ("new", &|| drop(place.file("d/e", ""))),
        ("new directory", &|| {
            fs::create_dir(context.join("d/n")).unwrap()
        }),
        ("deleted", &|| {
            fs::remove_file(context.join("d/s/b")).unwrap()
        }),
        ("moved", &|| {
            fs::rename(context.join("d/s/b"), context.join("d/b")).unwrap()
        }),
        ("kind", &|| {
            fs::remove_file(context.join("d/l")).unwrap();
            place.file("d/l", "a");
        }),
        ("attribute", &|| {
            let file = File::open(context.join("d/a")).unwrap();
            rctr_runtime::sys::set_xattr(file.as_fd(), c"user.mine", b"1").unwrap();
        }),
    ];
    let mut seen = vec![first.clone()];
    for (what, change) in changes {
        change();
        let changed = key();
        assert!(!seen.contains(&changed), "{what}");
        seen.push(changed);
        fs::remove_dir_all(context.join("d")).unwrap();
        fill();
        assert_eq!(first, key(), "after {what}");
    }
    let mut heredoc = step(&[], "/x");
    let mut inline = |content: &str| {
        heredoc.sources = vec![PlannedSource::Inline {
            name: "EOF".to_owned(),
            content: content.to_owned(),
        }];
        place.digest(&heredoc).unwrap()
    };
    assert_ne!(inline("a"), inline("b"));
    let excluded = CopyStep {
        exclude: vec!["s".to_owned()],
        ..step(&["d"], "/x")
    };
    assert_ne!(place.digest(&excluded).unwrap(), first);
    let context = place.context();
    let selection = copy::digest(
        &step(&["d"], "/x"),
        &SourceTree::Context(&context),
        &[],
        None,
    )
    .unwrap();
    let what: Vec<_> = selection
        .inputs
        .iter()
        .map(|input| input.what.as_str())
        .collect();
    assert_eq!(what, ["file d/a", "file d/l", "file d/s/b"]);
    assert_eq!(selection.inputs[1].value, "-> a");
}

pub(crate) fn keys_of_stages(place: &Place) {
    let stage = place.new_dir();
    write(&stage.join("out/a"), "a");
    let layers = [stage.clone()];
    let key = || {
        let from = SourceTree::Layers(&layers);
        copy::digest(&step(&["/out"], "/x"), &from, &[], None)
            .unwrap()
            .digest
    };
    let first = key();
    chown(stage.join("out/a"), Some(5), Some(5)).unwrap();
    assert_ne!(first, key(), "owners of stages are kept");
}

pub(crate) fn what_is_changed_between_key_and_copy_is_refused(place: &Place) {
    place.file("d/same", "same");
    let path = place.file("d/file", "one");
    // Files that were just made are told apart as well as old ones.
    for age in [0, 3600] {
        let time = SystemTime::now() - Duration::from_secs(age);
        File::open(&path).unwrap().set_modified(time).unwrap();
        let context = place.context();
        let from = || SourceTree::Context(&context);
        let step = step(&["d"], "/x");
        copy::digest(&step, &from(), &[], None).unwrap();
        place.run_from(&step, from(), &[], None).unwrap();
        place.file("d/file", "longer");
        let error = place.run_from(&step, from(), &[], None).unwrap_err();
        assert!(
            matches!(&error, CopyError::Changed { path } if path == "/d/file"),
            "{error}"
        );
        copy::digest(&step, &from(), &[], None).unwrap();
        place.run_from(&step, from(), &[], None).unwrap();
    }
}

pub(crate) fn a_build_that_is_ended_reads_no_more(place: &Place) {
    place.file("d/file", "one");
    let context = place.context();
    let from = || SourceTree::Context(&context);
    let step = step(&["d"], "/x");
    let cancel = Cancel::new().unwrap();
    let copied = |cancel: &Cancel| {
        let order = CopyOrder {
            step: &step,
            from: from(),
            remotes: &[],
            lowers: &[],
            upper: place.new_dir(),
            epoch: None,
            cancel: Some(cancel),
        };
        copy::copy(&order)
    };
    copied(&cancel).unwrap();
    cancel.cancel();
    assert!(matches!(copied(&cancel), Err(CopyError::Canceled)));
    let digest = copy::digest(&step, &from(), &[], Some(&cancel));
    assert!(matches!(digest, Err(CopyError::Canceled)));
}
