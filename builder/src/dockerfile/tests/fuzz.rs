//! Mutations of the corpus: whatever a file says, parsing ends soon, without a panic, and what it tells is consistent.

use std::time::{Duration, Instant};

use super::*;

/// xorshift64*: the same numbers each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % limit.max(1)
    }

    fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len())]
    }
}

/// What the language is made of.
const PIECES: [&str; 40] = [
    "\\",
    "\\\n",
    "`\n",
    "\n",
    "\r\n",
    "\n\n",
    " ",
    "\t",
    "#",
    "# ",
    "# escape=`\n",
    "<<EOF",
    "<<-E",
    "\nEOF\n",
    "<<",
    "'",
    "\"",
    "$",
    "${",
    "}",
    "${A:-",
    "=",
    "--",
    "--from=",
    "--mount=type=cache,target=/x ",
    "[\"",
    "\"]",
    "[",
    ",",
    "FROM ",
    "\nRUN ",
    "\nCOPY ",
    "ONBUILD ",
    "AS ",
    "ENV ",
    "HEALTHCHECK ",
    "\u{feff}",
    "ä",
    "\0",
    "\u{2003}",
];

fn mutate(text: &[u8], random: &mut Random) -> Vec<u8> {
    let mut text = text.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(text.len() + 1);
        let end = (at + random.below(24)).min(text.len());
        match random.below(6) {
            0 => drop(text.drain(at..end)),
            1 => {
                let piece = text[at..end].to_vec();
                let to = random.below(text.len() + 1);
                text.splice(to..to, piece);
            }
            2 if at < text.len() => text[at] = random.next().to_le_bytes()[3],
            3 => text.truncate(at),
            _ => {
                let piece = random.pick(&PIECES).as_bytes();
                text.splice(at..at, piece.iter().copied());
            }
        }
    }
    text
}

/// Spans lie in the file, rise and don't overlap; errors and warnings have places in the file.
fn assert_consistent(file: &Dockerfile) {
    let lines = file.file.lines.len();
    let mut last = 0;
    let globals = file.global_args.iter().map(|arg| arg.span);
    let stages = file.stages.iter().flat_map(|stage| {
        let own = stage.instructions.iter().map(|one| one.span);
        std::iter::once(stage.from.span).chain(own)
    });
    for span in globals.chain(stages) {
        assert!(last < span.first && span.first <= span.last && span.last <= lines);
        last = span.last;
    }
    for warning in &file.warnings {
        let span = warning.place.span;
        assert!(1 <= span.first && span.first <= span.last && span.last <= lines);
    }
}

fn heredocs(instruction: &Instruction) -> Vec<&Heredoc> {
    match instruction {
        Instruction::Run(run) => run.heredocs.iter().collect(),
        Instruction::Copy(copy) | Instruction::Add(copy) => copy
            .sources
            .iter()
            .filter_map(|source| match source {
                CopySource::Heredoc(heredoc) => Some(heredoc),
                CopySource::Path(_) => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The file written again, an instruction a line. `None`: one of them can't stand alone, since its text ends in an
/// escape character that comes from a continuation line.
fn joined(file: &Dockerfile) -> Option<String> {
    let escape = file.directives.escape;
    let mut out = format!("# escape={escape}\n");
    let mut add = |text: &str| {
        out.push_str(text);
        out.push('\n');
        !text.ends_with(escape)
    };
    for arg in &file.global_args {
        add(&arg.text).then_some(())?;
    }
    for stage in &file.stages {
        add(&stage.from.text).then_some(())?;
        for one in &stage.instructions {
            match &one.node {
                Instruction::Onbuild(trigger) => {
                    add(&format!("ONBUILD {trigger}")).then_some(())?;
                }
                _ => {
                    add(&one.text).then_some(())?;
                }
            }
            for heredoc in heredocs(&one.node) {
                add(&format!("{}{}", heredoc.content, heredoc.name));
            }
        }
    }
    Some(out)
}

/// What was meant, without lines and texts.
fn meaning(file: &Dockerfile) -> Vec<String> {
    let globals = file.global_args.iter().map(|arg| format!("{:?}", arg.node));
    let stages = file.stages.iter().flat_map(|stage| {
        let own = stage.instructions.iter();
        std::iter::once(format!("{:?}", stage.from.node))
            .chain(own.map(|one| format!("{:?}", one.node)))
    });
    globals.chain(stages).collect()
}

#[test]
fn joined_instructions_mean_the_same() {
    let mut random = Random(20_260_101);
    let mut compared = 0;
    for round in 0..12_000 {
        let (_, text, _) = CORPUS[round % CORPUS.len()];
        let text = mutate(text.as_bytes(), &mut random);
        let Ok(file) = parse("Dockerfile", &text) else {
            continue;
        };
        let Some(again) = joined(&file) else {
            continue;
        };
        let shown = String::from_utf8_lossy(&text);
        let file_again = parse("Dockerfile", again.as_bytes())
            .unwrap_or_else(|error| panic!("{error:?}\n{shown}\n---\n{again}"));
        assert_eq!(
            meaning(&file),
            meaning(&file_again),
            "{shown}\n---\n{again}"
        );
        compared += 1;
    }
    assert!(
        compared > 3_000,
        "only {compared} mutations were good files"
    );
}

#[test]
fn mutations_neither_panic_nor_take_long() {
    let mut random = Random(42);
    for round in 0..12_000 {
        let (name, text, _) = CORPUS[round % CORPUS.len()];
        let mut text = text.as_bytes().to_vec();
        for _ in 0..=random.below(3) {
            text = mutate(&text, &mut random);
        }
        let began = Instant::now();
        match parse("Dockerfile", &text) {
            Ok(file) => assert_consistent(&file),
            Err(error) => {
                if let Some(place) = error.place {
                    let lines = place.file.lines.len();
                    assert!(1 <= place.span.first && place.span.last <= lines);
                    assert!(place.span.first <= place.span.last);
                    assert!(!place.excerpt().is_empty());
                }
            }
        }
        let took = began.elapsed();
        assert!(took < Duration::from_secs(1), "{name}: {took:?}");
    }
}

#[test]
fn random_bytes_are_no_dockerfile() {
    let mut random = Random(7);
    for _ in 0..500 {
        let bytes: Vec<u8> = (0..random.below(2_000))
            .flat_map(|_| random.next().to_le_bytes())
            .collect();
        assert!(parse("Dockerfile", &bytes).is_err());
    }
}

/// A file of so many parts.
type Shape = fn(usize) -> String;

/// Time grows with the size, not with its square: each shape is parsed at two sizes, one sixteen times the other.
#[test]
fn time_is_linear_in_the_size() {
    let shapes: [(&str, Shape); 12] = [
        ("instructions", |n| "RUN echo hello\n".repeat(n)),
        ("continuation lines", |n| {
            format!("RUN a{}\n", " \\\n b".repeat(n))
        }),
        ("comments in an instruction", |n| {
            format!("RUN a \\\n{}b\n", "# c\n".repeat(n))
        }),
        ("empty lines in an instruction", |n| {
            format!("RUN a \\\n{}b\n", "\n".repeat(n))
        }),
        ("a heredoc", |n| {
            format!("RUN <<E\n{}E\n", "line\n".repeat(n))
        }),
        ("heredocs", |n| {
            format!("COPY {}/d/\n{}", "<<E \\\n".repeat(n), "E\n".repeat(n))
        }),
        ("pairs", |n| format!("ENV {}\n", "A=b \\\n".repeat(n))),
        ("flags", |n| {
            format!("COPY {}a b\n", "--exclude=x \\\n".repeat(n))
        }),
        ("stages", |n| {
            (0..n)
                .map(|i| format!("FROM s{i} AS s{}\nCMD a\n", i + 1))
                .collect()
        }),
        ("quotes", |n| format!("ENV A={}\n", "\"'\\\\\\\n".repeat(n))),
        ("an unterminated heredoc", |n| {
            format!("RUN <<E\n{}", "line\n".repeat(n))
        }),
        ("JSON", |n| {
            format!("CMD [{}\"a\"]\n", "\"a\", \\\n".repeat(n))
        }),
    ];
    for (name, shape) in shapes {
        let time = |n| {
            let text = format!("FROM a\n{}", shape(n));
            let runs = (0..3).map(|_| {
                let began = Instant::now();
                drop(std::hint::black_box(parse("Dockerfile", text.as_bytes())));
                began.elapsed()
            });
            runs.min().unwrap_or_default()
        };
        let (small, large) = (time(2_000), time(32_000));
        // Quadratic would be 256 times; the constant forgives a busy machine.
        let most = small * 64 + Duration::from_millis(50);
        assert!(large < most, "{name}: {small:?}, then {large:?}");
    }
}
