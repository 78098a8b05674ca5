//! Checking out from repositories on this disk.

use rctr_storage::explain::Explain;

use super::*;
use crate::testing::Scratch;

fn settings() -> Settings {
    let path = std::env::var_os("PATH").unwrap_or_default();
    Settings {
        program: PathBuf::from("git"),
        env: vec![
            ("PATH".into(), path),
            // git wants to know who commits.
            ("GIT_AUTHOR_NAME".into(), "t".into()),
            ("GIT_AUTHOR_EMAIL".into(), "t@t".into()),
            ("GIT_COMMITTER_NAME".into(), "t".into()),
            ("GIT_COMMITTER_EMAIL".into(), "t@t".into()),
        ],
    }
}

fn run(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args([
            "-c",
            "init.defaultBranch=main",
            "-c",
            "protocol.file.allow=always",
        ])
        .args(args)
        .current_dir(dir)
        .env_clear()
        .envs(settings().env)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A repository with two commits; the first has the tag `v1`, the branch `dev` has a third.
struct Repository {
    scratch: Scratch,
    commits: Vec<String>,
}

impl Repository {
    fn new() -> Self {
        let scratch = Scratch::new();
        let dir = scratch.path("repo");
        fs::create_dir_all(dir.join("sub/deep")).unwrap();
        run(&dir, &["init", "-q", "."]);
        let mut commits = Vec::new();
        for (n, branch) in [(1, "main"), (2, "main"), (3, "dev")] {
            if branch != "main" {
                run(&dir, &["checkout", "-q", "-b", branch]);
            }
            fs::write(dir.join("file"), format!("{n}")).unwrap();
            fs::write(dir.join("sub/deep/file"), "deep").unwrap();
            run(&dir, &["add", "-A"]);
            run(&dir, &["commit", "-q", "-m", "some"]);
            commits.push(run(&dir, &["rev-parse", "HEAD"]));
            if n == 1 {
                run(&dir, &["tag", "-a", "-m", "one", "v1"]);
            }
        }
        run(&dir, &["checkout", "-q", "main"]);
        Self { scratch, commits }
    }

    fn url(&self, fragment: &str) -> GitUrl {
        let path = self.scratch.path("repo/.git");
        GitUrl::parse(&format!("{}{fragment}", path.display())).unwrap()
    }

    fn checkout(&self, fragment: &str) -> Result<Commit, GitError> {
        let dest = self.scratch.path("out");
        rctr_storage::tree::remove_tree(&dest).unwrap();
        checkout(&self.url(fragment), &dest, false, &settings())
    }
}

#[test]
fn references_of_all_kinds() {
    let repository = Repository::new();
    let full = format!("#{}", repository.commits[0]);
    let short = format!("#{}", &repository.commits[0][..9]);
    for (fragment, commit, file) in [
        ("", 1, "2"),
        ("#", 1, "2"),
        ("#main", 1, "2"),
        ("#dev", 2, "3"),
        ("#refs/heads/dev", 2, "3"),
        ("#v1", 0, "1"),
        (&*full, 0, "1"),
        (&*short, 0, "1"),
    ] {
        let got = repository.checkout(fragment).unwrap();
        assert_eq!(got.id, repository.commits[commit], "{fragment}");
        assert_eq!(fs::read_to_string(got.root.join("file")).unwrap(), file);
        assert!(!got.root.join(".git").exists());
    }
}

#[test]
fn only_the_wanted_commit_comes() {
    let repository = Repository::new();
    let url = GitUrl {
        remote: format!("file://{}", repository.scratch.path("repo").display()),
        reference: Some("dev".to_owned()),
        directory: None,
    };
    let dest = repository.scratch.path("kept");
    checkout(&url, &dest, true, &settings()).unwrap();
    assert_eq!(run(&dest, &["rev-list", "--count", "--all", "HEAD"]), "1");
}

#[test]
fn directories_in_it() {
    let repository = Repository::new();
    for fragment in ["#:sub/deep", "#main:/sub/deep/", "#v1:sub/deep"] {
        let got = repository.checkout(fragment).unwrap();
        assert_eq!(fs::read_to_string(got.root.join("file")).unwrap(), "deep");
        assert!(got.root.ends_with("out/sub/deep"), "{:?}", got.root);
    }
    for (fragment, kind) in [
        ("#:none", io::ErrorKind::NotFound),
        ("#:file", io::ErrorKind::NotADirectory),
        ("#:../../../repo", io::ErrorKind::NotFound),
    ] {
        let error = repository.checkout(fragment).unwrap_err();
        let GitError::Directory { source, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(source.kind(), kind, "{fragment}");
    }
}

#[test]
fn hooks_do_not_run() {
    let repository = Repository::new();
    let scratch = &repository.scratch;
    let witness = scratch.path("witness");
    let hook = scratch.path("hooks/post-checkout");
    fs::create_dir_all(scratch.path("hooks")).unwrap();
    fs::write(&hook, format!("#!/bin/sh\ntouch {}\n", witness.display())).unwrap();
    fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let config = format!("[core]\nhooksPath = {}\n", scratch.path("hooks").display());
    fs::write(scratch.path(".gitconfig"), config).unwrap();
    let mut settings = settings();
    settings.env.push(("HOME".into(), scratch.path("").into()));
    checkout(&repository.url(""), &scratch.path("out"), false, &settings).unwrap();
    assert!(!witness.exists());
    // They would, if nothing was done about it.
    let plain = Command::new("git")
        .args(["clone", "--quiet", "repo", "plain"])
        .current_dir(scratch.path(""))
        .env_clear()
        .envs(settings.env)
        .status();
    assert!(plain.unwrap().success() && witness.exists());
}

#[test]
fn submodules_come_only_from_where_git_allows() {
    let repository = Repository::new();
    let dir = repository.scratch.path("repo");
    let other = Repository::new();
    let path = other.scratch.path("repo");
    run(
        &dir,
        &["submodule", "--quiet", "add", path.to_str().unwrap(), "mod"],
    );
    run(&dir, &["commit", "-q", "-m", "with a submodule"]);
    // One on this disk, named by a stranger: git refuses since CVE-2022-39253.
    let error = repository.checkout("").unwrap_err();
    assert!(error.to_string().contains("submodules"), "{error}");
}

#[test]
fn failures_are_clear() {
    let repository = Repository::new();
    let error = repository.checkout("#none").unwrap_err();
    assert!(
        error.to_string().contains("couldn't find remote ref none"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("no such branch"));
    let error = repository.checkout("#deadbeef").unwrap_err();
    assert!(error.hint().unwrap().contains("no such branch"), "{error}");

    let mut without = settings();
    without.env[0].1 = repository.scratch.path("nowhere").into();
    let dest = repository.scratch.path("x");
    let error = checkout(&repository.url(""), &dest, false, &without).unwrap_err();
    assert!(error.hint().unwrap().starts_with("install git"), "{error}");

    let gone = GitUrl::parse("file:///nowhere/at/all.git").unwrap();
    let error = checkout(&gone, &repository.scratch.path("y"), false, &settings()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot fetch file:///nowhere"),
        "{error}"
    );
}

#[test]
fn urls_of_git() {
    for (text, remote, reference, directory) in [
        ("https://h/r.git", "https://h/r.git", None, None),
        ("https://h/r.git#v1", "https://h/r.git", Some("v1"), None),
        (
            "https://h/r.git#v1:a/b",
            "https://h/r.git",
            Some("v1"),
            Some("a/b"),
        ),
        ("https://h/r.git#:a", "https://h/r.git", None, Some("a")),
        ("git@h:o/r.git#x", "git@h:o/r.git", Some("x"), None),
        ("git://h/r", "git://h/r", None, None),
        ("ssh://git@h/r", "ssh://git@h/r", None, None),
        (
            "github.com/o/r#main",
            "https://github.com/o/r",
            Some("main"),
            None,
        ),
        ("file:///a/b#c", "file:///a/b", Some("c"), None),
    ] {
        let url = GitUrl::parse(text).unwrap();
        let got = (
            &*url.remote,
            url.reference.as_deref(),
            url.directory.as_deref(),
        );
        assert_eq!(got, (remote, reference, directory), "{text}");
    }
    for other in [
        "https://h/r",
        "https://h/r.tar",
        ".",
        "dir",
        "dir#x",
        "-",
        "ftp://h/r.git",
        "git@-oProxy:x",
        "https://h/r.git#--upload-pack=x",
        "https://h/r.git#a b",
        "x.git",
    ] {
        assert_eq!(GitUrl::parse(other), None, "{other}");
    }
    let secret = GitUrl::parse("https://me:token@h/r.git#a:b").unwrap();
    assert_eq!(secret.to_string(), "https://h/r.git#a:b");
}
