//! How registries are reached: settings and credentials, gathered from the environment and the files that containers' tools and
//! docker read.

use std::env;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use clap::{Arg, ArgMatches};
use rctr_builder::engine::Cause;
use rctr_storage::explain::Explain;
use rctr_storage::reference::Reference;
use rctr_storage::registry::{
    Access, Client, Credential, CredentialError, Credentials, RegistriesConf, Repository, Secret,
    Settings,
};

use crate::commands::words;
use crate::credentials::{Keys, Login};
use crate::report::{Failure, Refused};

/// A client, and who we are.
pub(crate) struct Registries {
    pub(crate) client: Client,
    pub(crate) keys: Arc<Keys>,
    conf: RegistriesConf,
}

impl Registries {
    /// As the environment says, and `--tls-verify`.
    ///
    /// # Errors
    /// When registries.conf is damaged.
    pub(crate) fn new(matches: &ArgMatches) -> Result<Self, Failure> {
        let on = |flag| matches.try_get_one::<bool>(flag).ok().flatten().copied();
        let verify = match on("insecure") {
            Some(true) => Some(false),
            _ => on("tls-verify"),
        };
        Self::with(verify)
    }

    /// As the environment says.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn of_environment() -> Result<Self, Failure> {
        Self::with(None)
    }

    fn with(tls_verify: Option<bool>) -> Result<Self, Failure> {
        let keys = Arc::new(keys());
        let dirs = Dirs::find();
        let conf = RegistriesConf::load(&dirs.conf)?;
        let settings = Settings {
            web: crate::web::settings(),
            conf: conf.clone(),
            certs_dirs: dirs.certs,
            credentials: Arc::clone(&keys) as Arc<dyn Credentials>,
            tls_verify,
            ..Settings::default()
        };
        Ok(Self {
            client: Client::new(settings),
            keys,
            conf,
        })
    }

    /// Where the image is that the user calls `word`, which is `name`: a short name with an alias is somewhere else than at docker's.
    /// Here it keeps the name that it was called by.
    ///
    /// # Errors
    /// When the alias is no name.
    pub(crate) fn meant(&self, word: &str, name: &Reference) -> Result<Reference, Failure> {
        let Some(alias) = short(word).and_then(|short| self.conf.alias(short)) else {
            return Ok(name.clone());
        };
        let place = Reference::parse_bare(alias).map_err(|error| {
            Failure::new(format!("the alias of {word} is no image: {error}"))
                .hint("it is in [aliases] of registries.conf: name = \"REGISTRY/PATH\"")
        })?;
        Ok(Reference {
            domain: place.domain,
            path: place.path,
            ..name.clone()
        })
    }

    /// Asks the programs that keep credentials before this process enters a user namespace, where they would not know their user.
    ///
    /// # Errors
    /// When one fails.
    pub(crate) fn prefetch(&self, reference: &Reference) -> Result<(), Failure> {
        Ok(self.keys.prefetch(&reference.domain, &reference.path)?)
    }
}

/// A name without a registry, without tag and digest: what can have an alias.
fn short(word: &str) -> Option<&str> {
    let name = word.split('@').next().unwrap_or(word);
    let name = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    };
    let first = name.split_once('/').map(|(first, _)| first);
    let is_registry = |first: &str| first == "localhost" || first.contains(['.', ':']);
    (!first.is_some_and(is_registry)).then_some(name)
}

/// For the caches of `build`: made when the first one is wanted, so that other builds don't read the settings.
#[derive(Default)]
pub(crate) struct Lazily {
    made: OnceLock<Registries>,
}

impl Lazily {
    /// The repository; credentials have been asked for then.
    ///
    /// # Errors
    /// When settings are damaged, or it isn't allowed.
    pub(crate) fn repository(&self, name: &Reference, access: Access) -> Result<Repository, Cause> {
        let failed = |failure: Failure| -> Cause { Box::new(Refused(failure)) };
        let registries = match self.made.get() {
            Some(made) => made,
            None => {
                let made = Registries::of_environment().map_err(failed)?;
                self.made.get_or_init(|| made)
            }
        };
        registries.prefetch(name).map_err(failed)?;
        let found = registries.client.repository(name, access);
        found.map_err(|error| -> Cause { Box::new(error) })
    }
}

/// Credentials as the environment says.
pub(crate) fn keys() -> Keys {
    Keys::new(|name| env::var_os(name))
}

impl Credentials for Keys {
    fn find(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Credential>, CredentialError> {
        let found = self
            .login(registry, repository)
            .map_err(|error| CredentialError {
                hint: error.hint(),
                message: error.to_string(),
                source: None,
            })?;
        Ok(found.map(|login| credential(&login)))
    }
}

/// As the client wants it.
pub(crate) fn credential(login: &Login) -> Credential {
    let secret = Secret::new(login.secret.clone());
    match login.is_token() {
        true => Credential::IdentityToken(secret),
        false => Credential::Basic {
            user: login.user.clone(),
            password: secret,
        },
    }
}

/// `--tls-verify`.
pub(crate) fn tls_verify() -> Arg {
    let help = "Want https with a certificate that is trusted (default true, but for loopback and where registries.conf says insecure)";
    words::on("tls-verify", None, help)
}

/// Where settings are, the most important first.
struct Dirs {
    conf: Vec<PathBuf>,
    certs: Vec<PathBuf>,
}

impl Dirs {
    fn find() -> Self {
        let dir = |name: &str| {
            let value = env::var_os(name).map(PathBuf::from);
            value.filter(|path| path.is_absolute())
        };
        let config =
            dir("XDG_CONFIG_HOME").or_else(|| dir("HOME").map(|home| home.join(".config")));
        let own = |name: &str| config.iter().map(|dir| dir.join(name)).collect::<Vec<_>>();
        let mut certs = own("rctr/certs.d");
        certs.extend(own("containers/certs.d"));
        certs.extend(["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from));
        let named = env::var_os("CONTAINERS_REGISTRIES_CONF").map(PathBuf::from);
        Self {
            conf: conf(named, own("containers/registries.conf")),
            certs,
        }
    }
}

/// containers-registries.conf(5): the user's file in place of the system's, then the directories beside both.
fn conf(named: Option<PathBuf>, own: Vec<PathBuf>) -> Vec<PathBuf> {
    let system = PathBuf::from("/etc/containers/registries.conf");
    let main = named.or_else(|| own.iter().find(|path| path.is_file()).cloned());
    let mut paths = vec![main.unwrap_or_else(|| system.clone())];
    let files = [system].into_iter().chain(own);
    paths.extend(files.map(|file| file.with_extension("conf.d")));
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_names_can_have_aliases() {
        for (word, want) in [
            ("debian", Some("debian")),
            ("debian:12", Some("debian")),
            ("team/app:1", Some("team/app")),
            ("docker.io/library/debian", None),
            ("localhost/app", None),
            ("host:5000/app:1", None),
        ] {
            assert_eq!(short(word), want, "{word}");
        }
    }
}
