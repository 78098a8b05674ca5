//! `--chmod`: octal, or symbolic as chmod(1) has it.

use super::CopyError;

/// Which modes files get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chmod {
    /// This one.
    Octal(u32),
    /// Their own, changed.
    Symbolic(Vec<Clause>),
}

/// `go-w`: bits of some kinds of users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clause {
    /// Of `u`, `g`, `o`: 4, 2, 1.
    who: u32,
    operator: char,
    permissions: String,
}

const USER: u32 = 4;
const GROUP: u32 = 2;
const OTHER: u32 = 1;

impl Chmod {
    /// Reads `755`, `0755` or `u=rwX,go-w`.
    pub(super) fn parse(text: &str) -> Result<Self, CopyError> {
        let wrong = || CopyError::Chmod {
            text: text.to_owned(),
        };
        if text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_digit())
        {
            return match u32::from_str_radix(text, 8) {
                Ok(mode) if mode <= 0o7777 => Ok(Self::Octal(mode)),
                _ => Err(wrong()),
            };
        }
        let clauses = text.split(',').map(clauses_of).collect::<Option<Vec<_>>>();
        Ok(Self::Symbolic(clauses.ok_or_else(wrong)?.concat()))
    }

    /// The mode of something whose mode is `mode`.
    pub(super) fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(clauses) => clauses
                .iter()
                .fold(mode & 0o7777, |mode, clause| clause.apply(mode, is_dir)),
        }
    }
}

/// `ug+x-w` is two clauses for the same users.
fn clauses_of(text: &str) -> Option<Vec<Clause>> {
    let operators = text.find(['+', '-', '='])?;
    let (users, mut rest) = text.split_at(operators);
    let mut who = 0;
    for user in users.chars() {
        who |= match user {
            'u' => USER,
            'g' => GROUP,
            'o' => OTHER,
            'a' => USER | GROUP | OTHER,
            _ => return None,
        };
    }
    if who == 0 {
        who = USER | GROUP | OTHER;
    }
    let mut clauses = Vec::new();
    while let Some(operator) = rest.chars().next() {
        rest = &rest[1..];
        let end = rest.find(['+', '-', '=']).unwrap_or(rest.len());
        let permissions = &rest[..end];
        let copied = matches!(permissions, "u" | "g" | "o");
        if !copied && !permissions.chars().all(|c| "rwxXst".contains(c)) {
            return None;
        }
        clauses.push(Clause {
            who,
            operator,
            permissions: permissions.to_owned(),
        });
        rest = &rest[end..];
    }
    Some(clauses)
}

impl Clause {
    fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let mut bits = 0;
        let mut mask = 0;
        for (user, shift, special) in [(USER, 6, 0o4000), (GROUP, 3, 0o2000), (OTHER, 0, 0)] {
            if self.who & user == 0 {
                continue;
            }
            mask |= 0o7 << shift | special;
            bits |= self.of_all(mode, is_dir) << shift;
            if self.permissions.contains('s') {
                bits |= special;
            }
        }
        if self.who & OTHER != 0 || self.who == USER | GROUP | OTHER {
            mask |= 0o1000;
        }
        if self.permissions.contains('t') {
            bits |= 0o1000 & mask;
        }
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => mode & !mask | bits,
        }
    }

    /// The three bits that each of its users is about.
    fn of_all(&self, mode: u32, is_dir: bool) -> u32 {
        match self.permissions.as_str() {
            "u" => return mode >> 6 & 7,
            "g" => return mode >> 3 & 7,
            "o" => return mode & 7,
            _ => {}
        }
        self.permissions.chars().fold(0, |bits, permission| {
            bits | match permission {
                'r' => 4,
                'w' => 2,
                'x' => 1,
                'X' if is_dir || mode & 0o111 != 0 => 1,
                _ => 0,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checked with chmod(1), umask 0.
    #[test]
    fn modes_are_those_of_chmod() {
        for (text, mode, is_dir, want) in [
            ("755", 0o4644, false, 0o755),
            ("04755", 0o644, false, 0o4755),
            ("0", 0o777, false, 0),
            ("u+x,go-w", 0o666, false, 0o744),
            ("a+X", 0o644, false, 0o644),
            ("a+X", 0o744, false, 0o755),
            ("a+X", 0o600, true, 0o711),
            ("u=rwX,go=rX", 0o666, false, 0o644),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("=r", 0o777, false, 0o444),
            ("u+s", 0o755, false, 0o4755),
            ("g+s,o+t", 0o755, true, 0o3755),
            ("g=u", 0o740, false, 0o770),
            ("o=g-w", 0o760, false, 0o764),
            ("u-w+x", 0o600, false, 0o500),
            ("a=", 0o777, false, 0),
            ("u=rwx", 0o4644, false, 0o744),
        ] {
            let got = Chmod::parse(text).unwrap().apply(mode, is_dir);
            assert_eq!(got, want, "{text} of {mode:o}: {got:o}, want {want:o}");
        }
    }

    #[test]
    fn wrong_modes_are_told() {
        for text in [
            "8",
            "10000",
            "u",
            "x+r",
            "u+q",
            "",
            "u+x,",
            "u+rwg",
            "77777777777",
        ] {
            assert!(Chmod::parse(text).is_err(), "{text}");
        }
    }
}
