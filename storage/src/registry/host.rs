//! One server: requests to it, with authentication, redirects and retries.

use std::io::{self, Read};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use super::auth::{Auth, Login, TokenRequest};
use super::challenge::Challenge;
use super::error::{Refusal, Untrusted};
use super::retry::{Retries, retry_after};
use super::{RegistryError, Secret, certs};
use crate::transfer::PlaceFailure;
use crate::web::{
    Body, HeaderMap, HeaderName, Method, Payload, Response, StatusCode, TlsFault, Url, Web,
    WebError, header,
};

/// Redirects that are followed one after the other.
const REDIRECTS: usize = 10;
/// Bytes of an answer that says no, or that a token server gives.
const ANSWER_LIMIT: u64 = 1 << 20;

/// Whether a server must be who it says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Security {
    /// https with a certificate that is good.
    Verified,
    /// The same, or plain http: on this machine.
    Local,
    /// https with whatever certificate, or plain http.
    Insecure,
}

/// Webs that trust what is in certs.d for a server.
pub(super) type WebOf =
    Arc<dyn Fn(&str, Security) -> Result<Arc<Web>, RegistryError> + Send + Sync>;

/// A server with the distribution protocol.
pub(super) struct Host {
    /// As in references: `docker.io`.
    pub(super) name: String,
    /// As it is reached: `registry-1.docker.io`.
    address: String,
    security: Security,
    web_of: WebOf,
    retries: Retries,
    auth: Auth,
    /// `https`, `http`: found out once.
    scheme: OnceLock<&'static str>,
    /// For messages.
    certs_dir: std::path::PathBuf,
}

/// A request.
#[derive(Clone)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) content: Content<'a>,
    /// Whose credential is shown.
    pub(super) repository: &'a str,
    /// What a token is asked for.
    pub(super) scopes: &'a [String],
    /// Whether a failure may be tried again here.
    pub(super) retried: bool,
}

/// What goes with a request.
#[derive(Clone, Copy)]
pub(super) enum Content<'a> {
    None,
    Bytes(&'a [u8]),
    /// Opens a stream, which is sent as so many bytes.
    Stream(&'a dyn Fn() -> io::Result<Box<dyn Read + 'a>>, u64),
}

impl<'a> Ask<'a> {
    /// A GET.
    pub(super) fn get(url: Url, repository: &'a str, scopes: &'a [String]) -> Self {
        Self {
            method: Method::GET,
            url,
            headers: Vec::new(),
            content: Content::None,
            repository,
            scopes,
            retried: true,
        }
    }

    pub(super) fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn content(mut self, content: Content<'a>) -> Self {
        self.content = content;
        self
    }

    pub(super) fn once(mut self) -> Self {
        self.retried = false;
        self
    }

    /// For messages.
    pub(super) fn shown(&self) -> String {
        format!("{} {}", self.method, self.url.path())
    }
}

/// What came.
pub(super) struct Answer {
    pub(super) response: Response<Body>,
    /// Whose it is, after redirects.
    pub(super) url: Url,
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// A header that is text.
    pub(super) fn text(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// As the server said.
    pub(super) fn length(&self) -> Option<u64> {
        self.text(header::CONTENT_LENGTH)?.parse().ok()
    }
}

impl Host {
    pub(super) fn new(
        name: &str,
        security: Security,
        login: Login,
        web_of: WebOf,
        retries: Retries,
        certs_dir: std::path::PathBuf,
    ) -> Self {
        let address = match name {
            // The registry of that name is elsewhere.
            "docker.io" => "registry-1.docker.io",
            name => name,
        };
        Self {
            name: name.to_owned(),
            address: address.to_owned(),
            security,
            web_of,
            retries,
            auth: Auth::new(name, login),
            scheme: OnceLock::new(),
            certs_dir,
        }
    }

    /// The URL of a path that begins with a slash.
    pub(super) fn url(&self, path: &str) -> Result<Url, RegistryError> {
        let scheme = self.scheme()?;
        Ok(Url::parse(&format!("{scheme}://{}{path}", self.address))?)
    }

    /// Whether there was a credential for what the server asked for.
    pub(super) fn is_logged_in(&self, repository: &str) -> bool {
        self.auth.is_logged_in(repository)
    }

    /// Whether it was shown user and password, and doesn't know them.
    pub(super) fn is_wrong_password(&self, repository: &str, status: StatusCode) -> bool {
        let unknown = status == StatusCode::UNAUTHORIZED;
        unknown && self.auth.is_basic() && self.is_logged_in(repository)
    }

    /// How long to wait after the attempt `number` has failed; `None`: it isn't tried again.
    pub(super) fn retry_wait(&self, number: u32, asked: Option<Duration>) -> Option<Duration> {
        self.retries.wait(number, asked)
    }

    /// https, if it speaks that; plain http where it is allowed.
    fn scheme(&self) -> Result<&'static str, RegistryError> {
        if self.security == Security::Verified {
            return Ok("https");
        }
        if let Some(scheme) = self.scheme.get() {
            return Ok(scheme);
        }
        let mut attempt = 1;
        loop {
            let failure = match self.probe() {
                Ok(scheme) => return Ok(self.scheme.get_or_init(|| scheme)),
                Err(error) => error,
            };
            let wait = self.retries.wait(attempt, None);
            let wait = wait.filter(|_| failure.is_transient());
            match wait {
                Some(wait) => thread::sleep(wait),
                None => return Err(failure),
            }
            attempt += 1;
        }
    }

    /// Which of the two it speaks, when it answers at all.
    fn probe(&self) -> Result<&'static str, RegistryError> {
        let web = (self.web_of)(&self.address, self.security)?;
        let ask = |scheme| {
            let url = Url::parse(&format!("{scheme}://{}/v2/", self.address))?;
            web.send(Method::GET, &url, &[], Payload::None)
        };
        match ask("https") {
            Ok(_) => Ok("https"),
            Err(WebError::Tls {
                fault: TlsFault::NotTls,
                ..
            }) => Ok("http"),
            Err(error) if error.is_transient() => match ask("http")?.status() {
                // So do servers of https answer to http: something else was wrong with https.
                StatusCode::BAD_REQUEST => Err(error.into()),
                _ => Ok("http"),
            },
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Sends a request, shows who we are when that is wanted, follows redirects, and tries again what may work then.
    /// Whatever status comes in the end is returned, but 401 and 429.
    pub(super) fn send(&self, ask: &Ask<'_>) -> Result<Answer, RegistryError> {
        let mut attempt = 1;
        loop {
            let result = self.send_with_login(ask);
            let (busy, asked) = match &result {
                Ok(answer) => (is_busy(answer.status()), retry_after(answer.headers())),
                Err(error) => (error.is_passing(), error.asked_wait()),
            };
            let wait = match busy && ask.retried {
                true => self.retries.wait(attempt, asked),
                false => None,
            };
            match (wait, result) {
                (Some(wait), _) => thread::sleep(wait),
                (None, Ok(answer)) if answer.status() == StatusCode::TOO_MANY_REQUESTS => {
                    return Err(RegistryError::RateLimited {
                        registry: self.name.clone(),
                        wait: asked,
                        said: self.refusal(answer).said,
                    });
                }
                (None, Err(RegistryError::Web(error))) => return Err(self.failed(error)),
                (None, result) => return result,
            }
            attempt += 1;
        }
    }

    /// Sends a request to a server that is nobody's registry.
    pub(super) fn send_anonymously(&self, ask: &Ask<'_>) -> Result<Answer, RegistryError> {
        self.follow(ask, None)
    }

    fn send_with_login(&self, ask: &Ask<'_>) -> Result<Answer, RegistryError> {
        // The registry may have sent us elsewhere, to upload for example.
        if !ask.url.same_server(&self.url("/")?) {
            return self.send_anonymously(ask);
        }
        let fetch = |request| self.fetch_token(request);
        let mut shown = self.auth.header(ask.repository, ask.scopes, &fetch)?;
        // Once with what was good before, once with what is asked for now.
        for last in [false, true] {
            let answer = self.follow(ask, shown.as_ref())?;
            let is_ours = answer.url.same_server(&ask.url);
            if answer.status() != StatusCode::UNAUTHORIZED || !is_ours || last {
                return Ok(answer);
            }
            let Some(challenge) = Challenge::of(answer.headers()) else {
                return Ok(answer);
            };
            let auth = &self.auth;
            if !auth.challenged(challenge, ask.repository, ask.scopes, shown.as_ref())? {
                return Ok(answer);
            }
            drop(answer);
            shown = self.auth.header(ask.repository, ask.scopes, &fetch)?;
        }
        unreachable!("the last answer is returned")
    }

    /// Sends it, and follows redirects of GET and HEAD. Credentials never go to another server.
    fn follow(&self, ask: &Ask<'_>, shown: Option<&Secret>) -> Result<Answer, RegistryError> {
        let mut url = ask.url.clone();
        for _ in 0..=REDIRECTS {
            let authorization = shown.filter(|_| url.same_server(&ask.url));
            let response = self.request(ask, &url, authorization)?;
            let location = response.headers().get(header::LOCATION);
            let is_read = matches!(ask.method, Method::GET | Method::HEAD);
            let location = location.filter(|_| is_read && response.status().is_redirection());
            let Some(location) = location else {
                return Ok(Answer { response, url });
            };
            let to = url.join(&String::from_utf8_lossy(location.as_bytes()))?;
            if url.is_https() && !to.is_https() {
                return Err(RegistryError::Downgrade {
                    url: url.without_query(),
                    to: to.without_query(),
                });
            }
            url = to;
        }
        Err(RegistryError::Redirects {
            url: ask.url.without_query(),
            limit: REDIRECTS,
        })
    }

    fn request(
        &self,
        ask: &Ask<'_>,
        url: &Url,
        authorization: Option<&Secret>,
    ) -> Result<Response<Body>, RegistryError> {
        let web = self.web_for(url)?;
        let mut headers: Vec<(HeaderName, &str)> = ask
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str()))
            .collect();
        headers.extend(authorization.map(|secret| (header::AUTHORIZATION, secret.expose())));
        let method = ask.method.clone();
        Ok(match ask.content {
            Content::None => web.send(method, url, &headers, Payload::None)?,
            Content::Bytes(bytes) => web.send(method, url, &headers, Payload::Bytes(bytes))?,
            Content::Stream(open, length) => {
                let mut stream = Unread::open(open);
                let sent = web.send(method, url, &headers, Payload::Stream(&mut stream, length));
                match stream.failure.take() {
                    // What the web says of it is only that something broke.
                    Some(source) => return Err(RegistryError::Content { source }),
                    None => sent?,
                }
            }
        })
    }

    /// The one that trusts what is to be trusted for a URL: ours, or another server's.
    fn web_for(&self, url: &Url) -> Result<Arc<Web>, RegistryError> {
        let authority = url.authority();
        if authority == self.address {
            return (self.web_of)(&self.address, self.security);
        }
        let security = match self.security {
            Security::Insecure => Security::Insecure,
            Security::Local | Security::Verified => Security::Verified,
        };
        (self.web_of)(authority, security)
    }

    /// Asks a token server.
    fn fetch_token(&self, request: TokenRequest) -> Result<Vec<u8>, RegistryError> {
        let has_secret = request.authorization.is_some() || request.form.is_some();
        if has_secret && self.scheme()? == "https" && !request.url.is_https() {
            return Err(RegistryError::OpenRealm {
                registry: self.name.clone(),
                realm: request.url.without_query(),
            });
        }
        let mut ask = Ask::get(request.url, "", &[]);
        if let Some(form) = &request.form {
            let form_type = "application/x-www-form-urlencoded";
            ask = ask
                .method(Method::POST)
                .header(header::CONTENT_TYPE, form_type)
                .content(Content::Bytes(form.expose().as_bytes()));
        }
        let answer = self.follow(&ask, request.authorization.as_ref())?;
        match answer.status() {
            status if status.is_success() => self.read(answer, ANSWER_LIMIT),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if has_secret => {
                Err(RegistryError::WrongPassword {
                    registry: self.name.clone(),
                })
            }
            // Some token servers answer so to a refresh token that has been revoked (RFC 6749, 5.2).
            StatusCode::BAD_REQUEST if request.form.is_some() => {
                Err(RegistryError::WrongPassword {
                    registry: self.name.clone(),
                })
            }
            StatusCode::UNAUTHORIZED => Err(RegistryError::LoginWanted {
                registry: self.name.clone(),
            }),
            StatusCode::TOO_MANY_REQUESTS => Err(RegistryError::RateLimited {
                registry: self.name.clone(),
                wait: retry_after(answer.headers()),
                said: self.refusal(answer).said,
            }),
            status => Err(RegistryError::Status {
                registry: self.name.clone(),
                status: status.as_u16(),
                request: format!("{} {}", ask.method, ask.url.without_query()),
                said: self.refusal(answer).said,
            }),
        }
    }

    /// The whole body.
    pub(super) fn read(&self, answer: Answer, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let long = || RegistryError::LongAnswer {
            registry: self.name.clone(),
            limit,
        };
        if answer.length().is_some_and(|length| length > limit) {
            return Err(long());
        }
        let mut bytes = Vec::new();
        let body = answer.response.into_body().into_with_config();
        let mut body = body.limit(u64::MAX).reader().take(limit + 1);
        let read = body.read_to_end(&mut bytes);
        read.map_err(|source| RegistryError::Interrupted {
            registry: self.name.clone(),
            source,
        })?;
        match bytes.len() as u64 > limit {
            true => Err(long()),
            false => Ok(bytes),
        }
    }

    /// What it says when it says no. The body is of use only if it is short.
    pub(super) fn refusal(&self, answer: Answer) -> Refusal {
        match self.read(answer, ANSWER_LIMIT) {
            Ok(body) => Refusal::parse(&body),
            Err(_) => Refusal::default(),
        }
    }

    /// An answer that is of no use.
    pub(super) fn unexpected(&self, ask: &Ask<'_>, answer: Answer) -> RegistryError {
        let is_ours = answer.url.same_server(&ask.url);
        if is_ours && answer.status() == StatusCode::UNAUTHORIZED {
            let registry = self.name.clone();
            return match self.is_logged_in(ask.repository) {
                true => RegistryError::WrongPassword { registry },
                false => RegistryError::LoginWanted { registry },
            };
        }
        RegistryError::Status {
            registry: self.name.clone(),
            status: answer.status().as_u16(),
            request: ask.shown(),
            said: self.refusal(answer).said,
        }
    }

    /// Errors of TLS have a remedy for registries.
    fn failed(&self, error: WebError) -> RegistryError {
        match error {
            WebError::Tls {
                fault: TlsFault::NotTls,
                ..
            } if self.security == Security::Verified => RegistryError::PlainHttp {
                registry: self.name.clone(),
            },
            WebError::Tls { .. } | WebError::NoCertificates { .. } => {
                let dir = self.certs_dir.join(certs::directory(&self.name));
                RegistryError::Certificate(Untrusted {
                    error,
                    authority: dir.join("ca.crt"),
                })
            }
            error => RegistryError::Web(error),
        }
    }
}

/// A stream that keeps its error, which the web would take for its own.
struct Unread<'a> {
    stream: Option<Box<dyn Read + 'a>>,
    failure: Option<io::Error>,
}

impl<'a> Unread<'a> {
    fn open(open: &dyn Fn() -> io::Result<Box<dyn Read + 'a>>) -> Self {
        match open() {
            Ok(stream) => Self {
                stream: Some(stream),
                failure: None,
            },
            Err(error) => Self {
                stream: None,
                failure: Some(error),
            },
        }
    }
}

impl Read for Unread<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let stopped = || io::Error::other("the content can't be read");
        let stream = self.stream.as_mut().ok_or_else(stopped)?;
        stream.read(buffer).map_err(|error| {
            self.failure = Some(error);
            stopped()
        })
    }
}

fn is_busy(status: StatusCode) -> bool {
    let temporary = [
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ];
    temporary.contains(&status)
}
