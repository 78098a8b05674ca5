//! Lines: directives, comments, continuation, heredocs.

use super::*;

/// Lines and text of the instructions behind the first FROM.
fn texts(text: &str) -> Vec<(usize, usize, String)> {
    let file = parsed(text);
    file.stages[0]
        .instructions
        .iter()
        .map(|one| (one.span.first, one.span.last, one.text.clone()))
        .collect()
}

#[test]
fn continuation_and_comments() {
    for (text, want) in [
        ("FROM a\nRUN b \\\n  c", (2, 3, "RUN b   c")),
        ("FROM a\nRUN b \\ \t\n  c", (2, 3, "RUN b   c")),
        ("FROM a\r\nRUN b \\\r\n  c\r\n", (2, 3, "RUN b   c")),
        ("FROM a\nRUN b \\\n# no\n   # no\n  c", (2, 5, "RUN b   c")),
        ("FROM a\nRUN b \\\n\n  c", (2, 4, "RUN b   c")),
        ("FROM a\nRUN b\\\\\n", (2, 2, "RUN b\\\\")),
        ("FROM a\nRUN b \\\n", (2, 2, "RUN b")),
        ("FROM a\nRUN b \\\n# end", (2, 3, "RUN b")),
        ("FROM a\nRUN \\\nb", (2, 3, "RUN b")),
        ("FROM a\n\\\nRUN b", (2, 3, "RUN b")),
        ("FROM a\n   RUN b # c", (2, 2, "RUN b # c")),
        ("\u{feff}FROM a\n\n\nR\\\nUN b", (4, 5, "RUN b")),
        ("# escape=`\nFROM a\nRUN b `\n c\\\n", (3, 4, "RUN b  c\\")),
    ] {
        let (first, last, line) = want;
        assert_eq!(texts(text), [(first, last, line.to_owned())], "{text:?}");
    }
}

#[test]
fn directives_are_at_the_top_only() {
    for (text, escape, syntax) in [
        ("FROM a", '\\', None),
        ("# escape=`\nFROM a", '`', None),
        ("#ESCAPE = ` \n#  syntax = b:1\nFROM a", '`', Some("b:1")),
        ("\u{feff}  # escape=`\nFROM a", '`', None),
        ("# about\n# escape=`\nFROM a", '\\', None),
        ("# unknown=1\n# escape=`\nFROM a", '\\', None),
        ("\n# escape=`\nFROM a", '\\', None),
        ("FROM a\n# escape=`\n", '\\', None),
        ("# escape=\nFROM a", '\\', None),
    ] {
        let directives = parsed(text).directives;
        assert_eq!(directives.escape, escape, "{text:?}");
        assert_eq!(directives.syntax.as_deref(), syntax, "{text:?}");
    }
    let check = parsed("# check=skip=A, B;error=true\nFROM a")
        .directives
        .check;
    assert_eq!(check.skip, ["A", "B"]);
    assert!(check.error && !check.skip_all);
    assert!(parsed("# check=skip=all\nFROM a").directives.check.skip_all);
}

fn heredoc(name: &str, content: &str) -> Heredoc {
    Heredoc {
        name: name.to_owned(),
        content: content.to_owned(),
        expand: true,
        fd: 0,
    }
}

#[test]
fn heredocs_of_run() {
    for (text, line, want) in [
        (
            "RUN <<EOF\na\n  b\nEOF\n",
            "<<EOF",
            vec![heredoc("EOF", "a\n  b\n")],
        ),
        ("RUN <<EOF\nEOF\n", "<<EOF", vec![heredoc("EOF", "")]),
        (
            "RUN <<-EOF\n\t\ta\n \tb\n\tEOF\n",
            "<<-EOF",
            vec![heredoc("EOF", "a\n \tb\n")],
        ),
        (
            "RUN <<\"EOF\"\n$a\nEOF",
            "<<\"EOF\"",
            vec![Heredoc {
                expand: false,
                ..heredoc("EOF", "$a\n")
            }],
        ),
        (
            "RUN cat <<'A B' >x\n1\nA B\n",
            "cat <<'A B' >x",
            vec![Heredoc {
                expand: false,
                ..heredoc("A B", "1\n")
            }],
        ),
        (
            "RUN a 3<<A <<B\n1\nA\n2\nB\n",
            "a 3<<A <<B",
            vec![
                Heredoc {
                    fd: 3,
                    ..heredoc("A", "1\n")
                },
                heredoc("B", "2\n"),
            ],
        ),
        (
            "RUN <<E\n# no comment\n\nFROM \\\nE\n",
            "<<E",
            vec![heredoc("E", "# no comment\n\nFROM \\\n")],
        ),
        ("RUN <<E\r\na\r\nE\r\n", "<<E", vec![heredoc("E", "a\r\n")]),
        (
            "RUN a \\\n <<E\nb\nE\n",
            "a  <<E",
            vec![heredoc("E", "b\n")],
        ),
        ("RUN cat <<< a", "cat <<< a", vec![]),
        ("RUN cat << a", "cat << a", vec![]),
        ("RUN echo $((1<<2))", "echo $((1<<2))", vec![]),
        (
            "RUN echo '<<E' \"<<F\" \\<<G",
            "echo '<<E' \"<<F\" \\<<G",
            vec![],
        ),
    ] {
        let Instruction::Run(run) = instruction(text) else {
            panic!("{text}")
        };
        assert_eq!(run.command, shell(line), "{text}");
        assert_eq!(run.heredocs, want, "{text}");
    }
    assert_eq!(
        instruction("CMD cat <<E"),
        Instruction::Cmd(shell("cat <<E"))
    );
    assert_eq!(
        instruction("RUN [\"a\", \"<<E\"]"),
        Instruction::Run(RunInstruction {
            command: exec(&["a", "<<E"]),
            heredocs: Vec::new(),
            mounts: Vec::new(),
            network: NetworkFlag::Default,
            security: SecurityFlag::Sandbox,
        })
    );
}

#[test]
fn heredocs_of_copy_are_sources() {
    let Instruction::Copy(copy) =
        instruction("COPY --chmod=600 <<A b <<\"C\" <<A /d/\n1\nA\n$x\nC\n2\nA\n")
    else {
        panic!("not COPY")
    };
    assert_eq!(
        copy.sources,
        [
            CopySource::Heredoc(heredoc("A", "1\n")),
            CopySource::Path("b".to_owned()),
            CopySource::Heredoc(Heredoc {
                expand: false,
                ..heredoc("C", "$x\n")
            }),
            CopySource::Heredoc(heredoc("A", "2\n")),
        ]
    );
    assert_eq!(copy.destination, "/d/");
}

#[test]
fn spans_have_the_heredocs_in_them() {
    assert_eq!(
        texts("FROM a\nRUN <<E\na\n\nE\n\nCMD b\n"),
        [(2, 5, "RUN <<E".to_owned()), (7, 7, "CMD b".to_owned())]
    );
}
