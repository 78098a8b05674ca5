//! Showing a server who we are: basic authentication and distribution's tokens.
//!
//! Nothing is shown before a server asks. A token is kept per scope until it expires; threads that want the same one wait
//! for it. Passwords go to the registry itself, or to the token server that it names: nowhere else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::challenge::Challenge;
use super::{Credential, Credentials, RegistryError, Secret};
use crate::web::{Url, basic};

/// How long a token is good when its server doesn't say (distribution's token specification).
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
/// A token isn't used in the last part of its life: clocks and networks are slow.
const MARGIN: Duration = Duration::from_secs(5);
/// What we call ourselves to a token server.
const CLIENT_ID: &str = "rctr";

/// Where credentials come from.
#[derive(Clone)]
pub(super) enum Login {
    /// From those that are kept, for this registry's name.
    Kept(Arc<dyn Credentials>),
    /// These, and no others.
    Given(Option<Credential>),
}

/// What one server has asked for, and what it was shown.
pub(super) struct Auth {
    /// As in references.
    registry: String,
    login: Login,
    /// By repository: looked up once.
    credentials: Mutex<HashMap<String, Option<Credential>>>,
    /// Its last challenge.
    asked: Mutex<Option<Challenge>>,
    tokens: Mutex<HashMap<String, Arc<Mutex<Option<Token>>>>>,
}

#[derive(Clone)]
struct Token {
    value: Secret,
    until: Instant,
}

/// What is asked of a token server.
pub(super) struct TokenRequest {
    /// With its query.
    pub(super) url: Url,
    /// `Authorization`.
    pub(super) authorization: Option<Secret>,
    /// To be posted; `None`: a GET.
    pub(super) form: Option<Secret>,
}

impl Auth {
    pub(super) fn new(registry: &str, login: Login) -> Self {
        Self {
            registry: registry.to_owned(),
            login,
            credentials: Mutex::default(),
            asked: Mutex::default(),
            tokens: Mutex::default(),
        }
    }

    /// The header for a request, as far as we know what is wanted. `fetch` asks a token server.
    pub(super) fn header(
        &self,
        repository: &str,
        scopes: &[String],
        fetch: &dyn Fn(TokenRequest) -> Result<Vec<u8>, RegistryError>,
    ) -> Result<Option<Secret>, RegistryError> {
        let asked = lock(&self.asked).clone();
        match asked {
            None => Ok(None),
            Some(Challenge::Basic) => match self.credential(repository)? {
                Some(Credential::Basic { user, password }) => {
                    Ok(Some(Secret::new(basic(&user, password.expose()))))
                }
                Some(Credential::IdentityToken(token)) => {
                    Ok(Some(Secret::new(format!("Bearer {}", token.expose()))))
                }
                None => Ok(None),
            },
            Some(Challenge::Bearer {
                realm,
                service,
                scopes: wanted,
            }) => {
                // What the server names last is of another request, perhaps: of use only when we don't know.
                let scopes = if scopes.is_empty() { &wanted } else { scopes };
                let token = self.token(&realm, service.as_deref(), repository, scopes, fetch)?;
                Ok(Some(Secret::new(format!("Bearer {}", token.expose()))))
            }
        }
    }

    /// The server doesn't take what `shown` is, and asks for this. Returns whether there is something else to show.
    pub(super) fn challenged(
        &self,
        challenge: Challenge,
        repository: &str,
        scopes: &[String],
        shown: Option<&Secret>,
    ) -> Result<bool, RegistryError> {
        let is_bearer = matches!(challenge, Challenge::Bearer { .. });
        if let Challenge::Bearer { scopes: wanted, .. } = &challenge {
            let scopes = if scopes.is_empty() { wanted } else { scopes };
            let slot = lock(&self.tokens).get(&scopes.join(" ")).cloned();
            // Another thread may have a new one already.
            if let (Some(slot), Some(shown)) = (slot, shown) {
                let mut token = lock(&slot);
                let is_same = |token: &Token| shown.expose().ends_with(token.value.expose());
                if token.as_ref().is_some_and(is_same) {
                    *token = None;
                }
            }
        }
        *lock(&self.asked) = Some(challenge);
        Ok(is_bearer || shown.is_none() && self.credential(repository)?.is_some())
    }

    /// Whether there is a credential for it; none is looked up for that.
    pub(super) fn is_logged_in(&self, repository: &str) -> bool {
        let credentials = lock(&self.credentials);
        credentials.get(repository).is_some_and(Option::is_some)
    }

    /// Whether the server has asked for user and password with each request.
    pub(super) fn is_basic(&self) -> bool {
        matches!(*lock(&self.asked), Some(Challenge::Basic))
    }

    fn credential(&self, repository: &str) -> Result<Option<Credential>, RegistryError> {
        let mut known = lock(&self.credentials);
        if let Some(credential) = known.get(repository) {
            return Ok(credential.clone());
        }
        let found = match &self.login {
            Login::Given(credential) => credential.clone(),
            Login::Kept(kept) => kept.find(&self.registry, repository).map_err(|source| {
                RegistryError::Credentials {
                    registry: self.registry.clone(),
                    source,
                }
            })?,
        };
        known.insert(repository.to_owned(), found.clone());
        Ok(found)
    }

    fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        repository: &str,
        scopes: &[String],
        fetch: &dyn Fn(TokenRequest) -> Result<Vec<u8>, RegistryError>,
    ) -> Result<Secret, RegistryError> {
        let slot = {
            let mut tokens = lock(&self.tokens);
            Arc::clone(tokens.entry(scopes.join(" ")).or_default())
        };
        let mut kept = lock(&slot);
        if let Some(token) = kept.as_ref().filter(|token| Instant::now() < token.until) {
            return Ok(token.value.clone());
        }
        let credential = self.credential(repository)?;
        let request = token_request(realm, service, scopes, credential.as_ref())?;
        let asked = Instant::now();
        let token =
            parse_token(&fetch(request)?, asked).ok_or_else(|| RegistryError::Protocol {
                registry: self.registry.clone(),
                what: "its token server's answer has no token".to_owned(),
            })?;
        let value = token.value.clone();
        *kept = Some(token);
        Ok(value)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in it is whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A GET with user and password or without, or a POST with a refresh token.
fn token_request(
    realm: &str,
    service: Option<&str>,
    scopes: &[String],
    credential: Option<&Credential>,
) -> Result<TokenRequest, RegistryError> {
    let mut url = Url::parse(realm)?;
    if let Some(Credential::IdentityToken(refresh)) = credential {
        let scope = scopes.join(" ");
        let mut fields = vec![
            ("grant_type", "refresh_token"),
            ("client_id", CLIENT_ID),
            ("refresh_token", refresh.expose()),
        ];
        fields.extend(service.map(|service| ("service", service)));
        if !scope.is_empty() {
            fields.push(("scope", &scope));
        }
        return Ok(TokenRequest {
            url,
            authorization: None,
            form: Some(Secret::new(crate::web::form(&fields))),
        });
    }
    if let Some(service) = service {
        url = url.with_parameter("service", service)?;
    }
    for scope in scopes {
        url = url.with_parameter("scope", scope)?;
    }
    let mut authorization = None;
    if let Some(Credential::Basic { user, password }) = credential {
        url = url.with_parameter("account", user)?;
        authorization = Some(Secret::new(basic(user, password.expose())));
    }
    url = url.with_parameter("client_id", CLIENT_ID)?;
    Ok(TokenRequest {
        url,
        authorization,
        form: None,
    })
}

/// Its life begins when it was asked for, so that a wrong clock of ours or theirs doesn't matter.
fn parse_token(bytes: &[u8], asked: Instant) -> Option<Token> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        token: String,
        #[serde(default)]
        access_token: String,
        expires_in: Option<u64>,
    }
    let answer: Answer = serde_json::from_slice(bytes).ok()?;
    let value = match answer.token.is_empty() {
        true => answer.access_token,
        false => answer.token,
    };
    let is_token = |c: u8| c.is_ascii_graphic();
    if value.is_empty() || !value.bytes().all(is_token) {
        return None;
    }
    let life = answer.expires_in.filter(|&seconds| seconds > 0);
    let life = life.map_or(DEFAULT_LIFETIME, |seconds| {
        Duration::from_secs(seconds.min(86400))
    });
    Some(Token {
        value: Secret::new(value),
        until: asked + life.saturating_sub(MARGIN.min(life / 2)),
    })
}
