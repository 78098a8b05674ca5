//! One pattern of an ignore file, made ready for many paths.
//!
//! Most patterns are a name, a suffix or a prefix, which one comparison tells. The rest is run as a set of states over the
//! path, so that no pattern takes more time than its length times that of the path; what a path must begin and end
//! with is looked at first, and how many slashes it has.

use super::glob::{self, Atom, BadPattern, Char, Class, SLASH, chars};

/// A pattern.
#[derive(Debug, Clone)]
pub(super) struct Compiled {
    /// The first and the last byte of what it matches, where there is but one: most paths fail by these.
    edges: (Option<u8>, Option<u8>),
    kind: Kind,
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Kind {
    /// Exactly this.
    Exact(Vec<u8>),
    /// `…**`: all that begins so.
    Prefix(Vec<u8>),
    /// `**…`: all that ends so. `**/…`: and the path without the slash.
    Suffix(Vec<u8>),
    /// Anything else.
    General {
        /// What it begins with.
        head: Vec<u8>,
        /// What it ends with.
        tail: Vec<u8>,
        /// Slashes in what it matches; `None`: any number.
        slashes: Option<usize>,
    },
}

/// What a state waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// This character.
    Char(Char),
    /// `?`.
    Any,
    /// `[…]`.
    Class(Class),
    /// `*`: any number of characters but /.
    Star,
    /// The next part, [`Part::Directories`], may be left out.
    Optional,
    /// `**`: anything up to a slash.
    Directories,
    /// `**` at the end: anything.
    Rest,
}

impl Compiled {
    pub(super) fn new(pattern: &[u8]) -> Result<Self, BadPattern> {
        let atoms = glob::parse(pattern)?;
        if let Some(Atom::Class(_)) = atoms.iter().find(|atom| is_backwards(atom)) {
            return Err(BadPattern {
                pattern: String::from_utf8_lossy(pattern).into_owned(),
                problem: "a range ends before it begins",
            });
        }
        let parts = to_parts(atoms);
        let kind = Kind::of(&parts, pattern);
        let edges = kind.edges();
        Ok(Self { edges, kind, parts })
    }

    /// Whether all of `path`, which has so many `slashes`, is matched.
    #[inline]
    pub(super) fn matches(&self, path: &[u8], slashes: usize) -> bool {
        let is =
            |wanted: Option<u8>, have: Option<&u8>| wanted.is_none() || wanted == have.copied();
        is(self.edges.1, path.last())
            && is(self.edges.0, path.first())
            && self.matches_whole(path, slashes)
    }

    fn matches_whole(&self, path: &[u8], slashes: usize) -> bool {
        match &self.kind {
            Kind::Exact(own) => path == own,
            Kind::Prefix(head) => path.starts_with(head),
            Kind::Suffix(tail) => {
                path.ends_with(tail) || tail.strip_prefix(b"/").is_some_and(|name| path == name)
            }
            Kind::General {
                head,
                tail,
                slashes: wanted,
            } => {
                wanted.is_none_or(|wanted| wanted == slashes)
                    && path.ends_with(tail)
                    && path.starts_with(head)
                    && self.run(path).holds(self.parts.len())
            }
        }
    }

    /// Whether something that begins with `prefix`, a directory with a slash at its end, and is longer, can be matched.
    pub(super) fn may_match_below(&self, prefix: &[u8]) -> bool {
        match &self.kind {
            Kind::Exact(own) => own.len() > prefix.len() && own.starts_with(prefix),
            Kind::Prefix(head) => head.starts_with(prefix) || prefix.starts_with(head),
            Kind::Suffix(_) => true,
            // Any state but the end's waits for more.
            Kind::General { .. } => self.run(prefix).any_below(self.parts.len()),
        }
    }

    /// The states after `path`.
    fn run(&self, path: &[u8]) -> States {
        let mut now = States::new(self.parts.len());
        let mut next = now.clone();
        self.enter(&mut now, 0);
        for c in chars(path) {
            next.clear();
            now.each(|state| self.step(state, c, &mut next));
            std::mem::swap(&mut now, &mut next);
        }
        now
    }

    /// Into `state`, and into those that it leads to without a character.
    fn enter(&self, states: &mut States, mut state: usize) {
        loop {
            states.set(state);
            match self.parts.get(state) {
                Some(Part::Star | Part::Rest) => state += 1,
                Some(Part::Optional) => {
                    states.set(state + 1);
                    state += 2;
                }
                _ => return,
            }
        }
    }

    /// Where `c` leads from `state`.
    fn step(&self, state: usize, c: Char, next: &mut States) {
        match self.parts.get(state) {
            Some(Part::Char(own)) if *own == c => self.enter(next, state + 1),
            Some(Part::Any) if c != SLASH => self.enter(next, state + 1),
            Some(Part::Class(class)) if class.holds(c) => self.enter(next, state + 1),
            Some(Part::Star) if c != SLASH => self.enter(next, state),
            Some(Part::Directories) => {
                next.set(state);
                if c == SLASH {
                    self.enter(next, state + 1);
                }
            }
            Some(Part::Rest) => self.enter(next, state),
            _ => {}
        }
    }
}

impl Kind {
    /// The first and the last byte of what it matches; `None`: several are possible.
    fn edges(&self) -> (Option<u8>, Option<u8>) {
        match self {
            Self::Exact(own) => (own.first().copied(), own.last().copied()),
            Self::Prefix(head) => (head.first().copied(), None),
            Self::Suffix(tail) => (None, tail.last().copied()),
            Self::General { head, tail, .. } => (head.first().copied(), tail.last().copied()),
        }
    }

    fn of(parts: &[Part], pattern: &[u8]) -> Self {
        let head = plain(parts);
        let tail = plain_end(parts);
        match parts {
            parts if is_plain(parts) => return Self::Exact(head),
            [front @ .., Part::Rest] if is_plain(front) => return Self::Prefix(head),
            // `**x` matches what ends in x, `**/x` only whole names; with an escape, both do the latter.
            [Part::Optional, Part::Directories, back @ ..] if is_plain(back) => {
                let names = pattern.starts_with(b"**/") || pattern.contains(&b'\\');
                let slash: &[u8] = if names { b"/" } else { b"" };
                return Self::Suffix([slash, &tail].concat());
            }
            _ => {}
        }
        let anywhere = |part: &Part| {
            matches!(
                part,
                Part::Class(_) | Part::Optional | Part::Directories | Part::Rest
            )
        };
        let slashes = parts.iter().filter(|part| **part == Part::Char(SLASH));
        let slashes = (!parts.iter().any(anywhere)).then(|| slashes.count());
        Self::General {
            head,
            tail,
            slashes,
        }
    }
}

fn is_plain(parts: &[Part]) -> bool {
    parts.iter().all(|part| matches!(part, Part::Char(_)))
}

/// The bytes of the characters at the start.
fn plain(parts: &[Part]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        let Part::Char(c) = part else { break };
        glob::push(&mut out, *c);
    }
    out
}

/// The bytes of the characters at the end.
fn plain_end(parts: &[Part]) -> Vec<u8> {
    let end = parts.iter().rev();
    let end = end.take_while(|part| matches!(part, Part::Char(_))).count();
    plain(&parts[parts.len() - end..])
}

fn is_backwards(atom: &Atom) -> bool {
    matches!(atom, Atom::Class(class) if class.is_backwards())
}

/// `**` found among the atoms.
fn to_parts(atoms: Vec<Atom>) -> Vec<Part> {
    let mut parts = Vec::with_capacity(atoms.len());
    let mut atoms = atoms.into_iter().peekable();
    while let Some(atom) = atoms.next() {
        let part = match atom {
            Atom::Char(c) => Part::Char(c),
            Atom::Any => Part::Any,
            Atom::Class(class) => Part::Class(class),
            Atom::Star if atoms.next_if_eq(&Atom::Star).is_some() => {
                atoms.next_if_eq(&Atom::Char(SLASH));
                if atoms.peek().is_none() {
                    Part::Rest
                } else {
                    parts.push(Part::Optional);
                    Part::Directories
                }
            }
            Atom::Star => Part::Star,
        };
        parts.push(part);
    }
    parts
}

/// A set of states.
#[derive(Debug, Clone)]
struct States(Vec<u64>);

impl States {
    /// None of `parts` and the end.
    fn new(parts: usize) -> Self {
        Self(vec![0; parts / 64 + 1])
    }

    fn clear(&mut self) {
        self.0.fill(0);
    }

    fn set(&mut self, state: usize) {
        self.0[state / 64] |= 1 << (state % 64);
    }

    fn holds(&self, state: usize) -> bool {
        self.0[state / 64] & 1 << (state % 64) != 0
    }

    fn each(&self, mut visit: impl FnMut(usize)) {
        for (index, &word) in self.0.iter().enumerate() {
            let mut bits = word;
            while bits != 0 {
                visit(index * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }

    fn any_below(&self, end: usize) -> bool {
        let mut any = false;
        self.each(|state| any |= state < end);
        any
    }
}
