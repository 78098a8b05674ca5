use std::fs::{self, File, FileTimes};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::slice;
use std::time::{Duration, SystemTime};

use super::*;
use crate::atomic::Durability;
use crate::layer::{KeepUpper, overlay};
use crate::store::Store;
use crate::sys;
use crate::testing::Scratch;
use crate::tree::{PackOptions, pack};

struct House {
    scratch: Scratch,
    store: Store,
}

impl House {
    fn new() -> Self {
        let scratch = Scratch::new();
        let store = Store::open(&scratch.path("store")).unwrap();
        Self { scratch, store }
    }

    /// A layer made by hand.
    fn layer(&self, name: &str, fill: impl Fn(&Path)) -> PathBuf {
        let dir = self.scratch.path(name);
        fs::create_dir(&dir).unwrap();
        fill(&dir);
        dir
    }

    fn flatten(&self, lowers: &[PathBuf], name: &str) -> PathBuf {
        let to = self.scratch.path(name);
        self.store.flatten(lowers, &to, Durability::None).unwrap();
        to
    }

    fn base(&self) -> PathBuf {
        self.layer("base", |dir| {
            for sub in ["etc/sub", "gone/deep", "renewed/old", "bin"] {
                fs::create_dir_all(dir.join(sub)).unwrap();
            }
            for file in [
                "etc/a",
                "etc/sub/b",
                "gone/deep/c",
                "renewed/old/d",
                "file",
                "linked",
            ] {
                fs::write(dir.join(file), file).unwrap();
                set_time(&dir.join(file));
            }
            fs::hard_link(dir.join("linked"), dir.join("bin/again")).unwrap();
            symlink("file", dir.join("link")).unwrap();
            fs::write(dir.join("device"), "").unwrap();
            let device = File::open(dir.join("device")).unwrap();
            sys::fsetxattr(&device, c"user.rctr.device", b"c:1:3").unwrap();
            fs::set_permissions(dir.join("etc"), fs::Permissions::from_mode(0o2750)).unwrap();
        })
    }
}

fn set_time(path: &Path) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 5);
    let file = File::options().write(true).open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
}

fn whiteout(dir: &Path, name: &str) {
    let dir = File::open(dir).unwrap();
    overlay::make_whiteout(dir.as_fd(), name.as_ref()).unwrap();
}

fn tar(root: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    pack(root, "/", &PackOptions::default(), &mut out).unwrap();
    out
}

fn lines(flat: &Path, lowers: &[PathBuf]) -> Vec<String> {
    let found = changes(flat, lowers).unwrap().into_iter();
    found
        .map(|change| format!("{} {}", change.kind, change.path.display()))
        .collect()
}

#[test]
fn layers_are_put_over_each_other() {
    let house = House::new();
    let top = house.layer("top", |dir| {
        fs::create_dir_all(dir.join("renewed")).unwrap();
        overlay::set_opaque(File::open(dir.join("renewed")).unwrap()).unwrap();
        fs::write(dir.join("renewed/new"), "").unwrap();
        whiteout(dir, "gone");
        fs::create_dir(dir.join("file")).unwrap();
        fs::write(dir.join("bin"), "now a file").unwrap();
        fs::create_dir(dir.join("etc")).unwrap();
        whiteout(&dir.join("etc"), "a");
    });
    let lowers = [top, house.base()];
    let flat = house.flatten(&lowers, "merged");
    let there = |name: &str| fs::symlink_metadata(flat.join(name)).is_ok();
    assert!(there("renewed/new") && there("etc/sub/b") && there("linked"));
    assert!(!there("renewed/old") && !there("gone") && !there("etc/a"));
    assert!(flat.join("file").is_dir() && flat.join("bin").is_file());
    assert_eq!(flat.join("etc").metadata().unwrap().mode() & 0o7777, 0o755);
    assert_eq!(flat.join("linked").metadata().unwrap().mtime_nsec(), 5);
    let renewed = File::open(flat.join("renewed")).unwrap();
    assert!(!overlay::is_opaque(&renewed).unwrap());
    assert_eq!(lines(&flat, &lowers), [""; 0]);
    assert_eq!(size(&flat, &lowers).unwrap(), 0);
}

#[test]
fn links_modes_and_devices_are_kept() {
    let house = House::new();
    let base = house.base();
    let flat = house.flatten(slice::from_ref(&base), "merged");
    let inode = |name: &str| flat.join(name).metadata().unwrap().ino();
    assert_eq!(inode("linked"), inode("bin/again"));
    assert_eq!(flat.join("etc").metadata().unwrap().mode() & 0o7777, 0o2750);
    let device = File::open(flat.join("device")).unwrap();
    let mark = sys::fgetxattr(&device, c"user.rctr.device").unwrap();
    assert_eq!(mark.as_deref(), Some(&b"c:1:3"[..]));
    assert_eq!(tar(&flat), tar(&base));
}

/// Everything that a container may do to its copy.
fn change(flat: &Path) {
    fs::write(flat.join("new"), "12345").unwrap();
    fs::remove_dir_all(flat.join("gone")).unwrap();
    fs::remove_file(flat.join("file")).unwrap();
    fs::create_dir_all(flat.join("file/was")).unwrap();
    fs::remove_dir_all(flat.join("renewed")).unwrap();
    fs::write(flat.join("renewed"), "now a file").unwrap();
    // Neither size nor time tell.
    fs::write(flat.join("etc/sub/b"), "ETC/SUB/B").unwrap();
    set_time(&flat.join("etc/sub/b"));
    let a = File::open(flat.join("etc/a")).unwrap();
    sys::fsetxattr(&a, c"user.mine", b"1").unwrap();
    fs::hard_link(flat.join("linked"), flat.join("third")).unwrap();
}

#[test]
fn changes_are_found_whatever_they_hide_behind() {
    let house = House::new();
    let lowers = [house.base()];
    let flat = house.flatten(&lowers, "merged");
    change(&flat);
    let want = [
        "C /bin",
        "C /bin/again",
        "C /etc",
        "C /etc/a",
        "C /etc/sub",
        "C /etc/sub/b",
        "C /file",
        "A /file/was",
        "D /gone",
        "C /linked",
        "A /new",
        "C /renewed",
        "A /third",
    ];
    assert_eq!(lines(&flat, &lowers), want);
    // new, renewed, etc/a, etc/sub/b, linked once
    assert_eq!(size(&flat, &lowers).unwrap(), 5 + 10 + 5 + 9 + 6);
    // Without the mark all is looked into.
    fs::remove_file(flat.with_extension("filled")).unwrap();
    assert_eq!(lines(&flat, &lowers), want);
}

#[test]
fn upper_over_the_layers_is_the_copy_again() {
    let house = House::new();
    let base = house.base();
    let flat = house.flatten(slice::from_ref(&base), "merged");
    change(&flat);
    let upper = house
        .store
        .upper_of_flat(&flat, slice::from_ref(&base))
        .unwrap();
    let gone = upper.join("gone").symlink_metadata().unwrap();
    assert!(gone.file_type().is_char_device());
    assert!(overlay::is_opaque(File::open(upper.join("file")).unwrap()).unwrap());
    assert!(!upper.join("device").exists() && !upper.join("link").exists());
    let again = house.flatten(&[upper.clone(), base.clone()], "again");
    assert!(tar(&again) == tar(&flat));
    let blob = house.store.add_upper(&upper, KeepUpper::Move, &[]).unwrap();
    assert!(!upper.exists());
    let layer = house.store.layer_dir(&blob.diff_id);
    let third = house.flatten(&[layer, base], "third");
    assert!(tar(&third) == tar(&flat));
}

#[test]
fn a_copy_that_was_never_made_has_no_changes() {
    let house = House::new();
    let lowers = [house.base()];
    let flat = house.scratch.path("merged");
    assert_eq!(lines(&flat, &lowers), [""; 0]);
    let upper = house.store.upper_of_flat(&flat, &lowers).unwrap();
    assert_eq!(fs::read_dir(upper).unwrap().count(), 0);
}

#[test]
fn a_failed_copy_leaves_nothing() {
    let house = House::new();
    let lowers = [house.scratch.path("missing"), house.base()];
    let to = house.scratch.path("merged");
    assert!(house.store.flatten(&lowers, &to, Durability::None).is_err());
    assert!(!to.exists());
    let tmp = house.store.path("tmp");
    let left = fs::read_dir(tmp).unwrap().flatten();
    let left: Vec<_> = left
        .filter(|entry| entry.path().is_dir())
        .flat_map(|entry| fs::read_dir(entry.path()).unwrap().flatten())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn no_layers_are_an_empty_root() {
    let house = House::new();
    let flat = house.flatten(&[], "merged");
    assert_eq!(flat.metadata().unwrap().mode() & 0o7777, 0o755);
}
