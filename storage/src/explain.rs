//! Errors that know what the user can do about them.

/// An error of ours. Its `Display` names operation, object and cause in one lower-case sentence without a full stop;
/// the underlying error is in `source` only. The cli prints `rctr: <message>`, the causes, then the hint.
pub trait Explain: std::error::Error {
    /// What the user can do about it, where we know.
    fn hint(&self) -> Option<String> {
        None
    }
}

impl Explain for crate::digest::InvalidDigest {}

impl Explain for crate::reference::InvalidReference {
    fn hint(&self) -> Option<String> {
        Self::hint(self)
    }
}
