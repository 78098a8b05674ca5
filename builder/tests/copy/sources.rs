//! What is selected, and how it looks.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::net::UnixListener;

use rctr_builder::copy::{CopyError, SourceTree};
use rctr_builder::plan::{CopyStep, PlannedSource};
use rctr_runtime::sys;
use rctr_storage::explain::Explain;

use crate::harness::{Place, link, list, mode, set_time, step, time};

pub(crate) fn a_directory_gives_its_content(place: &Place) {
    place.file("d/a", "1");
    place.file("d/sub/b", "2");
    link("a", &place.context_path().join("d/l"));
    mode(&place.context_path().join("d/sub"), 0o751);
    mode(&place.context_path().join("d"), 0o700);
    let want = [
        "x/ 755 0:0",
        "x/a 644 0:0 \"1\"",
        "x/l -> a 0:0",
        "x/sub/ 751 0:0",
        "x/sub/b 644 0:0 \"2\"",
    ];
    for (source, destination) in [("d", "/x"), ("d/", "/x/"), ("/d/.", "/x"), ("./d", "/x/.")] {
        assert_eq!(
            place.makes(&step(&[source], destination)),
            want,
            "{source} {destination}"
        );
    }
    // The root of the context, clamped.
    let all = place.makes(&step(&["../.."], "/"));
    assert_eq!(all[0], "d/ 700 0:0");
}

pub(crate) fn links_in_sources_are_followed(place: &Place) {
    place.file("real/f", "x");
    let context = place.context_path();
    link("real", &context.join("dir"));
    link("/real/f", &context.join("file"));
    link("../../../../../../etc/hostname", &context.join("out"));
    link("gone", &context.join("dangling"));
    assert_eq!(
        place.makes(&step(&["dir"], "/y")),
        ["y/ 755 0:0", "y/f 644 0:0 \"x\""]
    );
    assert_eq!(place.makes(&step(&["dir/f"], "/y")), ["y 644 0:0 \"x\""]);
    // Called as it was asked for.
    assert_eq!(
        place.makes(&step(&["file"], "/y/")),
        ["y/ 755 0:0", "y/file 644 0:0 \"x\""]
    );
    assert_eq!(
        place.error(&step(&["out"], "/y"), &[]),
        "\"/etc/hostname\": not found"
    );
    assert_eq!(
        place.error(&step(&["dangling"], "/y"), &[]),
        "\"/gone\": not found"
    );
    link("loop", &context.join("loop"));
    assert!(
        place
            .error(&step(&["loop"], "/y"), &[])
            .contains("too many symbolic links")
    );
}

pub(crate) fn patterns(place: &Place) {
    for path in [
        "w1.txt", "w2.txt", "w3.md", "a/x.txt", "b/x.txt", "b/y.md", "[1]",
    ] {
        place.file(path, path);
    }
    let names = |sources: &[&str]| -> Vec<String> {
        let lines = place.makes(&step(sources, "/o/"));
        let files = lines.iter().filter(|line| line.contains('"'));
        files
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&["w*.txt"]), ["o/w1.txt", "o/w2.txt"]);
    assert_eq!(names(&["w?.md"]), ["o/w3.md"]);
    assert_eq!(names(&["w[12].*"]), ["o/w1.txt", "o/w2.txt"]);
    assert_eq!(names(&["*/x.txt"]), ["o/x.txt"]);
    // A directory that matches gives its content.
    assert_eq!(names(&["[ab]"]), ["o/x.txt", "o/y.md"]);
    assert_eq!(names(&["[[]1]"]), ["o/[1]"]);
    // As in BuildKit, a pattern may match nothing.
    assert_eq!(place.makes(&step(&["none*"], "/o/")), [""; 0]);
    assert!(place.error(&step(&["[a"], "/o/"), &[]).contains("[a"));
}

pub(crate) fn several_sources_go_into_a_directory(place: &Place) {
    place.file("a", "a");
    place.file("b", "b");
    place.file("d/c", "c");
    let want = [
        "o/ 755 0:0",
        "o/a 644 0:0 \"a\"",
        "o/b 644 0:0 \"b\"",
        "o/c 644 0:0 \"c\"",
    ];
    assert_eq!(place.makes(&step(&["a", "b", "d"], "/o/")), want);
    // One match of a pattern is one source.
    assert_eq!(place.makes(&step(&["[a]"], "/o")), ["o 644 0:0 \"a\""]);
    assert_eq!(place.makes(&step(&["[ab]"], "/o")), want[..3]);
}

pub(crate) fn ignored_files_are_not_there(place: &Place) {
    for path in [
        "a",
        "log/x",
        "log/keep/y",
        "log/keep/z",
        "src/t.tmp",
        "src/t.rs",
    ] {
        place.file(path, "");
    }
    place.file(".dockerignore", "a\nlog\n!log/keep/y\n**/*.tmp\n");
    assert_eq!(
        place.makes(&step(&["."], "/")),
        [
            ".dockerignore 644 0:0 \"a\\nlog\\n!log/keep/y\\n**/*.tmp\\n\"",
            "log/ 750 0:0",
            "log/keep/ 750 0:0",
            "log/keep/y 644 0:0 \"\"",
            "src/ 750 0:0",
            "src/t.rs 644 0:0 \"\"",
        ]
    );
    assert_eq!(
        place.makes(&step(&["log"], "/l"))[1..],
        ["l/keep/ 750 0:0", "l/keep/y 644 0:0 \"\""]
    );
    for source in ["a", "log/x", "log/keep/z", "src/t.tmp"] {
        let error = place.run(&step(&[source], "/x"), &[]).unwrap_err();
        assert!(
            matches!(error, CopyError::NotFound { ignored: true, .. }),
            "{source}: {error}"
        );
        assert!(error.hint().unwrap().contains(".dockerignore"), "{source}");
    }
    assert_eq!(
        place.makes(&step(&["src/*"], "/x/"))[1..],
        ["x/t.rs 644 0:0 \"\""]
    );
}

pub(crate) fn exclude(place: &Place) {
    for path in [
        "d/a.txt",
        "d/b.md",
        "d/sub/c.txt",
        "d/sub/d.md",
        "e.txt",
        "e.md",
    ] {
        place.file(path, "");
    }
    let with = |source: &str, exclude: &[&str]| {
        place.makes(&CopyStep {
            exclude: exclude.iter().map(|&pattern| pattern.to_owned()).collect(),
            ..step(&[source], "/o/")
        })
    };
    assert_eq!(
        with("d", &["*.txt"]),
        [
            "o/ 755 0:0",
            "o/b.md 644 0:0 \"\"",
            "o/sub/ 750 0:0",
            "o/sub/c.txt 644 0:0 \"\"",
            "o/sub/d.md 644 0:0 \"\""
        ]
    );
    assert_eq!(
        with("d", &["**/*.txt", "**/*.md"]),
        ["o/ 755 0:0", "o/sub/ 750 0:0"]
    );
    assert_eq!(with("d", &["sub"]).len(), 3);
    assert_eq!(
        with("d", &["sub", "!sub/d.md"]).last().unwrap(),
        "o/sub/d.md 644 0:0 \"\""
    );
    assert_eq!(
        with("e*", &["*.txt"]),
        ["o/ 755 0:0", "o/e.md 644 0:0 \"\""]
    );
}

pub(crate) fn parents(place: &Place) {
    for path in ["x/a.txt", "x/y/a.txt", "x/y/b.md", "z/a.txt"] {
        place.file(path, "");
    }
    mode(&place.context_path().join("x/y"), 0o711);
    let with = |sources: &[&str]| {
        place.makes(&CopyStep {
            parents: true,
            ..step(sources, "/o/")
        })
    };
    let file = |path: &str| format!("{path} 644 0:0 \"\"");
    assert_eq!(
        with(&["x/y/a.txt"])[1..],
        ["o/x/ 750 0:0", "o/x/y/ 711 0:0", &file("o/x/y/a.txt")]
    );
    assert_eq!(
        with(&["x/./y/*.txt"])[1..],
        ["o/y/ 711 0:0", &file("o/y/a.txt")]
    );
    assert_eq!(
        with(&["**/a.txt"])[1..],
        [
            "o/x/ 750 0:0",
            &file("o/x/a.txt"),
            "o/x/y/ 711 0:0",
            &file("o/x/y/a.txt"),
            "o/z/ 750 0:0",
            &file("o/z/a.txt")
        ]
    );
    assert_eq!(with(&["./x/y"])[1..].len(), 4);
    let step = CopyStep {
        parents: true,
        ..step(&["x/no"], "/o/")
    };
    assert_eq!(place.error(&step, &[]), "\"/x/no\": not found");
}

pub(crate) fn missing_sources(place: &Place) {
    place.file("index.html", "");
    place.file("src/main.c", "");
    let error = |source: &str| {
        let error = place.digest(&step(&[source], "/x")).unwrap_err();
        (error.to_string(), error.hint().unwrap())
    };
    assert_eq!(
        error("index.htm"),
        (
            "\"/index.htm\": not found".to_owned(),
            "did you mean \"index.html\"?".to_owned()
        )
    );
    assert_eq!(error("scr/main.c").0, "\"/scr/main.c\": not found");
    assert_eq!(error("src/Main.c").1, "did you mean \"src/main.c\"?");
    assert_eq!(error("../other").0, "\"/other\": not found");
    assert_eq!(error("index.html/x").0, "\"/index.html/x\": not found");
    assert!(error("other").1.contains("the build context"));
}

pub(crate) fn modes_and_owners(place: &Place) {
    place.file("d/f", "");
    place.file("d/s/g", "");
    let context = place.context_path();
    mode(&context.join("d/f"), 0o4750);
    mode(&context.join("d/s"), 0o700);
    // Owners of the host mean nothing.
    chown(context.join("d/s/g"), Some(7), Some(8)).unwrap();
    let with = |chown: Option<&str>, chmod: Option<&str>| {
        place.makes(&CopyStep {
            chown: chown.map(str::to_owned),
            chmod: chmod.map(str::to_owned),
            ..step(&["d"], "/a/b")
        })
    };
    assert_eq!(
        with(None, None),
        [
            "a/ 755 0:0",
            "a/b/ 755 0:0",
            "a/b/f 4750 0:0 \"\"",
            "a/b/s/ 700 0:0",
            "a/b/s/g 644 0:0 \"\""
        ]
    );
    assert_eq!(
        with(Some("5:6"), None),
        [
            "a/ 755 5:6",
            "a/b/ 755 5:6",
            "a/b/f 4750 5:6 \"\"",
            "a/b/s/ 700 5:6",
            "a/b/s/g 644 5:6 \"\""
        ]
    );
    // BuildKit: the directory that is made on the way keeps 0755, those that are copied don't.
    assert_eq!(
        with(Some("55"), Some("711")),
        [
            "a/ 755 55:55",
            "a/b/ 755 55:55",
            "a/b/f 711 55:55 \"\"",
            "a/b/s/ 711 55:55",
            "a/b/s/g 711 55:55 \"\""
        ]
    );
    assert_eq!(
        with(None, Some("u=rwX,go=rX"))[2..],
        [
            "a/b/f 755 0:0 \"\"",
            "a/b/s/ 755 0:0",
            "a/b/s/g 644 0:0 \"\""
        ]
    );
}

pub(crate) fn times(place: &Place) {
    let context = place.context_path();
    place.file("d/old", "");
    place.file("d/s/new", "");
    link("old", &context.join("d/l"));
    set_time(&context.join("d/old"), 1_000_000_000);
    set_time(&context.join("d/s/new"), 1_500_000_000);
    set_time(&context.join("d/s"), 1_200_000_000);
    set_time(&context.join("d"), 1_100_000_000);
    let upper = place.run(&step(&["d"], "/p/x"), &[]).unwrap();
    assert_eq!(time(&upper.join("p/x/old")), 1_000_000_000);
    assert_eq!(time(&upper.join("p/x/s/new")), 1_500_000_000);
    assert_eq!(time(&upper.join("p/x/s")), 1_200_000_000);
    assert_eq!(time(&upper.join("p/x")), 1_100_000_000);
    let source = place.context();
    let upper = place
        .run_from(
            &step(&["d"], "/p/x"),
            SourceTree::Context(&source),
            &[],
            Some(1_150_000_000),
        )
        .unwrap();
    assert_eq!(time(&upper.join("p/x/old")), 1_000_000_000);
    for later in ["p/x/s/new", "p/x/s", "p/x/l", "p"] {
        assert_eq!(time(&upper.join(later)), 1_150_000_000, "{later}");
    }
}

pub(crate) fn all_kinds_of_files(place: &Place) {
    let context = place.context_path();
    place.file("d/f", "x");
    fs::hard_link(context.join("d/f"), context.join("d/g")).unwrap();
    fs::create_dir(context.join("d/s")).unwrap();
    fs::hard_link(context.join("d/f"), context.join("d/s/h")).unwrap();
    let pipe = nix::sys::stat::Mode::from_bits_truncate(0o640);
    nix::unistd::mkfifo(&context.join("d/p"), pipe).unwrap();
    let _socket = UnixListener::bind(context.join("d/sock")).unwrap();
    let upper = place.run(&step(&["d"], "/o"), &[]).unwrap();
    assert_eq!(
        list(&upper)[1..],
        [
            "o/f 644 0:0 \"x\"",
            "o/g 644 0:0 \"x\"",
            "o/p| 640 0:0",
            "o/s/ 750 0:0",
            "o/s/h 644 0:0 \"x\""
        ]
    );
    let inode = |path: &str| fs::metadata(upper.join(path)).unwrap().ino();
    assert!(inode("o/f") == inode("o/g") && inode("o/f") == inode("o/s/h"));
    assert!(
        place
            .error(&step(&["d/sock"], "/o"), &[])
            .contains("socket")
    );
}

pub(crate) fn inline_files(place: &Place) {
    let inline = |name: &str, content: &str| PlannedSource::Inline {
        name: name.to_owned(),
        content: content.to_owned(),
    };
    let mut heredoc = step(&[], "/etc/motd");
    heredoc.sources = vec![inline("EOF", "hello\n")];
    assert_eq!(
        place.makes(&heredoc),
        ["etc/ 755 0:0", "etc/motd 644 0:0 \"hello\\n\""]
    );
    heredoc.destination = "/etc/".to_owned();
    heredoc.sources.push(inline("b", ""));
    heredoc.chmod = Some("755".to_owned());
    heredoc.chown = Some("1:2".to_owned());
    assert_eq!(
        place.makes(&heredoc),
        [
            "etc/ 755 1:2",
            "etc/EOF 755 1:2 \"hello\\n\"",
            "etc/b 755 1:2 \"\""
        ]
    );
    let source = place.context();
    let from = SourceTree::Context(&source);
    let upper = place.run_from(&heredoc, from, &[], Some(7)).unwrap();
    assert_eq!(
        (time(&upper.join("etc/EOF")), time(&upper.join("etc"))),
        (7, 7)
    );
}

pub(crate) fn attributes_and_holes(place: &Place) {
    let path = place.file("d/f", "x");
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(64 << 20).unwrap();
    sys::set_xattr(file.as_fd(), c"user.mine", b"1").unwrap();
    let upper = place.run(&step(&["d"], "/o"), &[]).unwrap();
    let copy = File::open(upper.join("o/f")).unwrap();
    assert!(sys::has_xattr(copy.as_fd(), c"user.mine"));
    let meta = copy.metadata().unwrap();
    assert_eq!(meta.len(), 64 << 20);
    assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
}
