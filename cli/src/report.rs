//! The one renderer of errors, and the owner of exit codes.

use std::error::Error;
use std::fmt;

use rctr_storage::explain::Explain;

/// Docker's exit codes.
pub(crate) const ENGINE: u8 = 125;
/// The command was found but can't be invoked.
pub(crate) const CANNOT_INVOKE: u8 = 126;

/// Why a command ends without success, as the user gets to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) code: u8,
    /// One sentence: operation, object, cause. Empty: nothing is printed (the container's own exit code).
    pub(crate) message: String,
    /// The errors beneath, outermost first.
    pub(crate) causes: Vec<String>,
    /// What to do.
    pub(crate) hint: Option<String>,
}

/// A failure as the builder hears of it: what this host or the settings of registries don't allow.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Failure);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        self.0
            .causes
            .iter()
            .try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for Refused {}

impl Explain for Refused {
    fn hint(&self) -> Option<String> {
        self.0.hint.clone()
    }
}

impl Failure {
    /// A failure with Docker's general exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            code: 1,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
        }
    }

    /// The same with another exit code.
    #[must_use]
    pub(crate) fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// The same with a hint.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl<E: Explain> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut causes = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = Error::source(cause);
        }
        Self {
            code: 1,
            message: error.to_string(),
            causes,
            hint: error.hint(),
        }
    }
}

/// `rctr: <message>`, `caused by: …`, `hint: …`.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            return Ok(());
        }
        writeln!(f, "rctr: {}", self.message)?;
        for cause in &self.causes {
            writeln!(f, "caused by: {cause}")?;
        }
        if let Some(hint) = &self.hint {
            writeln!(f, "hint: {hint}")?;
        }
        Ok(())
    }
}
