//! `config.json` and `auth.json`: JSON objects of which we know a few keys, and keep all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value, json};

use super::{KeysError, Login, plain};

/// Nobody has so many credentials.
const LIMIT: u64 = 16 << 20;

/// Padding is written, and need not be there.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A file of credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) path: PathBuf,
    /// `config.json`, with `credsStore`.
    docker: bool,
}

impl Place {
    /// `config.json`.
    pub(super) fn docker(path: PathBuf) -> Self {
        Self { path, docker: true }
    }

    /// `auth.json`.
    pub(super) fn containers(path: PathBuf) -> Self {
        Self {
            path,
            docker: false,
        }
    }

    pub(super) fn is_docker(&self) -> bool {
        self.docker
    }
}

/// What a file says about a registry.
#[derive(Debug, PartialEq)]
pub(super) enum Entry {
    Login(Login),
    /// That program knows, by this key.
    Helper(String, String),
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct AuthFile {
    place: Place,
    content: Map<String, Value>,
}

impl AuthFile {
    /// What is there; nothing if it isn't, or is empty.
    pub(super) fn read(place: &Place) -> Result<Option<Self>, KeysError> {
        let path = &place.path;
        let cannot = |source| KeysError::Io {
            operation: "read",
            path: path.clone(),
            source,
        };
        let bytes = match fs::metadata(path) {
            Ok(meta) if meta.len() > LIMIT => {
                return Err(shape(place, "it is too large for a file of credentials"));
            }
            Ok(_) => fs::read(path).map_err(cannot)?,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(cannot(error)),
        };
        if bytes.trim_ascii().is_empty() {
            return Ok(Some(Self::empty(place)));
        }
        let value: Value = serde_json::from_slice(&bytes).map_err(|source| KeysError::Json {
            path: path.clone(),
            source,
        })?;
        let Value::Object(content) = value else {
            return Err(shape(place, "it must be a JSON object"));
        };
        Ok(Some(Self {
            place: place.clone(),
            content,
        }))
    }

    /// One that has yet to be written.
    pub(super) fn empty(place: &Place) -> Self {
        Self {
            place: place.clone(),
            content: Map::new(),
        }
    }

    /// What it says about `repository` of `registry`: the longest key that fits.
    pub(super) fn find(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Entry>, KeysError> {
        let mut scope = match repository {
            "" => plain(registry).to_owned(),
            path => format!("{}/{path}", plain(registry)),
        };
        loop {
            if let Some(entry) = self.entry(&scope)? {
                return Ok(Some(entry));
            }
            match scope.rfind('/') {
                Some(end) => scope.truncate(end),
                None => break,
            }
        }
        // Docker with a store of credentials asks it about every registry.
        let store = self.store()?;
        Ok(store.map(|name| Entry::Helper(name, super::key_of(plain(registry)))))
    }

    /// What stands under a key of that meaning.
    fn entry(&self, scope: &str) -> Result<Option<Entry>, KeysError> {
        for (key, name) in self.object("credHelpers")?.into_iter().flatten() {
            if plain(key) == scope {
                let name = name.as_str().ok_or_else(|| self.bad("credHelpers", key))?;
                return Ok(Some(Entry::Helper(name.to_owned(), key.clone())));
            }
        }
        for (key, value) in self.object("auths")?.into_iter().flatten() {
            if plain(key) == scope
                && let Some(login) = self.login(key, value)?
            {
                return Ok(Some(Entry::Login(login)));
            }
        }
        Ok(None)
    }

    /// `{"auth": base64(user:password), "identitytoken": …}`, or with the parts by name. None: a program has the rest.
    fn login(&self, key: &str, value: &Value) -> Result<Option<Login>, KeysError> {
        let text = |name: &str| {
            let text = value.get(name).and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        if let Some(secret) = text("identitytoken") {
            let user = String::new();
            return Ok(Some(Login { user, secret }));
        }
        if let Some(coded) = text("auth") {
            let plain = BASE64
                .decode(coded.trim())
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok());
            // Docker fills up with NUL bytes what others wrote.
            let pair = plain.as_deref().and_then(|pair| pair.split_once(':'));
            let (user, secret) = pair.ok_or_else(|| self.bad("auths", key))?;
            return Ok(Some(Login {
                user: user.to_owned(),
                secret: secret.trim_end_matches('\0').to_owned(),
            }));
        }
        Ok(match (text("username"), text("password")) {
            (Some(user), Some(secret)) => Some(Login { user, secret }),
            _ => None,
        })
    }

    /// The program that keeps what is kept under `key`.
    pub(super) fn helper(&self, key: &str) -> Result<Option<String>, KeysError> {
        if let Some(Entry::Helper(name, _)) = self.entry(plain(key))? {
            return Ok(Some(name));
        }
        self.store()
    }

    fn store(&self) -> Result<Option<String>, KeysError> {
        match self.content.get("credsStore").filter(|_| self.place.docker) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(name)) => Ok(Some(name.clone()).filter(|name| !name.is_empty())),
            Some(_) => Err(shape(&self.place, "\"credsStore\" must be a string")),
        }
    }

    /// Sets an entry; `None`: a program has it.
    pub(super) fn set(&mut self, key: &str, login: Option<&Login>) -> Result<(), KeysError> {
        let entry = match login {
            None => json!({}),
            Some(login) if login.is_token() => json!({ "identitytoken": login.secret }),
            Some(login) => {
                let pair = format!("{}:{}", login.user, login.secret);
                json!({ "auth": BASE64.encode(pair) })
            }
        };
        self.object("auths")?;
        let auths = self.content.entry("auths").or_insert_with(|| json!({}));
        if auths.is_null() {
            *auths = json!({});
        }
        if let Some(auths) = auths.as_object_mut() {
            auths.insert(key.to_owned(), entry);
        }
        Ok(())
    }

    /// Removes all entries of that meaning; whether there were any.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        let Some(auths) = self.content.get_mut("auths").and_then(Value::as_object_mut) else {
            return false;
        };
        let before = auths.len();
        auths.retain(|other, _| plain(other) != plain(key));
        auths.len() != before
    }

    /// Replaces the file, readable by nobody else. A symbolic link stays one.
    pub(super) fn write(&self) -> Result<(), KeysError> {
        let path = fs::canonicalize(&self.place.path).unwrap_or_else(|_| self.place.path.clone());
        let mut name = path.clone().into_os_string();
        name.push(format!(".{}.tmp", std::process::id()));
        let temp = PathBuf::from(name);
        let result = self.fill(&temp).and_then(|()| fs::rename(&temp, &path));
        result.map_err(|source| {
            // The error is the news.
            let _ = fs::remove_file(&temp);
            KeysError::Io {
                operation: "write",
                path,
                source,
            }
        })
    }

    fn fill(&self, path: &Path) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        // Docker indents by a tab.
        let mut text = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
        serde::Serialize::serialize(&self.content, &mut serializer)?;
        text.push(b'\n');
        file.write_all(&text)?;
        file.sync_all()
    }

    fn object(&self, name: &str) -> Result<Option<&Map<String, Value>>, KeysError> {
        match self.content.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(shape(
                &self.place,
                format!("{name:?} must be a JSON object"),
            )),
        }
    }

    fn bad(&self, part: &str, key: &str) -> KeysError {
        shape(
            &self.place,
            format!("the entry of {key} in {part:?} can't be read"),
        )
    }
}

fn shape(place: &Place, what: impl Into<String>) -> KeysError {
    KeysError::Shape {
        path: place.path.clone(),
        what: what.into(),
    }
}

/// No file there, nor a directory for it.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
