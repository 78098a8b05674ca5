//! Registries: the distribution protocol (OCI distribution-spec 1.1), pull and push.
//!
//! ```text
//! Client ── one Host per server: https or http, who we are (auth), retries, redirects (host)
//!   └ Repository ── an image's name: the servers that may have it, mirrors first; a Source and a Target
//! ```
//!
//! Credentials are looked up only when a server asks for them and go to no other server but the token server that it
//! names. What comes is bounded; documents are verified here, blobs by whoever reads them.

mod auth;
mod certs;
mod challenge;
mod conf;
mod credentials;
mod error;
mod host;
mod lists;
mod pull;
mod push;
mod retry;
#[cfg(test)]
mod tests;

pub use conf::{ConfError, RegistriesConf};
pub use credentials::{Anonymous, Credential, CredentialError, Credentials, Secret};
pub use error::{RegistryError, Untrusted};
pub use lists::SearchHit;
pub use retry::Retries;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use crate::reference::Reference;
use crate::web::{self, Web};
use auth::Login;
use conf::Endpoint;
use host::{Host, Security, WebOf};

/// How registries are reached.
#[derive(Clone)]
pub struct Settings {
    /// Proxies, authorities, time-outs.
    pub web: web::Settings,
    /// Mirrors, what is insecure, what is blocked.
    pub conf: RegistriesConf,
    /// `/etc/docker/certs.d` and the like; the first is named in messages.
    pub certs_dirs: Vec<PathBuf>,
    /// Who we are.
    pub credentials: Arc<dyn Credentials>,
    /// `--tls-verify`: true: https with a good certificate and nothing else; false: all are insecure.
    pub tls_verify: Option<bool>,
    /// When a failure is tried again.
    pub retries: Retries,
    /// Bytes of a blob that are sent in one piece, and the length of the chunks of larger ones.
    pub chunk: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            web: web::Settings::default(),
            conf: RegistriesConf::default(),
            certs_dirs: Vec::new(),
            credentials: Arc::new(Anonymous),
            tls_verify: None,
            retries: Retries::default(),
            chunk: 64 << 20,
        }
    }
}

/// What is to be done with a repository: what a token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Pull,
    /// Read and write.
    Push,
    /// Read, write and delete.
    Delete,
}

impl Access {
    fn scope(self, path: &str) -> String {
        let actions = match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
            Self::Delete => "delete,pull,push",
        };
        format!("repository:{path}:{actions}")
    }

    fn word(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }
}

/// Talks with registries. Threads share it: what servers have asked for, tokens and connections are kept.
pub struct Client {
    settings: Settings,
    hosts: Mutex<HashMap<(String, Security), Arc<Host>>>,
    web_of: WebOf,
}

impl Client {
    /// One that has talked with nobody yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let web = Web::new(settings.web.clone());
        Self {
            web_of: webs(web, settings.certs_dirs.clone()),
            hosts: Mutex::default(),
            settings,
        }
    }

    /// The repository and the image in it that `name` stands for. Nobody is asked yet.
    ///
    /// # Errors
    /// When registries.conf doesn't allow it.
    pub fn repository(
        &self,
        name: &Reference,
        access: Access,
    ) -> Result<Repository, RegistryError> {
        let endpoints = self.settings.conf.endpoints(name, access)?;
        let places = endpoints
            .iter()
            .map(|endpoint| self.place(endpoint, access));
        Ok(Repository {
            name: name.clone(),
            access,
            places: places.collect(),
            good: AtomicUsize::new(usize::MAX),
            chunk: self.settings.chunk,
        })
    }

    fn place(&self, endpoint: &Endpoint, access: Access) -> Place {
        let reference = &endpoint.reference;
        Place {
            host: self.host(&reference.domain, endpoint.insecure),
            path: reference.path.clone(),
            scopes: vec![access.scope(&reference.path)],
            is_mirror: false,
        }
    }

    fn host(&self, name: &str, insecure: bool) -> Arc<Host> {
        let security = self.security(name, insecure);
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let host = hosts.entry((name.to_owned(), security)).or_insert_with(|| {
            let kept = Login::Kept(Arc::clone(&self.settings.credentials));
            Arc::new(self.new_host(name, security, kept))
        });
        Arc::clone(host)
    }

    fn new_host(&self, name: &str, security: Security, login: Login) -> Host {
        let certs_dir = self.settings.certs_dirs.first().cloned();
        Host::new(
            name,
            security,
            login,
            Arc::clone(&self.web_of),
            self.settings.retries.clone(),
            certs_dir.unwrap_or_else(|| PathBuf::from("certs.d")),
        )
    }

    fn security(&self, name: &str, insecure: bool) -> Security {
        match self.settings.tls_verify {
            Some(true) => Security::Verified,
            Some(false) => Security::Insecure,
            None if insecure => Security::Insecure,
            None if is_loopback(name) => Security::Local,
            None => Security::Verified,
        }
    }
}

/// Makes a [`Web`] for a server once, with what certs.d has for it.
fn webs(web: Web, certs_dirs: Vec<PathBuf>) -> WebOf {
    let made: Mutex<HashMap<(String, bool), Arc<Web>>> = Mutex::default();
    Arc::new(move |address, security| {
        let verify = security != Security::Insecure;
        let key = (address.to_owned(), verify);
        let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(web) = made.get(&key) {
            return Ok(Arc::clone(web));
        }
        let mut trust = certs::trust(&certs_dirs, address)?;
        trust.verify = verify;
        let web = Arc::new(web.trusting(trust));
        made.insert(key, Arc::clone(&web));
        Ok(web)
    })
}

/// Whether a registry is on this machine: `localhost`, `127.0.0.0/8`, `::1`.
fn is_loopback(name: &str) -> bool {
    let host = match name.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6),
        None => name.split(':').next().unwrap_or(name),
    };
    let address: Option<IpAddr> = host.parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

/// An image's name at the registry and at its mirrors.
pub struct Repository {
    name: Reference,
    access: Access,
    /// In the order in which they are tried; the last is the registry itself.
    places: Vec<Place>,
    /// The one that had the manifest; it is tried first from then on.
    good: AtomicUsize,
    /// For uploads, in bytes.
    chunk: u64,
}

/// A repository at one server.
struct Place {
    host: Arc<Host>,
    path: String,
    scopes: Vec<String>,
    /// There is another place after this one.
    is_mirror: bool,
}
