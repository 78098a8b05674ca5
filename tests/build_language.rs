//! The Dockerfile language, an instruction a table: each row is built by rctr, by buildah and by BuildKit, and the images
//! are compared: what the configuration says and every file with its kind, mode, owner and content. Where a peer isn't
//! what BuildKit's reference says (ours are of 2022), the row tells what the reference wants of us.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use crate::harness::{BuildKit, Buildah, Feature, ImageText, Sandbox, archive, require};

/// Builds that run at once, of either program.
const AT_ONCE: usize = 4;

/// One Dockerfile.
struct Row {
    /// What it shows; its directory and its image, too.
    name: &'static str,
    /// After `FROM busybox`, unless it has a FROM of its own.
    dockerfile: &'static str,
    /// Options of both programs.
    options: &'static str,
    /// `config KEY` or a path, and what BuildKit makes of it where the peer makes something else (`-`: nothing).
    reference: &'static [(&'static str, &'static str)],
}

const fn row(name: &'static str, dockerfile: &'static str) -> Row {
    Row {
        name,
        dockerfile,
        options: "",
        reference: &[],
    }
}

impl Row {
    const fn with(mut self, options: &'static str) -> Self {
        self.options = options;
        self
    }

    const fn reference(mut self, parts: &'static [(&'static str, &'static str)]) -> Self {
        self.reference = parts;
        self
    }
}

/// A program that builds the same Dockerfiles.
trait Peer: Sync {
    fn name(&self) -> &'static str;
    fn build(&self, name: &str, options: &str) -> ImageText;
}

impl Peer for Buildah<'_> {
    fn name(&self) -> &'static str {
        "buildah"
    }

    fn build(&self, name: &str, options: &str) -> ImageText {
        Buildah::build(self, name, options)
    }
}

impl Peer for BuildKit<'_> {
    fn name(&self) -> &'static str {
        "BuildKit"
    }

    fn build(&self, name: &str, options: &str) -> ImageText {
        BuildKit::build(self, name, options)
    }
}

/// Builds all rows both ways and fails with everything that differs.
fn compare(rows: &[Row]) {
    require!(Feature::Tool("buildah"), Feature::SubordinateIds);
    let sandbox = Sandbox::with_busybox();
    compare_with(&sandbox, Buildah::new(&sandbox), rows.iter());
}

fn compare_with<'r>(
    sandbox: &Sandbox,
    peer: impl Peer,
    rows: impl Iterator<Item = &'r Row> + Send,
) {
    let (rows, problems) = (Mutex::new(rows), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(row) = rows.lock().unwrap().next() else {
                        return;
                    };
                    let found = row.differences(sandbox, &peer);
                    problems.lock().unwrap().extend(found);
                }
            });
        }
    });
    // A daemon ends with it.
    drop(peer);
    let problems = problems.into_inner().unwrap();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    sandbox.assert_clean();
    sandbox.assert_nothing_left();
}

impl Row {
    /// Builds it with rctr.
    fn build(&self, sandbox: &Sandbox) -> ImageText {
        let name = self.name;
        write_context(sandbox, name);
        let own_from = self.dockerfile.contains("FROM ");
        let from = if own_from { "" } else { "FROM busybox\n" };
        let text = format!("{from}{}\n", self.dockerfile);
        sandbox.file(&format!("{name}/Dockerfile"), text);
        let options = self.options;
        let words = format!("build -q --network none -t {name} {options} {name}");
        sandbox.rctr(&words).limit(Duration::from_secs(120)).ok();
        sandbox.rctr(&format!("save -o {name}.tar {name}")).ok();
        ImageText::of_archive(&sandbox.work().join(format!("{name}.tar")))
    }

    /// A line per difference.
    fn differences(&self, sandbox: &Sandbox, peer: &dyn Peer) -> Vec<String> {
        let (name, options) = (self.name, self.options);
        let ours = self.build(sandbox);
        let theirs = peer.build(name, options);
        let told = |part: &str| self.reference.iter().find(|(p, _)| *p == part);
        let of_reference = self.reference.iter().filter_map(|(part, wanted)| {
            let have = ours.part(part);
            (have != *wanted).then(|| format!("{name}: {part}: {have}; BuildKit: {wanted}"))
        });
        let differences = ours.differences(&theirs).into_iter();
        let of_peer = differences
            .filter(|(part, ..)| told(part).is_none())
            .map(|(part, here, there)| format!("{name}: {part}: {here}; {}: {there}", peer.name()));
        of_reference.chain(of_peer).collect()
    }
}

/// A tar, plain and compressed, by the end of its name.
static TARS: LazyLock<Vec<(&str, Vec<u8>)>> = LazyLock::new(|| {
    let tar = archive::Archive::new()
        .dir("t")
        .file("t/run", 0o755, b"run\n")
        .symlink("t/link", "run")
        .bytes();
    let mut tars = vec![("", tar.clone()), (".gz", archive::gzip(&tar))];
    for (suffix, program) in [(".bz2", "bzip2"), (".xz", "xz"), (".zst", "zstd")] {
        tars.extend(archive::packed(program, &tar).map(|tar| (suffix, tar)));
    }
    tars
});

/// What all rows copy from.
fn write_context(sandbox: &Sandbox, name: &str) {
    let file = |path: &str, text: &str| sandbox.file(&format!("{name}/{path}"), text);
    file("a.txt", "a\n");
    file("b.txt", "b\n");
    file("c.md", "c\n");
    file("dir/one", "1\n");
    file("dir/two.txt", "2\n");
    file("dir/sub/three.txt", "3\n");
    file("deep/x/y/z.txt", "z\n");
    file("with space.txt", "blank\n");
    file(".hidden", "h\n");
    let script = file("script.sh", "#!/bin/sh\necho script\n");
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
    let private = file("private", "p\n");
    fs::set_permissions(private, fs::Permissions::from_mode(0o600)).unwrap();
    let dir = sandbox.work().join(name);
    symlink("one", dir.join("dir/link")).unwrap();
    symlink("a.txt", dir.join("link.txt")).unwrap();
    file("other.Dockerfile", "FROM busybox\nCOPY . /all/\n");
    file("other.Dockerfile.dockerignore", "*.txt\n*.tar*\n");
    for (suffix, tar) in &*TARS {
        sandbox.file(&format!("{name}/t.tar{suffix}"), tar);
    }
}

const RUN: &[Row] = &[
    row("run-shell", "RUN echo one > /f && echo $((1+1)) >> /f"),
    row(
        "run-exec",
        r#"RUN ["/bin/sh", "-c", "echo $0 $1 > /f", "a b", "c"]"#,
    ),
    row(
        "run-continued",
        "RUN echo a \\\n  # a comment\n  b > /f && \\\n\n  echo c >> /f",
    ),
    row(
        "run-escape",
        "# escape=`\nFROM busybox\nRUN echo a `\n  b > /f",
    ),
    row(
        "run-removes",
        "RUN rm /etc/os-release && rm -r /var/www && mkdir /var/www && touch /var/www/new",
    ),
    row(
        "run-replaces-dir-by-file",
        "RUN mkdir -p /d/e && echo x > /d/e/f\nRUN rm -r /d && echo now > /d",
    ),
    row(
        "run-modes",
        "RUN umask 027 && mkdir /m && echo x > /m/f && chmod 4755 /m/f && chown 33:50 /m && chmod 1777 /m && ln -s /m/f /l && ln /m/f /h && mkfifo /p",
    ),
    row(
        "run-umask",
        "RUN umask > /umask && id -u > /id && pwd > /pwd",
    ),
    row(
        "shell",
        "SHELL [\"/bin/sh\", \"-ec\"]\nRUN echo $- > /flags",
    ),
    row(
        "shell-and-cmd",
        "SHELL [\"/bin/busybox\", \"ash\", \"-c\"]\nCMD echo hi\nENTRYPOINT echo there",
    )
    .reference(&[
        ("config Cmd", r#"["/bin/busybox","ash","-c","echo hi"]"#),
        (
            "config Entrypoint",
            r#"["/bin/busybox","ash","-c","echo there"]"#,
        ),
    ]),
];

#[test]
fn run_and_shell() {
    compare(RUN);
}

#[test]
fn heredocs_by_the_reference() {
    // buildah 1.28 has none.
    let sandbox = Sandbox::with_busybox();
    sandbox.file(
        "ctx/Dockerfile",
        "FROM busybox\nARG WHO=world\nRUN <<EOF\necho one > /run1\necho $WHO >> /run1\nEOF\n\
         RUN <<EOF cat > /run2\nplain $WHO\nEOF\n\
         COPY <<EOF <<\"RAW\" <<-TABS /d/\nhello $WHO\nEOF\nhello $WHO\nRAW\n\t\ttabs\n\tTABS\n\
         COPY --chmod=600 --chown=33:50 <<one /named\n1\none\n",
    );
    sandbox.rctr("build -q --network none -t img ctx").ok();
    sandbox.rctr("save -o img.tar img").ok();
    let text = ImageText::of_archive(&sandbox.work().join("img.tar"));
    for (path, wanted) in [
        ("run1", "file 644 0:0 \"one\\nworld\\n\""),
        ("run2", "file 644 0:0 \"plain world\\n\""),
        ("d/EOF", "file 644 0:0 \"hello world\\n\""),
        ("d/RAW", "file 644 0:0 \"hello $WHO\\n\""),
        ("d/TABS", "file 644 0:0 \"tabs\\n\""),
        ("named", "file 600 33:50 \"1\\n\""),
    ] {
        assert_eq!(text.part(path), wanted, "{path}");
    }
}

const CMD: &[Row] = &[
    row("cmd-shell", "CMD echo $HOME \"a b\""),
    row("cmd-exec", r#"CMD ["echo", "a b", "$HOME"]"#),
    row("cmd-twice", "CMD one\nCMD two"),
    row("cmd-empty", "CMD one\nCMD []"),
    row("cmd-bad-json", "CMD ['one', 'two']"),
    row("entrypoint-shell", "ENTRYPOINT exec top -b"),
    row("entrypoint-exec", r#"ENTRYPOINT ["top", "-b"]"#),
    row("entrypoint-and-cmd", "ENTRYPOINT [\"a\"]\nCMD [\"b\"]"),
    row("cmd-then-entrypoint", "CMD [\"b\"]\nENTRYPOINT [\"a\"]"),
    row(
        "entrypoint-drops-inherited-cmd",
        "FROM busybox AS base\nCMD [\"b\"]\nFROM base\nENTRYPOINT [\"a\"]",
    ),
    row(
        "inherited",
        "FROM busybox AS base\nENTRYPOINT [\"a\"]\nCMD [\"b\"]\nENV A=1\nUSER 33\nWORKDIR /w\nFROM base\nLABEL l=1",
    ),
];

#[test]
fn cmd_and_entrypoint() {
    compare(CMD);
}

const COPY: &[Row] = &[
    row("copy-file", "COPY a.txt /"),
    row("copy-rename", "COPY a.txt /new/name"),
    row("copy-into-new-dir", "COPY a.txt /new/"),
    row("copy-several", "COPY a.txt b.txt dir/one /to/"),
    row("copy-json", r#"COPY ["with space.txt", "/to here/"]"#),
    row("copy-dir", "COPY dir /to"),
    row("copy-dir-slash", "COPY dir/ /to/"),
    row("copy-dirs-merge", "COPY dir deep /to/"),
    row("copy-dot", "COPY . /all/"),
    row("copy-wildcard", "COPY *.txt /to/"),
    row("copy-wildcard-dirs", "COPY d* /to/"),
    row("copy-wildcard-class", "COPY [a-b].t?t /to/"),
    row(
        "copy-relative",
        "WORKDIR /w\nCOPY a.txt sub/\nCOPY b.txt .\nCOPY c.md ./d",
    ),
    row(
        "copy-variable",
        "ENV TO=/there FILE=a.txt\nCOPY $FILE ${TO}/x",
    ),
    row("copy-over", "COPY a.txt /f\nCOPY b.txt /f"),
    row(
        "copy-into-link",
        "RUN mkdir /real && ln -s /real /link\nCOPY a.txt /link/\nCOPY dir /link",
    ),
    row("copy-link-source", "COPY link.txt /followed"),
    row(
        "copy-chown-name",
        "COPY --chown=www-data:staff a.txt dir /to/",
    ),
    row("copy-chown-number", "COPY --chown=12:34 dir /to"),
    row("copy-chown-user-only", "COPY --chown=www-data a.txt /to/a"),
    row(
        "copy-chmod",
        "COPY --chmod=751 a.txt /to/a\nCOPY --chmod=700 dir /d",
    ),
    row("copy-after-user", "USER www-data\nCOPY a.txt /f"),
    row(
        "copy-from-stage",
        "FROM busybox AS one\nRUN mkdir /o && echo x > /o/f && chown -R 33:33 /o && ln -s f /o/l\nFROM busybox\nCOPY --from=one /o /o\nCOPY --from=0 /o/f /renamed",
    ),
    row("copy-from-image", "COPY --from=busybox /etc/passwd /p"),
    row(
        "copy-missing-dirs-mode",
        "RUN mkdir -m 700 /have\nCOPY a.txt /have/new/deeper/f",
    ),
    row("copy-private", "COPY private script.sh /m/"),
    row("scratch", "FROM scratch\nCOPY a.txt /").reference(&[("config WorkingDir", "\"/\"")]),
    row(
        "unused-stage",
        "FROM busybox AS never\nRUN exit 1\nFROM busybox\nCOPY a.txt /",
    ),
    row(
        "target",
        "FROM busybox AS one\nCOPY a.txt /\nFROM one AS two\nCOPY b.txt /",
    )
    .with("--target one"),
];

#[test]
fn copy() {
    compare(COPY);
}

const ADD: &[Row] = &[
    row("add-file", "ADD a.txt dir /to/"),
    row("add-tar", "ADD t.tar /to/"),
    row("add-tar-gz", "ADD t.tar.gz /to"),
    row(
        "add-tar-over",
        "RUN mkdir -p /to/t && echo old > /to/t/run\nADD t.tar /to/",
    ),
    row("copy-leaves-tars", "COPY t.tar.gz /to/"),
    row("add-chown", "ADD --chown=33:50 a.txt /to/"),
    row("add-and-files", "ADD t.tar a.txt /to/"),
];

#[test]
fn add() {
    compare(ADD);
}

#[test]
fn dockerignore() {
    require!(Feature::Tool("buildah"), Feature::SubordinateIds);
    let sandbox = Sandbox::with_busybox();
    let rows = with_patterns(&sandbox);
    compare_with(&sandbox, Buildah::new(&sandbox), rows.iter());
}

/// A row for each `.dockerignore`, which is written.
fn with_patterns(sandbox: &Sandbox) -> Vec<Row> {
    let patterns = [
        ("plain", "a.txt\ndir\n"),
        ("wildcard", "*.txt\n"),
        ("any-depth", "**/*.txt\n"),
        ("exception", "*\n!a.txt\n!dir/one\n"),
        ("order", "!a.txt\n*.txt\n!b.txt\n"),
        ("comment", "# a.txt\n\n  b.txt  \n/c.md\n./dir/one\n"),
        ("inside", "dir/*\n!dir/two.txt\ndeep/**/z.txt\n"),
        ("class", "[ab].txt\nd?r\n"),
        ("itself", ".dockerignore\nDockerfile\n"),
    ];
    let write = |(name, text): &(&'static str, &str)| {
        sandbox.file(&format!("{name}/.dockerignore"), text);
        row(name, "COPY . /all/")
    };
    patterns.iter().map(write).collect()
}

const VARIABLES: &[Row] = &[
    row(
        "env-forms",
        "ENV A=1 B=\"two words\" C=three\\ words D='single $A'\nENV OLD old  style \"value\"",
    ),
    row("env-order", "ENV A=1\nENV A=2 B=$A\nENV C=$A$B"),
    row("env-of-env", "ENV PATH=/extra:$PATH\nRUN echo $PATH > /f"),
    row("env-default", "ENV A=${X:-none} B=${PATH:+yes} C=${X:+no}"),
    row("env-escape", "ENV A=\\$HOME B=\"\\$x\" C='$x'"),
    row("env-empty", "ENV A= B=\"\""),
    row("env-continued", "ENV A=1 \\\n    B=2 \\\n    C=3"),
    row(
        "arg-default",
        "ARG A=1\nARG B=$A-2\nENV C=$B\nRUN echo $A $B > /f",
    ),
    row("arg-given", "ARG A=1\nENV C=$A\nRUN echo $A > /f").with("--build-arg A=given"),
    row("arg-env-wins", "ARG A=1\nENV A=env\nRUN echo $A > /f").with("--build-arg A=given"),
    row(
        "arg-global",
        "ARG TAG=busybox\nARG V=global\nFROM ${TAG}\nARG V\nRUN echo \"$V\" > /f",
    ),
    row(
        "arg-not-in-stage",
        "ARG V=global\nFROM busybox\nRUN echo \"[$V]\" > /f",
    ),
    row(
        "arg-per-stage",
        "FROM busybox AS one\nARG V=1\nRUN echo $V > /f\nFROM one\nRUN echo \"[$V]\" > /g",
    )
    .reference(&[("g", "file 644 0:0 \"[1]\\n\"")]),
    row("arg-proxy", "RUN echo \"$HTTP_PROXY\" > /f")
        .with("--build-arg HTTP_PROXY=http://127.0.0.1:1"),
    row(
        "arg-platform",
        "ARG TARGETOS\nARG TARGETARCH\nRUN echo $TARGETOS/$TARGETARCH > /f",
    ),
    row(
        "variables-everywhere",
        "ENV N=7 D=/d L=lab\nWORKDIR $D/x\nUSER $N\nEXPOSE ${N}0\nVOLUME $D/v\nLABEL $L=$N\nSTOPSIGNAL $N",
    ),
];

#[test]
fn variables() {
    compare(VARIABLES);
}

const CONFIG: &[Row] = &[
    row("expose", "EXPOSE 80 443/tcp 53/udp\nEXPOSE 8000-8002").reference(&[(
        "config ExposedPorts",
        r#"{"443/tcp":{},"53/udp":{},"80/tcp":{},"8000/tcp":{},"8001/tcp":{},"8002/tcp":{}}"#,
    )]),
    row(
        "label",
        "LABEL a=1 \"b c\"=\"d e\" f.g='h i'\nLABEL a=2 multi=\"one \\\ntwo\"",
    ),
    row("label-old", "LABEL key some value"),
    row("label-option", "LABEL a=1").with("--label b=2 --label a=3"),
    row("volume", "VOLUME /v /w\nVOLUME [\"/x y\"]").reference(&[
        ("x y", "-"),
        ("v", "-"),
        ("w", "-"),
    ]),
    row(
        "volume-then-run",
        "RUN mkdir /v && echo old > /v/f\nVOLUME /v",
    ),
    row("user", "USER www-data\nRUN id -u > /tmp/id"),
    row(
        "user-group",
        "USER 33:50\nRUN id -u > /tmp/id && id -g >> /tmp/id && touch /tmp/f",
    ),
    row("stopsignal", "STOPSIGNAL SIGQUIT"),
    row("stopsignal-number", "STOPSIGNAL 9"),
    row(
        "healthcheck",
        "HEALTHCHECK --interval=5m --timeout=3s --start-period=1s --retries=4 CMD wget -q localhost || exit 1",
    ),
    row(
        "healthcheck-exec",
        r#"HEALTHCHECK CMD ["wget", "-q", "localhost"]"#,
    ),
    row("healthcheck-none", "HEALTHCHECK CMD true\nHEALTHCHECK NONE"),
    row("maintainer", "MAINTAINER Some One <some@one.example>"),
    row("onbuild", "ONBUILD RUN echo x > /x\nONBUILD COPY . /app"),
    row(
        "case",
        "from busybox as base\nrUn echo x > /f\nFrom base\ncmd [\"x\"]",
    ),
];

#[test]
fn what_only_the_config_knows() {
    compare(CONFIG);
}

const WORKDIR: &[Row] = &[
    row("workdir", "WORKDIR /a/b\nWORKDIR c\nRUN pwd > f"),
    row("workdir-exists", "RUN mkdir -m 700 /w\nWORKDIR /w"),
    row("workdir-dots", "WORKDIR /a/b/../c/./\nRUN pwd > /f")
        // 20.10 makes /a/b.
        .reference(&[("config WorkingDir", "\"/a/c\""), ("a/b", "-")]),
    row(
        "workdir-link",
        "RUN mkdir /real && ln -s /real /link\nWORKDIR /link/sub\nRUN touch here",
    ),
];

#[test]
fn workdir() {
    compare(WORKDIR);
}

#[test]
fn onbuild_triggers_run_in_the_child() {
    let sandbox = Sandbox::with_busybox();
    sandbox.file("base/Dockerfile", "FROM busybox\nONBUILD COPY a.txt /app/\nONBUILD RUN cat /app/a.txt > /ran\nONBUILD ENV T=1\n");
    sandbox.rctr("build -q --network none -t base base").ok();
    sandbox.file("child/Dockerfile", "FROM base\nRUN cp /ran /copied\n");
    sandbox.file("child/a.txt", "of the child\n");
    sandbox.rctr("build -q --network none -t child child").ok();
    sandbox.rctr("save -o child.tar child").ok();
    let text = ImageText::of_archive(&sandbox.work().join("child.tar"));
    assert_eq!(text.part("copied"), "file 644 0:0 \"of the child\\n\"");
    assert_eq!(text.part("config OnBuild"), "-");
    assert!(text.part("config Env").contains("T=1"));
}

/// What buildah doesn't know or do.
const MORE: &[Row] = &[
    row("add-tar-bz2", "ADD t.tar.bz2 /to"),
    row("add-tar-xz", "ADD t.tar.xz /to"),
    // The file has its own Dockerfile.
    row("ignore-of-the-dockerfile", "").with("-f ignore-of-the-dockerfile/other.Dockerfile"),
    row(
        "chmod-many",
        "COPY --chmod=0751 dir a.txt /to/\nADD --chmod=600 b.txt /to/b",
    ),
    // Since BuildKit 0.23 (moby/buildkit#5987).
    row("chown-of-added-tar", "ADD --chown=33:50 t.tar /to/").reference(&[
        ("to/t", "dir 755 33:50"),
        ("to/t/link", "link 33:50 → run"),
        ("to/t/run", "file 755 33:50 \"run\\n\""),
    ]),
];

#[test]
fn every_table_beside_buildkit() {
    require!(
        Feature::BuildKit,
        Feature::SubordinateIds,
        Feature::Tool("xz"),
        Feature::Tool("bzip2")
    );
    let sandbox = Sandbox::with_busybox();
    let tables = [RUN, CMD, COPY, ADD, VARIABLES, CONFIG, WORKDIR, MORE];
    let patterns = with_patterns(&sandbox);
    let rows = tables.into_iter().flatten().chain(&patterns);
    compare_with(&sandbox, BuildKit::start(&sandbox), rows);
}

/// What docker 20.10 doesn't know, by the examples of BuildKit's reference.
#[test]
fn newer_than_the_peers() {
    let nothing = "-";
    let file = |mode: &str, text: &str| format!("file {mode} 0:0 {text:?}");
    let (a, z, one) = (file("644", "a\n"), file("644", "z\n"), file("644", "1\n"));
    /// Name, Dockerfile, parts as they must be.
    type Case<'a> = (&'static str, &'static str, &'a [(&'static str, &'a str)]);
    let tables: &[Case<'_>] = &[
        (
            "parents",
            "COPY --parents ./a.txt ./deep/x/y/z.txt /p/\nCOPY --parents deep/./x/*/z.txt /q/",
            &[
                ("p/a.txt", &a),
                ("p/deep/x/y/z.txt", &z),
                ("q/x/y/z.txt", &z),
                ("q/deep", nothing),
            ],
        ),
        (
            "exclude",
            "COPY --exclude=*.txt --exclude=*.md dir a.txt c.md script.sh /e/",
            &[
                ("e/one", &one),
                ("e/a.txt", nothing),
                ("e/c.md", nothing),
                ("e/script.sh", &file("755", "#!/bin/sh\necho script\n")),
            ],
        ),
        (
            "exclude-all-but",
            "COPY --exclude=**/*.txt . /e/",
            &[
                ("e/a.txt", nothing),
                ("e/dir/sub/three.txt", nothing),
                ("e/dir/one", &one),
            ],
        ),
        (
            "link",
            "RUN mkdir /real && ln -s real /link\nCOPY --link a.txt /link/\nCOPY --link --chown=33:50 dir /d",
            // The destination is made of directories, whatever was there.
            &[
                ("link", "dir 755 0:0"),
                ("link/a.txt", &a),
                ("real/a.txt", nothing),
                ("d/one", "file 644 33:50 \"1\\n\""),
            ],
        ),
        (
            "symbolic-chmod",
            "COPY --chmod=u=rwX,go=rX private script.sh dir /m/\nCOPY --chmod=a+w,o-r a.txt /n",
            &[
                ("m/private", &file("644", "p\n")),
                ("m/script.sh", &file("755", "#!/bin/sh\necho script\n")),
                ("m/sub", "dir 755 0:0"),
                ("n", &file("662", "a\n")),
            ],
        ),
        (
            "add-tar-zst",
            "ADD t.tar.zst /to",
            &[
                ("to/t/run", &file("755", "run\n")),
                ("to/t/link", "link 0:0 → run"),
            ],
        ),
    ];
    let sandbox = Sandbox::with_busybox();
    let mut problems = Vec::new();
    for (name, dockerfile, wanted) in tables {
        let text = row(name, dockerfile).build(&sandbox);
        for (part, wanted) in *wanted {
            let have = text.part(part);
            if have != *wanted {
                problems.push(format!("{name}: {part}: {have}; the reference: {wanted}"));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}
