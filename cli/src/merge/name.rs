//! Names like `brisk_noether` for containers that were given none.

use std::hash::{BuildHasher, RandomState};

const ADJECTIVES: [&str; 64] = [
    "agile", "amber", "ample", "apt", "balmy", "bold", "brisk", "calm", "candid", "chipper",
    "civil", "clear", "cosy", "crisp", "deft", "dapper", "eager", "early", "easy", "fair", "fleet",
    "fond", "frank", "fresh", "gentle", "glad", "golden", "grand", "hardy", "hearty", "honest",
    "humble", "jolly", "keen", "kind", "lively", "loyal", "lucid", "mellow", "merry", "mild",
    "modest", "neat", "nimble", "noble", "patient", "plucky", "polite", "prompt", "proud", "quick",
    "quiet", "ready", "robust", "serene", "sharp", "smart", "snug", "sober", "steady", "sunny",
    "tidy", "vivid", "witty",
];

const SURNAMES: [&str; 96] = [
    "abel",
    "adams",
    "aiken",
    "ampere",
    "anning",
    "artin",
    "babbage",
    "backus",
    "banach",
    "bernoulli",
    "bessel",
    "bohr",
    "boole",
    "brahe",
    "cantor",
    "carson",
    "cauchy",
    "cayley",
    "clarke",
    "cori",
    "coulomb",
    "cray",
    "curie",
    "darwin",
    "davies",
    "dedekind",
    "dijkstra",
    "dirac",
    "doppler",
    "easley",
    "edison",
    "einstein",
    "engelbart",
    "erdos",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "floyd",
    "fourier",
    "franklin",
    "galois",
    "gauss",
    "germain",
    "godel",
    "goodall",
    "gosling",
    "hamilton",
    "hamming",
    "herschel",
    "hertz",
    "hilbert",
    "hoare",
    "hodgkin",
    "hopper",
    "huygens",
    "hypatia",
    "jacobi",
    "johnson",
    "joule",
    "kelvin",
    "kepler",
    "kleene",
    "knuth",
    "lagrange",
    "lamarr",
    "lamport",
    "laplace",
    "leavitt",
    "leibniz",
    "liskov",
    "lovelace",
    "maxwell",
    "mccarthy",
    "meitner",
    "mendel",
    "mirzakhani",
    "neumann",
    "newton",
    "noether",
    "ohm",
    "pascal",
    "perlman",
    "planck",
    "poincare",
    "ramanujan",
    "riemann",
    "ritchie",
    "shannon",
    "sinoussi",
    "tesla",
    "thompson",
    "turing",
    "volta",
    "wiles",
    "wirth",
];

/// `adjective_surname`; after some attempts with a number behind.
pub(crate) fn random_name(attempt: u32) -> String {
    let random = RandomState::new().hash_one(attempt);
    let pick = |n: u64, words: &[&'static str]| {
        let at = usize::try_from(n % words.len() as u64).unwrap_or_default();
        words[at]
    };
    let name = format!(
        "{}_{}",
        pick(random, &ADJECTIVES),
        pick(random >> 32, &SURNAMES)
    );
    match attempt {
        0..6 => name,
        _ => format!("{name}{}", (random >> 16) % (10 * u64::from(attempt))),
    }
}

#[cfg(test)]
mod tests {
    use rctr_storage::container::is_name;

    use super::*;

    #[test]
    fn made_up_names_are_good_names() {
        for attempt in 0..20 {
            let name = random_name(attempt);
            assert!(is_name(&name) && name.contains('_'), "{name}");
        }
    }
}
