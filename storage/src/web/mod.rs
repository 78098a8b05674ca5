//! How the web is reached: http and https, through proxies, with the host's certificates or others.
//!
//! Requests are sent here one at a time and redirects come back as they are: whoever asks decides where to follow them to
//! and with what. The environment isn't read here: what it says comes as [`Settings`].

mod absolute;
mod error;
mod proxy;
#[cfg(test)]
mod tests;
mod trust;
mod url;

pub use error::{TlsFault, WebError, is_stalled};
pub use trust::{Trust, TrustError};
pub use url::{Url, form, is_file_name, last_name, without_password};

use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
pub use ureq::Body;
pub use ureq::http::{HeaderMap, HeaderName, Method, Response, StatusCode, header};
use ureq::http::{HeaderValue, Request};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, DefaultConnector};
use ureq::{Agent, AsSendBody, SendBody};

use absolute::AbsoluteForm;
use proxy::Via;

/// Connections to a host that are kept open for the next request: as many as there are parallel transfers.
const IDLE_CONNECTIONS: usize = 16;

/// How the web is reached.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `HTTP_PROXY`.
    pub http_proxy: Option<String>,
    /// `HTTPS_PROXY`.
    pub https_proxy: Option<String>,
    /// `NO_PROXY`: names, addresses and networks, separated by commas.
    pub no_proxy: String,
    /// CA certificates (PEM); `None`: the host's, found as OpenSSL finds them (with `SSL_CERT_FILE` and `SSL_CERT_DIR`).
    pub ca_file: Option<PathBuf>,
    /// For looking up a name and connecting.
    pub connect_timeout: Duration,
    /// For the next bytes to come, or to go.
    pub read_timeout: Duration,
    /// What we call ourselves.
    pub user_agent: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            http_proxy: None,
            https_proxy: None,
            no_proxy: String::new(),
            ca_file: None,
            connect_timeout: Duration::from_secs(30),
            read_timeout: Duration::from_secs(60),
            user_agent: concat!("rctr/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// What goes with a request.
pub enum Payload<'a> {
    /// Nothing.
    None,
    /// These bytes.
    Bytes(&'a [u8]),
    /// As many bytes of a stream, which must have them.
    Stream(&'a mut dyn Read, u64),
}

/// Sends requests. Threads may share it; its connections are kept open for the next one.
#[derive(Debug)]
pub struct Web {
    settings: Arc<Settings>,
    trust: Trust,
    /// Reading the certificates takes some milliseconds: once, and only for https.
    roots: Arc<OnceLock<RootCerts>>,
    agents: Mutex<HashMap<(bool, Via), Agent>>,
}

impl Default for Web {
    fn default() -> Self {
        Self::new(Settings::default())
    }
}

impl Web {
    /// One that trusts the host's certificates.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
            trust: Trust::default(),
            roots: Arc::default(),
            agents: Mutex::default(),
        }
    }

    /// Another that trusts differently.
    #[must_use]
    pub fn trusting(&self, trust: Trust) -> Self {
        Self {
            settings: Arc::clone(&self.settings),
            trust,
            roots: Arc::clone(&self.roots),
            agents: Mutex::default(),
        }
    }

    /// Sends one request and returns what comes, whatever its status.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn send(
        &self,
        method: Method,
        url: &Url,
        headers: &[(HeaderName, &str)],
        payload: Payload<'_>,
    ) -> Result<Response<Body>, WebError> {
        let via = proxy::of(&self.settings, url)?;
        let agent = self.agent(url, via)?;
        let mut request = Request::builder().method(method);
        request = match via {
            Via::Absolute => self.through_proxy(request, url)?,
            Via::Direct | Via::Tunnel => request.uri(url.uri().clone()),
        };
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value)
                .map_err(|error| WebError::of(url, ureq::Error::Http(error.into())))?;
            value.set_sensitive(*name == header::AUTHORIZATION);
            request = request.header(name, value);
        }
        match payload {
            Payload::None => run(&agent, request.body(())),
            Payload::Bytes(bytes) => run(&agent, request.body(bytes)),
            Payload::Stream(stream, length) => {
                let request = request.header(header::CONTENT_LENGTH, length);
                run(&agent, request.body(SendBody::from_reader(stream)))
            }
        }
        .map_err(|error| WebError::of(url, error))
    }

    /// Asks the proxy for the whole URL.
    fn through_proxy(
        &self,
        mut request: ureq::http::request::Builder,
        url: &Url,
    ) -> Result<ureq::http::request::Builder, WebError> {
        let proxy = self.settings.http_proxy.as_deref().unwrap_or_default();
        let (uri, login) = proxy::absolute(proxy, url)?;
        request = request.uri(uri).header(header::HOST, url.authority());
        let logins = [
            (header::PROXY_AUTHORIZATION, login),
            (header::AUTHORIZATION, url.login()),
        ];
        for (name, login) in logins {
            if let Some((user, password)) = login {
                request = request.header(name, basic(&user, &password));
            }
        }
        Ok(request)
    }

    /// One for this URL: with its proxy, and with certificates when they are needed.
    fn agent(&self, url: &Url, via: Via) -> Result<Agent, WebError> {
        let key = (url.is_https(), via);
        let kept = |agents: &HashMap<_, Agent>| agents.get(&key).cloned();
        if let Some(agent) = kept(&self.agents.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(agent);
        }
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .disable_verification(!self.trust.verify)
            .client_cert(self.trust.client.clone());
        let tls = match proxy::needs_tls(&self.settings, url, via) {
            true => tls.root_certs(self.roots(url)?),
            false => tls.root_certs(RootCerts::new_with_certs(&[])),
        };
        let config = Agent::config_builder()
            .tls_config(tls.build())
            .proxy(match via {
                Via::Tunnel => Some(proxy::tunnel(&self.settings, url)?),
                Via::Direct | Via::Absolute => None,
            })
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(self.settings.user_agent.as_str())
            .max_idle_connections(2 * IDLE_CONNECTIONS)
            .max_idle_connections_per_host(IDLE_CONNECTIONS)
            .timeout_resolve(Some(self.settings.connect_timeout))
            .timeout_connect(Some(self.settings.connect_timeout))
            .timeout_recv_response(Some(self.settings.read_timeout))
            .timeout_per_write(Some(self.settings.read_timeout))
            .timeout_per_read(Some(self.settings.read_timeout));
        let agent = match via {
            Via::Absolute => Agent::with_parts(
                config.build(),
                DefaultConnector::default().chain(AbsoluteForm),
                DefaultResolver::default(),
            ),
            Via::Direct | Via::Tunnel => config.build().new_agent(),
        };
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(agents.entry(key).or_insert(agent).clone())
    }

    fn roots(&self, url: &Url) -> Result<RootCerts, WebError> {
        let own = &self.trust.authorities;
        let hosts = match self.roots.get() {
            Some(roots) => roots.clone(),
            None => {
                let roots = trust::roots(self.settings.ca_file.as_deref());
                self.roots.get_or_init(|| roots).clone()
            }
        };
        match hosts {
            RootCerts::Specific(hosts)
                if hosts.is_empty() && own.is_empty() && self.trust.verify =>
            {
                Err(WebError::NoCertificates {
                    url: url.to_string(),
                })
            }
            RootCerts::Specific(hosts) if !own.is_empty() => {
                Ok(RootCerts::from(hosts.iter().chain(own).cloned()))
            }
            hosts => Ok(hosts),
        }
    }
}

fn run(
    agent: &Agent,
    request: Result<Request<impl AsSendBody>, ureq::http::Error>,
) -> Result<Response<Body>, ureq::Error> {
    agent.run(request.map_err(ureq::Error::Http)?)
}

/// The value of `Authorization` for a user (RFC 7617).
#[must_use]
pub fn basic(user: &str, password: &str) -> String {
    format!(
        "Basic {}",
        BASE64_STANDARD.encode(format!("{user}:{password}"))
    )
}

/// `Wed, 21 Oct 2015 07:28:00 GMT`, in seconds since 1970.
#[must_use]
pub fn parse_date(text: &str) -> Option<i64> {
    Some(OffsetDateTime::parse(text, &Rfc2822).ok()?.unix_timestamp())
}
