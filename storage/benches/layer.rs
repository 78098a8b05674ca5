//! Times adding a layer beside what it is made of.
//!
//! `cargo bench -p rctr-storage --profile fast --bench layer -- TAR DIR [ROUNDS]`: `tar x`, `sha256sum` and
//! `Store::add_layer` of TAR take turns in DIR; the medians are compared. Without TAR nothing is done.

#![expect(clippy::print_stdout, reason = "a bench talks to its user")]

use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rctr_storage::Store;
use rctr_storage::layer::{Expected, KeepUpper, StoreAs};
use rctr_storage::tree;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let [tar, dir, rest @ ..] = words.as_slice() else {
        println!("give TAR DIR [ROUNDS]");
        return Ok(());
    };
    let rounds = rest.first().map_or(Ok(5), |word| word.parse())?;
    let (tar, dir) = (PathBuf::from(tar), PathBuf::from(dir));
    let names = [
        "tar x",
        "sha256sum",
        "add_layer",
        "size",
        "add_upper",
        "remove_tree",
    ];
    let mut times: [Vec<Duration>; 6] = Default::default();
    for _ in 0..rounds {
        let taken = round(&tar, &dir)?;
        for (times, taken) in times.iter_mut().zip(taken) {
            times.push(taken);
        }
    }
    for (name, times) in names.iter().zip(&mut times) {
        times.sort();
        let seconds = |at: usize| times[at].as_secs_f64();
        println!(
            "{name:12} median {:.3} s   {:.3} … {:.3}",
            seconds(times.len() / 2),
            seconds(0),
            seconds(times.len() - 1)
        );
    }
    Ok(())
}

fn round(tar: &Path, dir: &Path) -> Result<[Duration; 6], Box<dyn Error>> {
    let plain = dir.join("plain");
    let root = dir.join("store");
    for path in [&plain, &root] {
        tree::remove_tree(path)?;
    }
    std::fs::create_dir_all(&plain)?;
    nix::unistd::sync();
    let tar_x = timed(|| run(Command::new("tar").arg("xf").arg(tar).arg("-C").arg(&plain)))?;
    nix::unistd::sync();
    let sha = timed(|| run(Command::new("sha256sum").arg(tar)))?;
    let store = Store::open(&root)?;
    nix::unistd::sync();
    let mut diff_id = None;
    let add = timed(|| {
        let source = File::open(tar)?;
        let blob = store.add_layer(source, &Expected::default(), StoreAs::Verbatim)?;
        diff_id = Some(blob.diff_id);
        Ok(())
    })?;
    let fs = store.layer_dir(&diff_id.expect("was just added"));
    let size = timed(|| {
        tree::size(&fs)?;
        Ok(())
    })?;
    let upper = timed(|| {
        store.add_upper(&fs, KeepUpper::Copy, &[])?;
        Ok(())
    })?;
    let remove = timed(|| Ok(tree::remove_tree(&plain)?))?;
    Ok([tar_x, sha, add, size, upper, remove])
}

fn timed(work: impl FnOnce() -> Result<(), Box<dyn Error>>) -> Result<Duration, Box<dyn Error>> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn run(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let output = command.output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into()),
    }
}
