//! Who we are to a registry.

use std::error::Error;
use std::fmt;

use crate::explain::Explain;

/// A password or a token. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps it.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself: for the one who asks for it, and nobody else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What is shown to a registry, or to its token server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// User and password.
    Basic {
        /// Who.
        user: String,
        /// Also an access token that a registry takes as one.
        password: Secret,
    },
    /// A refresh token, which a token server gave at login.
    IdentityToken(Secret),
}

/// Why a credential can't be looked up: a damaged file, a helper program that failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CredentialError {
    /// Operation, object and cause in one sentence, without secrets.
    pub message: String,
    /// What the user can do about it.
    pub hint: Option<String>,
    /// The reason.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl Explain for CredentialError {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

/// Where credentials are kept. Threads share it.
pub trait Credentials: Send + Sync {
    /// The credential for a repository (`library/ubuntu`) of a registry (`docker.io`, `localhost:5000`), or with an empty
    /// repository the registry's own. It is asked once for each, and only when the registry wants one.
    ///
    /// # Errors
    /// When it can't be looked up.
    fn find(&self, registry: &str, repository: &str)
    -> Result<Option<Credential>, CredentialError>;
}

/// Nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anonymous;

impl Credentials for Anonymous {
    fn find(&self, _: &str, _: &str) -> Result<Option<Credential>, CredentialError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let credential = Credential::Basic {
            user: "me".into(),
            password: Secret::new("hunter2"),
        };
        let token = Credential::IdentityToken(Secret::new("hunter2"));
        let shown = format!("{credential:?} {token:#?} {}", Secret::new("hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
