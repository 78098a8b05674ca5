//! Random names: container IDs, names of anonymous volumes, temporary names.

use ring::rand::{SecureRandom, SystemRandom};

/// `N` random bytes as hexadecimal digits.
///
/// # Panics
/// When the kernel has no random numbers: getrandom(2) doesn't fail since Linux 3.17.
#[must_use]
pub fn hex<const N: usize>() -> String {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("getrandom(2) works");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A new container ID: 64 hexadecimal digits. Its first 12 aren't all decimal, so that the short form can't be taken
/// for a number (Docker takes the same care: host names must not be numbers).
#[must_use]
pub fn container_id() -> String {
    loop {
        let id = hex::<32>();
        if id[..12].bytes().any(|c| c.is_ascii_alphabetic()) {
            return id;
        }
    }
}
