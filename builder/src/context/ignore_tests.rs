//! The matcher against tables of documented behaviour, and against a slow one that is plainly right.

use std::path::Path;

use super::super::glob::{self, Atom, Char, SLASH, chars};
use super::*;

fn ignore(text: &str) -> Ignore {
    Ignore::parse(text.as_bytes()).unwrap()
}

fn excludes(text: &str, path: &str) -> bool {
    ignore(text).excludes(Path::new(path), false)
}

#[test]
fn patterns_match_as_documented() {
    for (pattern, path, want) in [
        ("**", "file", true),
        ("**", "dir/file", true),
        ("**/", "file", true),
        ("**/**", "dir/file", true),
        ("dir/**", "dir/file", true),
        ("dir/**", "dir/dir2/file", true),
        ("dir/**", "dir", false),
        ("**/dir", "dir", true),
        ("**/dir2/*", "dir/dir2/file", true),
        ("**/dir2/**", "dir/dir2/dir2/file", true),
        ("**file", "file", true),
        ("**file", "dir/file", true),
        ("**file", "dir/other-file", true),
        ("**/file", "other-file", false),
        ("**/file", "dir/other-file", false),
        ("**/file", "a/b/file", true),
        ("**/*.txt", "file.txt", true),
        ("**/*.txt", "a/b/file.txt", true),
        ("**/**/*.txt", "a/file.txt", true),
        ("a**/*.txt", "a/file.txt", true),
        ("a**/*.txt", "ab/file.txt", true),
        ("a**/*.txt", "a/dir/file.txt", true),
        ("a/*.txt", "a/dir/file.txt", false),
        ("a/*.txt", "a/file.txt", true),
        ("a/*.txt**", "a/file.txt", true),
        ("a[b-d]e", "ae", false),
        ("a[b-d]e", "ace", true),
        ("a[^b-d]e", "aze", true),
        ("a[^b-d]e", "abe", false),
        (".*", ".foo", true),
        (".*", "foo", false),
        ("abc.def", "abcdef", false),
        ("abc.def", "abc.def", true),
        ("abc.def", "abcZdef", false),
        ("abc?def", "abcZdef", true),
        ("abc?def", "abcdef", false),
        ("a\\*b", "a*b", true),
        ("a\\*b", "aXb", false),
        ("**/foo/bar", "foo/bar", true),
        ("**/foo/bar", "dir/dir2/foo/bar", true),
        ("abc/**", "abc", false),
        ("abc/**", "abc/def/ghi", true),
        ("**/.foo", ".foo", true),
        ("**/.foo", "bar.foo", false),
        ("a(b)c/def", "a(b)c/def", true),
        ("a(b)c/def", "a(b)c/xyz", false),
        ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
        (
            "dist/*.whl",
            "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl",
            true,
        ),
        ("*/*", "a", false),
        ("*/temp*", "somedir/temporary.txt", true),
        ("*/*/temp*", "somedir/subdir/temporary.txt", true),
        ("temp?", "tempa", true),
        ("**/*.go", "file.go", true),
        ("build", "build/a/b", true),
        ("build/", "build/a", true),
        ("/build", "build/a", true),
        ("./build", "build", true),
        ("build//x/../y", "build/y/z", true),
        ("../build", "build", false),
        ("/", "build", false),
        (".", "build", false),
        ("  build \t", "build", true),
        ("foo bar", "foo bar", true),
        ("#build", "#build", false),
        (" #build", "#build", true),
        ("\\#build", "#build", true),
        ("a?c", "a/c", false),
        ("a[^x]c", "a/c", true),
        ("[*]", "*", true),
        ("[*]", "a", false),
        ("é?", "éß", true),
    ] {
        assert_eq!(excludes(pattern, path), want, "{pattern:?} on {path:?}");
    }
}

#[test]
fn the_last_match_decides() {
    for (text, path, want) in [
        ("*.md\n!README.md", "README.md", false),
        ("*.md\n!README.md", "OTHER.md", true),
        (
            "*.md\n!README*.md\nREADME-secret.md",
            "README-secret.md",
            true,
        ),
        (
            "*.md\nREADME-secret.md\n!README*.md",
            "README-secret.md",
            false,
        ),
        ("*\n!src", "src/a/b.c", false),
        ("*\n!src\nsrc/a", "src/a/b.c", true),
        ("*\n!src/a", "src/b", true),
        ("*\n!src/a", "src/a", false),
        ("docs\n!docs/README.md", "docs/README.md", false),
        ("docs\n!docs/README.md", "docs/other.md", true),
        ("**\n!dir/file", "dir/file", false),
        ("! a", "a", false),
        ("a\n!  a", "a", false),
        // What docker's walk doesn't inherit.
        ("x\n!x/y\nx*", "x/y", false),
        ("x\n!x/y\nx*", "x/z", true),
    ] {
        assert_eq!(excludes(text, path), want, "{text:?} on {path:?}");
    }
}

#[test]
fn file_begins_and_ends_as_editors_leave_it() {
    assert!(excludes("\u{feff}a\r\nb\r\n", "a"));
    assert!(excludes("\u{feff}a\r\nb\r\n", "b"));
    assert!(excludes("x\n\n\nlast", "last"));
    assert!(Ignore::parse(b"").unwrap().is_empty());
    assert!(Ignore::parse(b"# a\n\n  \n").unwrap().is_empty());
}

#[test]
fn bad_lines_are_named() {
    let long = format!("ok\n{}", "x".repeat(70_000));
    for (text, line) in [
        ("ok\n\na[", 3),
        ("!", 1),
        ("a\n! ", 2),
        ("!/", 1),
        ("x\n[z-a]", 2),
        ("a\\", 1),
        (&*long, 2),
    ] {
        let error = Ignore::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.line, line, "{error}");
    }
}

#[test]
fn single_patterns_know_no_comments() {
    let ignore = Ignore::from_patterns(&["#a", "!#a/b", " c "]).unwrap();
    assert!(ignore.excludes(Path::new("#a/x"), false));
    assert!(!ignore.excludes(Path::new("#a/b"), false));
    assert!(ignore.excludes(Path::new("c"), false));
    for bad in ["[", "!"] {
        assert!(Ignore::from_patterns(&[bad]).is_err(), "{bad}");
    }
}

#[test]
fn bytes_that_are_not_utf8_match() {
    let path = Path::new(OsStr::from_bytes(b"d\xff/\xfe"));
    for pattern in [&b"d\xff"[..], b"d?/?", b"**/\xfe", b"d*/*", b"d[^a]/?"] {
        assert!(
            Ignore::parse(pattern).unwrap().excludes(path, false),
            "{pattern:?}"
        );
    }
    assert!(!Ignore::parse(b"d\xfe").unwrap().excludes(path, false));
}

#[test]
fn reinclusion_is_looked_for_only_where_it_can_be() {
    for (text, dir, want) in [
        ("a\n!b", "a", false),
        ("a\n!a/b", "a", true),
        ("a\n!a/b", "a/b", false),
        ("a\n!a/b/c", "a/b", true),
        ("a\n!*.md", "a", false),
        ("a\n!*/*.md", "a", true),
        ("a\n!*/*.md", "a/b", false),
        ("a\n!**/*.md", "a/b", true),
        ("a\n!a/**", "a/b", true),
        ("a\n!a/[xy]/z", "a/x", true),
        ("a\n!a/[xy]/z", "a/b", false),
        ("a\n!a/**/z", "a/b", true),
        ("a\n!a/**/z", "c", false),
        ("a", "a", false),
        ("*\n!b", "", true),
    ] {
        let got = ignore(text).may_reinclude_below(Path::new(dir));
        assert_eq!(got, want, "{text:?} below {dir:?}");
    }
}

/// 64-bit numbers that are always the same (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn pattern(&mut self) -> String {
        const WORDS: [&str; 16] = [
            "a", "b", "ab", "/", "/", "*", "**", "**/", "?", "[ab]", "[^a]", "/**", "/*", "\\a",
            ".", "[a-c]",
        ];
        let sign = if self.below(4) == 0 { "!" } else { "" };
        let words: String = (0..=self.below(5)).map(|_| self.one(&WORDS)).collect();
        format!("{sign}a{words}")[usize::from(self.below(2) == 0 && sign.is_empty())..].to_owned()
    }

    fn path(&mut self) -> String {
        let name = |numbers: &mut Self| -> String {
            (0..=numbers.below(3))
                .map(|_| numbers.one(&["a", "b", "c", "a", "."]))
                .collect()
        };
        let names: Vec<String> = (0..=self.below(4))
            .map(|_| name(self))
            .map(|name| format!("{name}a"))
            .collect();
        names.join("/")
    }
}

/// One pattern, by trying everything.
fn slow_match(atoms: &[Atom], path: &[Char]) -> bool {
    match atoms {
        [] => path.is_empty(),
        [Atom::Star, Atom::Star] | [Atom::Star, Atom::Star, Atom::Char(SLASH)] => true,
        [Atom::Star, Atom::Star, rest @ ..] => {
            let rest = rest.strip_prefix(&[Atom::Char(SLASH)]).unwrap_or(rest);
            let ends = (1..=path.len()).filter(|&end| path[end - 1] == SLASH);
            slow_match(rest, path) || ends.into_iter().any(|end| slow_match(rest, &path[end..]))
        }
        [Atom::Star, rest @ ..] => {
            let most = path.iter().take_while(|&&c| c != SLASH).count();
            (0..=most).any(|len| slow_match(rest, &path[len..]))
        }
        [atom, rest @ ..] => match path {
            [c, behind @ ..] => atom.fits(*c) && slow_match(rest, behind),
            [] => false,
        },
    }
}

/// `**x` without anything special in x: all that ends in x.
fn slow_matches(pattern: &str, path: &str) -> bool {
    if let Some(end) = pattern.strip_prefix("**")
        && !end.starts_with('/')
        && !end.contains(['*', '?', '[', '\\'])
    {
        return path.ends_with(end);
    }
    let atoms = glob::parse(pattern.as_bytes()).unwrap();
    let path: Vec<Char> = chars(path.as_bytes()).collect();
    slow_match(&atoms, &path)
}

/// All rules, walking down from the root.
fn slow_excludes(lines: &[String], path: &str) -> bool {
    let rules: Vec<(bool, String)> = lines
        .iter()
        .map(|line| {
            let bare = line.trim_start_matches('!');
            let bare = String::from_utf8(clean(bare.as_bytes()).into_owned()).unwrap();
            (
                line.starts_with('!'),
                bare.trim_start_matches('/').to_owned(),
            )
        })
        .filter(|(_, bare)| !bare.is_empty())
        .collect();
    let mut inherited = vec![false; rules.len()];
    let mut excluded = false;
    let ends = path
        .match_indices('/')
        .map(|(at, _)| at)
        .chain([path.len()]);
    for end in ends {
        excluded = false;
        for (index, (reinclude, pattern)) in rules.iter().enumerate() {
            let looks = *reinclude == excluded;
            inherited[index] |= looks && slow_matches(pattern, &path[..end]);
            if inherited[index] {
                excluded = !reinclude;
            }
        }
    }
    excluded
}

#[test]
fn agrees_with_the_slow_matcher() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut excluded = 0;
    for round in 0..20_000 {
        let lines: Vec<String> = (0..=numbers.below(5)).map(|_| numbers.pattern()).collect();
        let text = lines.join("\n");
        let Ok(ignore) = Ignore::parse(text.as_bytes()) else {
            continue;
        };
        for _ in 0..6 {
            let path = numbers.path();
            let want = slow_excludes(&lines, &path);
            let got = ignore.excludes(Path::new(&path), false);
            assert_eq!(got, want, "round {round}: {lines:?} on {path:?}");
            excluded += usize::from(want);
            // Whoever skips an excluded directory misses nothing.
            for (at, _) in path.match_indices('/') {
                let dir = Path::new(&path[..at]);
                if ignore.excludes(dir, true) && !ignore.may_reinclude_below(dir) {
                    assert!(want, "{lines:?}: {path:?} is below {dir:?}");
                }
            }
        }
    }
    assert!(
        (10_000..110_000).contains(&excluded),
        "{excluded} of 120,000"
    );
}

#[test]
fn any_bytes_are_read_without_harm() {
    let mut numbers = Numbers(7);
    const BYTES: &[u8] = b"ab/*?[]^-\\!#. \n\r\t\xff\xc3\xa9\0";
    for _ in 0..30_000 {
        let text: Vec<u8> = (0..numbers.below(24))
            .map(|_| BYTES[numbers.below(BYTES.len())])
            .collect();
        let path: Vec<u8> = (0..numbers.below(12))
            .map(|_| BYTES[numbers.below(BYTES.len())])
            .collect();
        if let Ok(ignore) = Ignore::parse(&text) {
            let path = Path::new(OsStr::from_bytes(&path));
            let _ = ignore.excludes(path, false);
            let _ = ignore.may_reinclude_below(path);
        }
    }
}

#[test]
fn many_stars_take_no_time() {
    let text = "*a".repeat(500) + "b";
    let path = "a".repeat(4000);
    let begin = std::time::Instant::now();
    assert!(!excludes(&text, &(path.clone() + "c/b")));
    assert!(excludes(&text, &(path + "b")));
    assert!(begin.elapsed().as_secs() < 5, "{:?}", begin.elapsed());
}

/// `cargo test --release -p rctr-builder speed -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stderr, reason = "a measurement")]
fn speed_of_20_000_files_with_50_patterns() {
    let text: String = (0..10)
        .map(|n| {
            format!("dir{n}/build\n**/*.o{n}\n*.log{n}\n**/cache{n}\nnode_modules{n}/**/x*.[ch]\n")
        })
        .collect();
    let ignore = ignore(&(text + "!dir3/build/keep*"));
    let paths: Vec<String> = (0..20_000)
        .map(|n| format!("dir{}/sub{}/deeper/file{n}.c", n / 2000, n / 100))
        .collect();
    let runs = (0..20).map(|_| {
        let begin = std::time::Instant::now();
        let count = paths
            .iter()
            .filter(|path| ignore.excludes(Path::new(path), false))
            .count();
        assert_eq!(count, 0);
        begin.elapsed()
    });
    eprintln!("fastest of 20: {:?}", runs.min().unwrap());
}
