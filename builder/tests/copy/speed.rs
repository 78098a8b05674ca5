//! Many files. With `RCTR_MEASURE=1` the times are printed, beside those of `cp -a`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rctr_builder::copy::{self, SourceTree};

use crate::harness::{Place, step};

pub(crate) fn many_files(place: &Place) {
    let measured = std::env::var_os("RCTR_MEASURE").is_some();
    let (dirs, files, size) = if measured {
        (200, 100, 10_240)
    } else {
        (20, 20, 100)
    };
    let context = place.context_path();
    let content = "x".repeat(size);
    for dir in 0..dirs {
        let dir = context.join(format!("d{}/s{dir}", dir % 10));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..files {
            let path = dir.join(format!("f{file}"));
            fs::write(&path, format!("{file}{content}")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        }
    }
    let copied = place.run(&step(&["."], "/app"), &[]).unwrap();
    let differences = Command::new("diff")
        .args(["-r", "--brief"])
        .args([&context, &copied.join("app")])
        .output()
        .unwrap();
    assert!(differences.status.success(), "{differences:?}");
    if measured {
        fs::remove_dir_all(&copied).unwrap();
        measure(place, &context);
    }
}

#[expect(clippy::print_stdout, reason = "asked for")]
fn measure(place: &Place, context: &Path) {
    // What changed just now isn't remembered.
    std::thread::sleep(Duration::from_secs(4));
    let key = || {
        let context = place.context();
        let start = Instant::now();
        copy::digest(
            &step(&["."], "/app"),
            &SourceTree::Context(&context),
            &[],
            None,
        )
        .unwrap();
        let time = start.elapsed();
        context.hashes.save().unwrap();
        time
    };
    println!("cold key {:?}", key());
    println!("warm key {:?}", (0..10).map(|_| key()).min().unwrap());
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..7 {
        let start = Instant::now();
        let upper = place.run(&step(&["."], "/app"), &[]).unwrap();
        ours.push(start.elapsed());
        fs::remove_dir_all(upper).unwrap();
        let to = place.new_dir();
        let start = Instant::now();
        let status = Command::new("cp")
            .arg("-a")
            .arg(context)
            .arg(to.join("app"))
            .status();
        theirs.push(start.elapsed());
        assert!(status.unwrap().success());
        fs::remove_dir_all(to).unwrap();
    }
    ours.sort();
    theirs.sort();
    println!(
        "copy {:?} (median {:?}), cp -a {:?} (median {:?})",
        ours[0], ours[3], theirs[0], theirs[3]
    );
}
