//! Times what the build cache costs a build: a small step's layer, its record, a cached build of ten steps.
//!
//! `cargo bench -p rctr-storage --profile fast --bench cache -- DIR [ROUNDS]`; without DIR nothing is done.

#![expect(clippy::print_stdout, reason = "a bench talks to its user")]

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rctr_storage::Store;
use rctr_storage::cache::StepRecord;
use rctr_storage::digest::Digest;
use rctr_storage::layer::KeepUpper;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let [dir, rest @ ..] = words.as_slice() else {
        println!("give DIR [ROUNDS]");
        return Ok(());
    };
    let rounds: usize = rest.first().map_or(Ok(20), |word| word.parse())?;
    let root = Path::new(dir).join("store");
    fs::create_dir_all(dir)?;
    let mut times: [(&str, Vec<Duration>); 6] = [
        ("layer, moved", Vec::new()),
        ("layer, copied and synced", Vec::new()),
        ("record", Vec::new()),
        ("sync_build", Vec::new()),
        ("ten hits, first session", Vec::new()),
        ("ten hits again", Vec::new()),
    ];
    for round in 0..rounds {
        for ((_, list), taken) in times.iter_mut().zip(one(&root, round)?) {
            list.push(taken);
        }
    }
    for (name, list) in &mut times {
        list.sort();
        let ms = |at: usize| list[at].as_secs_f64() * 1e3;
        let (median, last) = (ms(list.len() / 2), ms(list.len() - 1));
        println!("{name:26} median {median:.3} ms   {:.3} … {last:.3}", ms(0));
    }
    Ok(())
}

fn one(root: &Path, round: usize) -> Result<[Duration; 6], Box<dyn Error>> {
    let store = Store::open(root)?;
    let mut keys = Vec::new();
    let (mut moved, mut noted) = (Duration::ZERO, Duration::ZERO);
    for step in 0..10 {
        let upper = upper(&store, &format!("{round} {step}"))?;
        let start = Instant::now();
        let layer = store.add_upper(&upper, KeepUpper::Move, &[])?;
        moved += start.elapsed();
        let record = StepRecord {
            key: layer.digest,
            kind: "run".to_owned(),
            name: "RUN apt-get update && apt-get install -y apache2".to_owned(),
            layer,
            parent: Some(Digest::of(b"parent")),
            inputs: Vec::new(),
            created: "2024-01-01T00:00:00Z".to_owned(),
            duration_ms: 1,
            log: None,
        };
        keys.push(record.key);
        let start = Instant::now();
        store.remember_step(&record)?;
        noted += start.elapsed();
    }
    let start = Instant::now();
    store.sync_build()?;
    let synced = start.elapsed();
    let upper = upper(&store, &format!("{round} copy"))?;
    let start = Instant::now();
    store.add_upper(&upper, KeepUpper::Copy, &[])?;
    let copied = start.elapsed();
    drop(store);
    let hits = |store: &Store| -> Result<Duration, Box<dyn Error>> {
        let start = Instant::now();
        for key in &keys {
            store.cached_step(key)?.ok_or("not cached")?;
        }
        Ok(start.elapsed())
    };
    let store = Store::open(root)?;
    let first = hits(&store)?;
    let again = hits(&store)?;
    Ok([moved / 10, copied, noted / 10, synced, first, again])
}

/// What `RUN echo … > file` leaves.
fn upper(store: &Store, text: &str) -> Result<std::path::PathBuf, Box<dyn Error>> {
    let upper = store.temp_path("upper")?;
    fs::create_dir_all(upper.join("etc"))?;
    fs::write(upper.join("etc/file"), text)?;
    Ok(upper)
}
