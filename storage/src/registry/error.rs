//! Why a registry doesn't do what it is asked for.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::CredentialError;
use crate::blob::DOCUMENT_LIMIT;
use crate::digest::Digest;
use crate::explain::Explain;
use crate::transfer::{PlaceError, PlaceFailure};
use crate::web::{TlsFault, TrustError, WebError};

/// Bytes of a server's own words that are shown.
const WORDS_LIMIT: usize = 300;

/// Why a registry doesn't do what it is asked for. Nothing of it shows secrets.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is no answer.
    #[error(transparent)]
    Web(#[from] WebError),
    /// The same, of a registry: it has a place for certificates.
    #[error(transparent)]
    Certificate(Untrusted),
    /// A file in certs.d.
    #[error("cannot use the certificates for {registry}")]
    Certs {
        /// Whose.
        registry: String,
        /// The reason.
        source: TrustError,
    },
    /// Plain http where it isn't allowed.
    #[error("{registry} speaks http and not https")]
    PlainHttp {
        /// Which.
        registry: String,
    },
    /// registries.conf says no.
    #[error("{name} is blocked by registries.conf")]
    Blocked {
        /// The image or the registry.
        name: String,
    },
    /// registries.conf leads nowhere.
    #[error("registries.conf leads {name} to {location:?}, which is no repository")]
    Location {
        /// The image.
        name: String,
        /// Where to.
        location: String,
    },
    /// The credential can't be looked up.
    #[error("cannot get the credentials for {registry}")]
    Credentials {
        /// For whom.
        registry: String,
        /// The reason.
        source: CredentialError,
    },
    /// User or password is wrong.
    #[error("{registry} doesn't accept the user name or the password")]
    WrongPassword {
        /// Which.
        registry: String,
    },
    /// It wants a login, and there is none.
    #[error("{registry} wants a login")]
    LoginWanted {
        /// Which.
        registry: String,
    },
    /// Not for us, or not there: registries don't tell which.
    #[error(
        "{action} access denied for {repository}, repository does not exist or may require 'rctr login'{}",
        behind(said)
    )]
    Denied {
        /// `pull`, `push`.
        action: &'static str,
        /// Which.
        repository: String,
        /// The registry's words.
        said: String,
        /// Whether we had something to show.
        logged_in: bool,
        /// Where to log in.
        registry: String,
    },
    /// No such tag or digest.
    #[error("manifest for {name} not found: manifest unknown")]
    NoManifest {
        /// Which.
        name: String,
    },
    /// No such repository.
    #[error("repository {name} not found")]
    NoRepository {
        /// Which.
        name: String,
    },
    /// No such blob.
    #[error("blob {digest} is not in {repository}")]
    NoBlob {
        /// Which.
        digest: Digest,
        /// Where.
        repository: String,
    },
    /// Too many requests.
    #[error("{registry} gets too many requests{}", behind(said))]
    RateLimited {
        /// Which.
        registry: String,
        /// When it wants the next.
        wait: Option<Duration>,
        /// The registry's words.
        said: String,
    },
    /// Larger than [`DOCUMENT_LIMIT`].
    #[error("{name} has a manifest of more than {} MiB", DOCUMENT_LIMIT >> 20)]
    TooLarge {
        /// What was asked for.
        name: String,
    },
    /// An answer that should be small is not.
    #[error("the answer of {registry} is larger than {limit} bytes")]
    LongAnswer {
        /// Whose.
        registry: String,
        /// In bytes.
        limit: u64,
    },
    /// Not what it should be.
    #[error("{name} has the wrong digest: want {expected}, have {actual}")]
    Digest {
        /// What was asked for.
        name: String,
        /// What was asked for, or what the registry said.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The format before 2016.
    #[error("{name} is in the old format \"schema 1\", which isn't supported")]
    Schema1 {
        /// What was asked for.
        name: String,
    },
    /// A circle, most likely.
    #[error("{url} is redirected more than {limit} times")]
    Redirects {
        /// The first.
        url: String,
        /// How many are followed.
        limit: usize,
    },
    /// From https to http.
    #[error("{url} is redirected to {to}, which isn't encrypted")]
    Downgrade {
        /// Which.
        url: String,
        /// Where to.
        to: String,
    },
    /// Credentials would go where anybody can read them.
    #[error("{registry} wants its password sent to {realm}, which isn't encrypted")]
    OpenRealm {
        /// Which.
        registry: String,
        /// Where to.
        realm: String,
    },
    /// Another answer than those that are of use.
    #[error("{registry} answered {status} to {request}{}", behind(said))]
    Status {
        /// Which.
        registry: String,
        /// 500.
        status: u16,
        /// `GET /v2/…`.
        request: String,
        /// The registry's words.
        said: String,
    },
    /// It doesn't follow the protocol.
    #[error("{registry} doesn't follow the protocol: {what}")]
    Protocol {
        /// Which.
        registry: String,
        /// What is wrong.
        what: String,
    },
    /// The answer ended before its end.
    #[error("the answer of {registry} broke off")]
    Interrupted {
        /// Whose.
        registry: String,
        /// The reason.
        source: io::Error,
    },
    /// What was to be sent can't be read.
    #[error("cannot read what is to be sent")]
    Content {
        /// The reason.
        source: io::Error,
    },
    /// The registry can't be searched.
    #[error("{registry} can't be searched")]
    NoSearch {
        /// Which.
        registry: String,
    },
}

fn behind(said: &str) -> String {
    match said.is_empty() {
        true => String::new(),
        false => format!(": {said}"),
    }
}

impl Explain for RegistryError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Certificate(error) => return error.hint(),
            Self::Web(error) => return error.hint(),
            Self::Certs { source, .. } => return source.hint(),
            Self::Credentials { source, .. } => return source.hint(),
            Self::PlainHttp { registry } => format!(
                "if the network can be trusted, say so in registries.conf: a [[registry]] with location = \"{registry}\" and insecure = true"
            ),
            Self::Blocked { .. } => "remove `blocked = true` there if you may".to_owned(),
            Self::Location { .. } => "check prefix and location there".to_owned(),
            Self::WrongPassword { registry } | Self::LoginWanted { registry } => {
                format!("run `rctr login {registry}`")
            }
            Self::Denied { logged_in: false, registry, .. } => {
                format!("check the name; if it is private, run `rctr login {registry}`")
            }
            Self::Denied { registry, .. } => format!(
                "check the name, and whether the account at {registry} has access to it"
            ),
            Self::NoManifest { .. } | Self::NoRepository { .. } => {
                "check the spelling of name and tag".to_owned()
            }
            Self::RateLimited { registry, wait, .. } => match wait {
                Some(wait) => format!("try again in {} seconds", wait.as_secs()),
                None => format!("try again later; with `rctr login {registry}` more may be allowed"),
            },
            Self::Digest { .. }
            | Self::TooLarge { .. }
            | Self::Protocol { .. }
            | Self::LongAnswer { .. }
            | Self::Redirects { .. } => {
                "this is the registry's fault, or that of a proxy on the way".to_owned()
            }
            Self::Schema1 { .. } => {
                "push the image again with a current program, or copy it with one that still converts it".to_owned()
            }
            Self::Status { status: 500.., .. } | Self::Interrupted { .. } => {
                "the registry has trouble: try again later".to_owned()
            }
            Self::Status { .. } => {
                "the registry doesn't do that: whoever runs it may know why".to_owned()
            }
            Self::NoSearch { .. } => "name the image in full".to_owned(),
            Self::Downgrade { .. } | Self::OpenRealm { .. } => {
                "this is refused so that nobody on the way can read or change it".to_owned()
            }
            Self::NoBlob { .. } => {
                "the registry has only a part of the image: try again later, or have the image pushed again".to_owned()
            }
            Self::Content { .. } => return None,
        })
    }
}

/// A registry that can't show that it is who it says it is.
#[derive(Debug)]
pub struct Untrusted {
    /// What is wrong.
    pub error: WebError,
    /// Where its authority's certificate belongs.
    pub authority: PathBuf,
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Untrusted {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

impl Explain for Untrusted {
    fn hint(&self) -> Option<String> {
        let fault = match &self.error {
            WebError::Tls { fault, .. } => *fault,
            WebError::NoCertificates { .. } => TlsFault::UnknownAuthority,
            other => return other.hint(),
        };
        let dir = self.authority.parent().unwrap_or(&self.authority);
        match fault {
            TlsFault::UnknownAuthority => Some(format!(
                "put the certificate of its authority (PEM) at {}",
                self.authority.display()
            )),
            TlsFault::ClientCertificate => Some(format!(
                "put yours as client.cert and client.key into {}",
                dir.display()
            )),
            TlsFault::WrongName => Some("use the name that the certificate is for".to_owned()),
            _ => self.error.hint(),
        }
    }
}

impl From<RegistryError> for PlaceError {
    fn from(error: RegistryError) -> Self {
        Box::new(error)
    }
}

impl PlaceFailure for RegistryError {
    fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::NoManifest { .. } | Self::NoRepository { .. } | Self::NoBlob { .. }
        )
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Web(error) => error.is_transient(),
            Self::Interrupted { .. } => true,
            // It has been waited for what it asked, or that was too long.
            Self::RateLimited { .. } => false,
            Self::Status { status, .. } => *status >= 500 || *status == 408,
            _ => false,
        }
    }
}

impl RegistryError {
    /// Whether it may be tried again here, after what [`Self::asked_wait`] says.
    pub(super) fn is_passing(&self) -> bool {
        self.is_transient() || matches!(self, Self::RateLimited { .. })
    }

    /// How long the server wants us to wait.
    pub(super) fn asked_wait(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { wait, .. } => *wait,
            _ => None,
        }
    }
}

/// What a registry says of its refusal (distribution-spec, "Error Codes").
#[derive(Debug, Default)]
pub(super) struct Refusal {
    /// `MANIFEST_UNKNOWN`, upper case; the first of them.
    pub(super) code: String,
    /// In its words, one line.
    pub(super) said: String,
}

impl Refusal {
    /// Reads the body of an answer; one that isn't of the form says nothing.
    pub(super) fn parse(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Errors {
            #[serde(default)]
            errors: Vec<One>,
            #[serde(default, alias = "details")]
            message: String,
        }
        #[derive(Deserialize)]
        struct One {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: String,
        }
        let Ok(parsed) = serde_json::from_slice::<Errors>(body) else {
            return Self::default();
        };
        match parsed.errors.into_iter().next() {
            Some(first) => Self {
                code: first.code.to_uppercase(),
                said: one_line(&first.message),
            },
            None => Self {
                code: String::new(),
                said: one_line(&parsed.message),
            },
        }
    }
}

/// A stranger's words, fit for a terminal.
fn one_line(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line: String = clean.take(WORDS_LIMIT).collect();
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_read() {
        let body = br#"{"errors":[{"code":"name_unknown","message":"repository\nname \u001b[31mnot known","detail":{"a":1}}]}"#;
        let refusal = Refusal::parse(body);
        assert_eq!(refusal.code, "NAME_UNKNOWN");
        assert_eq!(refusal.said, "repository name  [31mnot known");
        assert_eq!(Refusal::parse(br#"{"message":"x"}"#).said, "x");
        assert_eq!(Refusal::parse(b"<html>").said, "");
        let long = format!(
            r#"{{"errors":[{{"code":"A","message":"{}"}}]}}"#,
            "x".repeat(10_000)
        );
        assert_eq!(Refusal::parse(long.as_bytes()).said.len(), WORDS_LIMIT);
    }

    #[test]
    fn unknown_authorities_have_a_place() {
        let error = RegistryError::Certificate(Untrusted {
            error: WebError::NoCertificates {
                url: "https://x/".into(),
            },
            authority: "/etc/docker/certs.d/x:5000/ca.crt".into(),
        });
        assert!(
            error
                .hint()
                .unwrap()
                .ends_with("/etc/docker/certs.d/x:5000/ca.crt")
        );
    }
}
