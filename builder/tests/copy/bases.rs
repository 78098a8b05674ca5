//! What is copied over what is there.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, mknod};
use rctr_builder::copy::{SourceTree, WorkdirOrder, workdir as run_workdir};
use rctr_builder::plan::{CopyStep, WorkdirStep};
use rctr_runtime::sys;

use crate::harness::{Place, link, list, mode, set_time, step, time, write};

fn whiteout(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    mknod(path, SFlag::S_IFCHR, Mode::empty(), 0).unwrap();
}

pub(crate) fn files_go_where_links_lead(place: &Place) {
    place.file("f", "x");
    place.file("d/run/pid", "1");
    let base = place.new_dir();
    fs::create_dir_all(base.join("run")).unwrap();
    link("/run", &base.join("var/run"));
    link("../etc/real", &base.join("bin/tool"));
    link("../../../..", &base.join("out"));
    let top = place.new_dir();
    link("/run/deeper", &top.join("srv"));
    let lowers = [top, base];
    let made = |source: &str, destination: &str| {
        let upper = place.run(&step(&[source], destination), &lowers).unwrap();
        list(&upper)
    };
    assert_eq!(
        made("f", "/var/run/"),
        ["run/ 750 0:0", "run/f 644 0:0 \"x\""]
    );
    assert_eq!(
        made("f", "/var/run/a/b"),
        ["run/ 750 0:0", "run/a/ 755 0:0", "run/a/b 644 0:0 \"x\""]
    );
    // A link to a file that isn't there yet.
    assert_eq!(
        made("f", "/bin/tool"),
        ["etc/ 755 0:0", "etc/real 644 0:0 \"x\""]
    );
    assert_eq!(
        made("f", "/out/etc/f"),
        ["etc/ 755 0:0", "etc/f 644 0:0 \"x\""]
    );
    // A link whose target is missing is made a directory.
    assert_eq!(
        made("f", "/srv/"),
        [
            "run/ 750 0:0",
            "run/deeper/ 755 0:0",
            "run/deeper/f 644 0:0 \"x\""
        ]
    );
    // Of what is copied itself no link is followed.
    assert_eq!(
        place.error(&step(&["d"], "/var"), &lowers),
        "cannot copy to non-directory: /var/run"
    );
    let slash = place
        .run(&step(&["f"], "/../../etc/../x"), &lowers)
        .unwrap();
    assert_eq!(list(&slash), ["x 644 0:0 \"x\""]);
}

pub(crate) fn directories_are_brought_up(place: &Place) {
    place.file("f", "x");
    place.file("d/app/conf/new", "n");
    mode(&place.context_path().join("d/app/conf"), 0o711);
    let base = place.new_dir();
    write(&base.join("app/conf/old"), "o");
    chown(base.join("app"), Some(12), Some(13)).unwrap();
    mode(&base.join("app"), 0o2770);
    let attribute = fs::File::open(base.join("app")).unwrap();
    sys::set_xattr(std::os::fd::AsFd::as_fd(&attribute), c"user.mine", b"1").unwrap();
    chown(base.join("app/conf"), Some(14), Some(15)).unwrap();
    set_time(&base.join("app/conf"), 1_000_000_000);
    let lowers = [place.new_dir(), base];
    let upper = place.run(&step(&["f"], "/app/conf/x"), &lowers).unwrap();
    assert_eq!(
        list(&upper),
        [
            "app/ 2770 12:13",
            "app/conf/ 750 14:15",
            "app/conf/x 644 0:0 \"x\""
        ]
    );
    let app = fs::File::open(upper.join("app")).unwrap();
    assert!(sys::has_xattr(std::os::fd::AsFd::as_fd(&app), c"user.mine"));
    // The directory that is the destination keeps all but its time; those that are copied take over what they meet.
    let upper = place.run(&step(&["d/app"], "/app"), &lowers).unwrap();
    assert_eq!(
        list(&upper),
        [
            "app/ 2770 12:13",
            "app/conf/ 711 0:0",
            "app/conf/new 644 0:0 \"n\""
        ]
    );
    assert_eq!(
        time(&upper.join("app")),
        time(&place.context_path().join("d/app"))
    );
    assert!(!fs::exists(upper.join("app/conf/old")).unwrap());
}

pub(crate) fn what_is_in_the_way(place: &Place) {
    place.file("f", "new");
    place.file("dir_for_file/file/x", "");
    place.file("file_for_dir/dir", "");
    let base = place.new_dir();
    write(&base.join("o/file"), "old");
    write(&base.join("o/dir/x"), "old");
    link("file", &base.join("o/link"));
    let lowers = [base];
    for (source, destination, want) in [
        (
            "dir_for_file",
            "/o",
            "cannot copy to non-directory: /o/file",
        ),
        (
            "file_for_dir",
            "/o",
            "cannot replace the directory /o/dir with a file",
        ),
        (
            "dir_for_file",
            "/o/file",
            "cannot copy to non-directory: /o/file",
        ),
        ("f", "/o/file/", "cannot copy to non-directory: /o/file"),
        ("f", "/o/file/x", "cannot copy to non-directory: /o/file"),
    ] {
        assert_eq!(place.error(&step(&[source], destination), &lowers), want);
    }
    let upper = place.run(&step(&["f"], "/o/file"), &lowers).unwrap();
    assert_eq!(list(&upper)[1], "o/file 644 0:0 \"new\"");
    // Named, a link is followed; met, it is replaced.
    let upper = place.run(&step(&["f"], "/o/link"), &lowers).unwrap();
    assert_eq!(list(&upper)[1], "o/file 644 0:0 \"new\"");
    place.file("l/link", "mine");
    let upper = place.run(&step(&["l"], "/o"), &lowers).unwrap();
    assert_eq!(list(&upper)[1], "o/link 644 0:0 \"mine\"");
    // A source after the other: the last one wins.
    place.file("g/f", "again");
    let upper = place
        .run(
            &step(&["f", "g", "dir_for_file", "dir_for_file"], "/n/"),
            &lowers,
        )
        .unwrap();
    assert_eq!(list(&upper)[1], "n/f 644 0:0 \"again\"");
    assert!(
        place
            .error(&step(&["dir_for_file", "f"], "/o/"), &lowers)
            .contains("/o/file")
    );
}

pub(crate) fn whiteouts_are_seen_through(place: &Place) {
    place.file("f", "x");
    let (base, middle) = (place.new_dir(), place.new_dir());
    write(&base.join("gone/a"), "");
    write(&base.join("opaque/old/a"), "");
    chown(base.join("gone"), Some(5), Some(5)).unwrap();
    whiteout(&middle.join("gone"));
    fs::create_dir(middle.join("opaque")).unwrap();
    let opaque = fs::File::open(middle.join("opaque")).unwrap();
    sys::set_xattr(
        std::os::fd::AsFd::as_fd(&opaque),
        c"user.overlay.opaque",
        b"y",
    )
    .unwrap();
    let lowers = [middle, base];
    let upper = place.run(&step(&["f"], "/gone/f"), &lowers).unwrap();
    assert_eq!(list(&upper), ["gone/ 755 0:0", "gone/f 644 0:0 \"x\""]);
    let upper = place.run(&step(&["f"], "/opaque/old"), &lowers).unwrap();
    assert_eq!(list(&upper)[1], "opaque/old 644 0:0 \"x\"");
}

pub(crate) fn names_are_looked_up_in_the_image(place: &Place) {
    place.file("f", "");
    let base = place.new_dir();
    write(
        &base.join("etc/passwd"),
        "root:x:0:0::/:\nweb:x:33:44::/:\n",
    );
    write(&base.join("usr/group"), "root:x:0:\nstaff:x:50:\n");
    link("/usr/group", &base.join("etc/group"));
    let lowers = [base];
    let owner = |chown: &str| {
        let step = CopyStep {
            chown: Some(chown.to_owned()),
            ..step(&["f"], "/x")
        };
        place.run(&step, &lowers).map(|upper| {
            let meta = fs::metadata(upper.join("x")).unwrap();
            (meta.uid(), meta.gid())
        })
    };
    for (chown, want) in [
        ("web", (33, 44)),
        ("web:staff", (33, 50)),
        ("web:7", (33, 7)),
        ("33", (33, 33)),
        ("12:13", (12, 13)),
        ("12:staff", (12, 50)),
        (":50", (0, 50)),
    ] {
        assert_eq!(owner(chown).unwrap(), want, "{chown}");
    }
    assert!(
        owner("nobody")
            .unwrap_err()
            .to_string()
            .contains("unable to find user nobody")
    );
    assert!(
        owner("web:none")
            .unwrap_err()
            .to_string()
            .contains("unable to find group none")
    );
}

pub(crate) fn a_linked_layer_does_not_look_below(place: &Place) {
    place.file("f", "x");
    let base = place.new_dir();
    fs::create_dir(base.join("real")).unwrap();
    link("real", &base.join("app"));
    let lowers = [base];
    let linked = CopyStep {
        link: true,
        ..step(&["f"], "/app/f")
    };
    let upper = place.run(&linked, &lowers).unwrap();
    assert_eq!(list(&upper), ["app/ 755 0:0", "app/f 644 0:0 \"x\""]);
}

pub(crate) fn stages_keep_their_owners(place: &Place) {
    let (base, top) = (place.new_dir(), place.new_dir());
    write(&base.join("out/a"), "a");
    write(&base.join("out/b"), "b");
    write(&top.join("out/c"), "c");
    whiteout(&top.join("out/b"));
    chown(base.join("out/a"), Some(5), Some(6)).unwrap();
    let stage = [top, base];
    let from = SourceTree::Layers(&stage);
    let upper = place
        .run_from(&step(&["/out"], "/x"), from, &[], None)
        .unwrap();
    assert_eq!(
        list(&upper),
        ["x/ 755 0:0", "x/a 644 5:6 \"a\"", "x/c 644 0:0 \"c\""]
    );
    let error = place
        .run_from(&step(&["/out/b"], "/x"), from, &[], None)
        .unwrap_err();
    assert_eq!(error.to_string(), "\"/out/b\": not found");
    let upper = place
        .run_from(&step(&["/out/[bc]"], "/x/"), from, &[], None)
        .unwrap();
    assert_eq!(list(&upper), ["x/ 755 0:0", "x/c 644 0:0 \"c\""]);
}

pub(crate) fn workdir(place: &Place) {
    let base = place.new_dir();
    fs::create_dir_all(base.join("there/is")).unwrap();
    write(&base.join("file"), "");
    let made = |path: &str, user: &str| {
        let upper = place.new_dir();
        run_workdir(&WorkdirOrder {
            step: &WorkdirStep {
                path: PathBuf::from(path),
                user: user.to_owned(),
            },
            lowers: std::slice::from_ref(&base),
            upper: upper.clone(),
            epoch: Some(3),
        })
        .map(|()| {
            if fs::exists(upper.join("a")).unwrap() {
                assert_eq!(time(&upper.join("a")), 3);
            }
            list(&upper)
        })
    };
    assert_eq!(made("/there/is", "").unwrap(), [""; 0]);
    assert_eq!(made("/", "").unwrap(), [""; 0]);
    assert_eq!(made("/a/b", "").unwrap(), ["a/ 755 0:0", "a/b/ 755 0:0"]);
    assert_eq!(made("/a/b", "7:8").unwrap(), ["a/ 755 7:8", "a/b/ 755 7:8"]);
    assert_eq!(
        made("/there/new", "7").unwrap(),
        ["there/ 750 0:0", "there/new/ 755 7:7"]
    );
    assert_eq!(
        made("/file/x", "").unwrap_err().to_string(),
        "cannot copy to non-directory: /file"
    );
    assert!(made("/a", "nobody").is_err());
}

/// The kernel sees what was meant.
pub(crate) fn overlay_reads_the_layer(place: &Place) {
    place.file("d/conf/new", "n");
    let base = place.new_dir();
    write(&base.join("app/conf/old"), "o");
    let lowers = [base];
    let upper = place.run(&step(&["d"], "/app"), &lowers).unwrap();
    let merged = place.new_dir();
    let options = format!(
        "lowerdir={}:{},userxattr",
        upper.display(),
        lowers[0].display()
    );
    let mounted = nix::mount::mount(
        Some("overlay"),
        &merged,
        Some("overlay"),
        nix::mount::MsFlags::empty(),
        Some(options.as_str()),
    );
    if mounted.is_err() {
        // This host has no overlay for users.
        return;
    }
    let seen = list(&merged);
    nix::mount::umount(&merged).unwrap();
    assert_eq!(
        seen[2..],
        ["app/conf/new 644 0:0 \"n\"", "app/conf/old 644 0:0 \"o\""]
    );
}
