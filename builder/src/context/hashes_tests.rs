//! The table of file digests: what it keeps, and what it doesn't believe.

use nix::sys::stat::lstat;
use nix::sys::time::TimeSpec;

use super::*;
use crate::testing::Scratch;

struct Place {
    scratch: Scratch,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let scratch = Scratch::new();
        fs::create_dir(scratch.path("ctx")).unwrap();
        let store = Store::open(&scratch.path("store")).unwrap();
        Self { scratch, store }
    }

    fn root(&self) -> PathBuf {
        self.scratch.path("ctx")
    }

    /// As if opened some seconds later: files just made are old.
    fn open_later(&self) -> FileHashes {
        let mut hashes = FileHashes::open(&self.store, &self.root());
        hashes.newest += 10_000_000_000;
        hashes
    }

    fn file(&self, name: &str, content: &str) -> FileStat {
        fs::write(self.root().join(name), content).unwrap();
        self.stat(name)
    }

    fn stat(&self, name: &str) -> FileStat {
        lstat(&self.root().join(name)).unwrap()
    }
}

#[test]
fn digests_survive_and_changes_are_seen() {
    let place = Place::new();
    let (a, b) = (place.file("a", "1"), place.file("b", "2"));
    let (digest_a, digest_b) = (Digest::of(b"1"), Digest::of(b"2"));
    let hashes = place.open_later();
    assert_eq!(hashes.get(Path::new("a"), &a), None);
    hashes.put(Path::new("a"), &a, digest_a);
    hashes.put(Path::new("b"), &b, digest_b);
    hashes.save().unwrap();

    let again = FileHashes::open(&place.store, &place.root());
    assert_eq!(again.get(Path::new("a"), &a), Some(digest_a));
    assert_eq!(again.get(Path::new("b"), &b), Some(digest_b));
    assert_eq!(again.get(Path::new("b"), &a), None);
    assert_eq!(again.get(Path::new("c"), &a), None);

    // Same size and mtime: the ctime tells.
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(place.root().join("a"), "x").unwrap();
    let mtime = TimeSpec::new(a.st_mtime, a.st_mtime_nsec);
    let file = File::open(place.root().join("a")).unwrap();
    nix::sys::stat::futimens(&file, &mtime, &mtime).unwrap();
    let changed = place.stat("a");
    assert_eq!(
        (changed.st_mtime, changed.st_mtime_nsec),
        (a.st_mtime, a.st_mtime_nsec)
    );
    assert_eq!(again.get(Path::new("a"), &changed), None);
}

#[test]
fn files_that_changed_just_now_are_not_remembered() {
    let place = Place::new();
    let stat = place.file("a", "1");
    let hashes = FileHashes::open(&place.store, &place.root());
    hashes.put(Path::new("a"), &stat, Digest::of(b"1"));
    assert_eq!(hashes.get(Path::new("a"), &stat), None);
}

#[test]
fn vanished_files_are_forgotten() {
    let place = Place::new();
    let hashes = place.open_later();
    for name in ["a", "b", "c"] {
        hashes.put(
            Path::new(name),
            &place.file(name, name),
            Digest::of(name.as_bytes()),
        );
    }
    hashes.save().unwrap();
    fs::remove_file(place.root().join("b")).unwrap();
    let again = place.open_later();
    again.put(Path::new("d"), &place.file("d", "d"), Digest::of(b"d"));
    again.save().unwrap();
    let mut names: Vec<Box<[u8]>> = {
        let last = FileHashes::open(&place.store, &place.root());
        let table = last.table();
        table.entries.keys().cloned().collect()
    };
    names.sort();
    let want: [&[u8]; 3] = [b"a", b"c", b"d"];
    assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), want);
}

#[test]
fn damaged_tables_are_as_good_as_none() {
    let place = Place::new();
    let hashes = place.open_later();
    let stat = place.file("a", "1");
    hashes.put(Path::new("a"), &stat, Digest::of(b"1"));
    hashes.save().unwrap();
    let path = hashes.path.clone().unwrap();
    let good = fs::read(&path).unwrap();
    assert_eq!(decode(&good).unwrap().len(), 1);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        assert!(decode(&bad).is_none(), "byte {at}");
        assert!(decode(&good[..at]).is_none(), "cut at {at}");
    }
    // A right checksum over nonsense.
    let body = &good[..good.len() - 4];
    for at in 0..body.len() {
        for bytes in [body[..at].to_vec(), [body, &[0]].concat()] {
            let sum = checksum(&bytes).to_le_bytes();
            assert!(decode(&[&bytes[..], &sum].concat()).is_none());
        }
    }
    fs::write(&path, b"nonsense").unwrap();
    let again = place.open_later();
    assert_eq!(again.get(Path::new("a"), &stat), None);
    again.put(Path::new("a"), &stat, Digest::of(b"1"));
    again.save().unwrap();
    assert_eq!(fs::read(&path).unwrap(), good);
}

#[test]
fn threads_share_a_table() {
    let place = Place::new();
    let hashes = place.open_later();
    let stat = place.file("a", "1");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (hashes, stat) = (&hashes, &stat);
            scope.spawn(move || {
                for n in 0..500 {
                    let name = format!("{thread}/{n}");
                    hashes.put(Path::new(&name), stat, Digest::of(name.as_bytes()));
                }
            });
        }
    });
    for name in ["0/0", "3/499"] {
        let digest = hashes.get(Path::new(name), &stat);
        assert_eq!(digest, Some(Digest::of(name.as_bytes())));
    }
}

/// `cargo test --release -p rctr-builder speed -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stderr, reason = "a measurement")]
fn speed_of_20_000_entries() {
    let place = Place::new();
    let hashes = place.open_later();
    let stat = place.file("a", "1");
    let names: Vec<String> = (0..20_000)
        .map(|n| format!("dir{}/sub/file{n}.c", n / 100))
        .collect();
    for name in &names {
        hashes.put(Path::new(name), &stat, Digest::of(name.as_bytes()));
    }
    let begin = std::time::Instant::now();
    hashes.save().unwrap();
    eprintln!("save: {:?}", begin.elapsed());
    for _ in 0..5 {
        let begin = std::time::Instant::now();
        let again = FileHashes::open(&place.store, &place.root());
        let opened = begin.elapsed();
        assert!(
            names
                .iter()
                .all(|name| again.get(Path::new(name), &stat).is_some())
        );
        eprintln!(
            "open: {opened:?}, all looked up: {:?}",
            begin.elapsed() - opened
        );
    }
}
