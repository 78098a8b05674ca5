//! What a registry has: tags, repositories, search; and whether it lets us in.

use serde::Deserialize;

use super::auth::Login;
use super::host::{Answer, Ask, Host};
use super::{Access, Client, Credential, RegistryError};
use crate::reference::Reference;
use crate::web::{StatusCode, Url, header};

/// Bytes of one page of a list.
const PAGE_LIMIT: u64 = 16 << 20;
/// Pages of a list: a registry that never ends is broken.
const PAGES: usize = 10_000;
/// Entries of a list, for the same reason.
const ENTRIES: usize = 1 << 20;
/// Tags or repositories that are asked for at once.
const PAGE_ENTRIES: &str = "1000";
/// docker.io is searched elsewhere than it is pulled from.
const HUB_SEARCH: &str = "index.docker.io";

/// A repository that a search has found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct SearchHit {
    /// As the registry calls it.
    pub name: String,
    /// One line; often empty.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub description: String,
    /// How many like it.
    #[serde(default)]
    pub star_count: u64,
    /// Curated by the registry's owner.
    #[serde(default)]
    pub is_official: bool,
    /// Built by the registry.
    #[serde(default)]
    pub is_automated: bool,
}

fn null_as_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Client {
    /// Whether `registry` (`docker.io`, `localhost:5000`) lets us in with this credential, or without one.
    ///
    /// # Errors
    /// When it doesn't, or can't be asked.
    pub fn ping(
        &self,
        registry: &str,
        credential: Option<&Credential>,
    ) -> Result<(), RegistryError> {
        let insecure = self.settings.conf.is_insecure(registry);
        let login = Login::Given(credential.cloned());
        // One of its own: nothing that others were shown or given counts.
        let host = self.new_host(registry, self.security(registry, insecure), login);
        let ask = Ask::get(host.url("/v2/")?, "", &[]);
        let answer = host.send(&ask)?;
        match answer.status() {
            StatusCode::OK => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(match credential {
                Some(_) => RegistryError::WrongPassword {
                    registry: registry.to_owned(),
                },
                None => RegistryError::LoginWanted {
                    registry: registry.to_owned(),
                },
            }),
            StatusCode::NOT_FOUND => Err(RegistryError::Protocol {
                registry: registry.to_owned(),
                what: "it has no /v2/".to_owned(),
            }),
            _ => Err(host.unexpected(&ask, answer)),
        }
    }

    /// All tags of a repository, as the registry orders them.
    ///
    /// # Errors
    /// When there is no such repository, or the registry can't be asked.
    pub fn tags(&self, name: &Reference) -> Result<Vec<String>, RegistryError> {
        #[derive(Deserialize)]
        struct Page {
            // null when there are none: docker-registry after the last was deleted.
            tags: Option<Vec<String>>,
        }
        let repository = self.repository(name, Access::Pull)?;
        let place = repository.registry();
        let first = place.url("tags/list")?.with_parameter("n", PAGE_ENTRIES)?;
        let mut tags = Vec::new();
        let mut ask = Ask::get(first, &place.path, &place.scopes);
        for _ in 0..PAGES {
            let answer = place.host.send(&ask)?;
            if answer.status() != StatusCode::OK {
                return Err(place.refused(name, Access::Pull, &ask, answer, || {
                    RegistryError::NoRepository {
                        name: name.familiar_name(),
                    }
                }));
            }
            let next = next_page(&answer, &ask.url);
            let page: Page = document(&place.host, answer)?;
            tags.extend(page.tags.unwrap_or_default());
            match next {
                Some(next) if tags.len() < ENTRIES => ask.url = next,
                Some(_) => break,
                None => return Ok(tags),
            }
        }
        Err(endless(&place.host))
    }

    /// At most `limit` repositories of `registry` that have to do with `term`: by its search where it has one, else those
    /// of its catalog that have `term` in their names.
    ///
    /// # Errors
    /// When it can't be searched or asked.
    pub fn search(
        &self,
        registry: &str,
        term: &str,
        limit: usize,
    ) -> Result<Vec<SearchHit>, RegistryError> {
        #[derive(Deserialize)]
        struct Found {
            #[serde(default)]
            results: Vec<SearchHit>,
        }
        let searched = match registry {
            "docker.io" => HUB_SEARCH,
            other => other,
        };
        let host = self.host(searched, self.settings.conf.is_insecure(registry));
        let url = host.url("/v1/search")?.with_parameter("q", term)?;
        let ask = Ask::get(url.with_parameter("n", &limit.to_string())?, "", &[]);
        let answer = host.send(&ask)?;
        match answer.status() {
            StatusCode::OK => {
                let mut found: Found = document(&host, answer)?;
                found.results.truncate(limit);
                Ok(found.results)
            }
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                self.search_catalog(&host, term, limit)
            }
            _ => Err(host.unexpected(&ask, answer)),
        }
    }

    fn search_catalog(
        &self,
        host: &Host,
        term: &str,
        limit: usize,
    ) -> Result<Vec<SearchHit>, RegistryError> {
        #[derive(Deserialize)]
        struct Page {
            repositories: Option<Vec<String>>,
        }
        let first = host
            .url("/v2/_catalog")?
            .with_parameter("n", PAGE_ENTRIES)?;
        let scopes = ["registry:catalog:*".to_owned()];
        let mut ask = Ask::get(first, "", &scopes);
        let mut hits = Vec::new();
        for _ in 0..PAGES {
            let answer = host.send(&ask)?;
            let no_search = || RegistryError::NoSearch {
                registry: host.name.clone(),
            };
            match answer.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => return Err(no_search()),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if host.is_logged_in("") => {
                    return Err(no_search());
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    return Err(RegistryError::LoginWanted {
                        registry: host.name.clone(),
                    });
                }
                _ => return Err(host.unexpected(&ask, answer)),
            }
            let next = next_page(&answer, &ask.url);
            let page: Page = document(host, answer)?;
            let names = page.repositories.unwrap_or_default().into_iter();
            hits.extend(
                names
                    .filter(|name| name.contains(term))
                    .map(|name| SearchHit {
                        name,
                        ..SearchHit::default()
                    }),
            );
            match next.filter(|_| hits.len() < limit) {
                Some(next) => ask.url = next,
                None => {
                    hits.truncate(limit);
                    return Ok(hits);
                }
            }
        }
        Err(endless(host))
    }
}

fn endless(host: &Host) -> RegistryError {
    RegistryError::Protocol {
        registry: host.name.clone(),
        what: "a list has no end".to_owned(),
    }
}

fn document<T: for<'de> Deserialize<'de>>(host: &Host, answer: Answer) -> Result<T, RegistryError> {
    let bytes = host.read(answer, PAGE_LIMIT)?;
    serde_json::from_slice(&bytes).map_err(|error| RegistryError::Protocol {
        registry: host.name.clone(),
        what: format!("a list isn't of the form that it should have ({error})"),
    })
}

/// `Link: </v2/x/tags/list?last=b&n=2>; rel="next"` (RFC 8288): of the same server, and another page than this one.
fn next_page(answer: &Answer, this: &Url) -> Option<Url> {
    let links = answer.headers().get_all(header::LINK).iter();
    let links = links.filter_map(|value| value.to_str().ok());
    let next = links.flat_map(|value| value.split(',')).find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|parameter| {
            let parameter = parameter.trim().to_lowercase().replace(['"', ' '], "");
            parameter == "rel=next"
        });
        is_next.then_some(target)
    });
    let next = this.join(next?).ok()?;
    (next.same_server(this) && next != *this).then_some(next)
}
