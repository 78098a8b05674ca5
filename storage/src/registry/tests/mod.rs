//! The client with servers that do what real ones do seldom.

mod login;
mod pull;
mod push;
mod server;
mod trouble;

use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::digest::Digest;
use crate::manifest::{Descriptor, OCI_LAYER, OCI_MANIFEST};
use crate::transfer::{BlobContent, PlaceFailure, Put, RawManifest, Source, Target};
use server::{Reply, Request, Server, refusal, reply};

/// Credentials by registry; those who ask are counted.
#[derive(Default)]
struct Kept {
    credential: Option<Credential>,
    asked: Mutex<Vec<String>>,
}

impl Credentials for Kept {
    fn find(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Credential>, CredentialError> {
        let mut asked = self.asked.lock().unwrap();
        asked.push(format!("{registry} {repository}"));
        Ok(self.credential.clone())
    }
}

fn user(name: &str, password: &str) -> Credential {
    Credential::Basic {
        user: name.to_owned(),
        password: Secret::new(password),
    }
}

/// Patience for tests.
fn settings() -> Settings {
    Settings {
        web: web::Settings {
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(5),
            ..web::Settings::default()
        },
        retries: Retries {
            first_wait: Duration::from_millis(1),
            ..Retries::default()
        },
        ..Settings::default()
    }
}

fn logged_in(credential: Option<Credential>) -> (Settings, Arc<Kept>) {
    let kept = Arc::new(Kept {
        credential,
        ..Kept::default()
    });
    let settings = Settings {
        credentials: Arc::clone(&kept) as Arc<dyn Credentials>,
        ..settings()
    };
    (settings, kept)
}

/// `a:1` at a server.
fn repository(settings: Settings, server: &Server, access: Access) -> Repository {
    let name = Reference::parse(&format!("{}/a:1", server.address)).unwrap();
    Client::new(settings).repository(&name, access).unwrap()
}

fn pulling(server: &Server) -> Repository {
    repository(settings(), server, Access::Pull)
}

fn pushing(server: &Server) -> Repository {
    repository(settings(), server, Access::Push)
}

const MANIFEST: &str = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;

fn manifest() -> Reply {
    reply(200, MANIFEST).with("Content-Type", format!("{OCI_MANIFEST}; charset=utf-8"))
}

fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor::new(OCI_LAYER, Digest::of(bytes), bytes.len() as u64)
}

fn read(stream: crate::transfer::BlobStream) -> io::Result<(u64, Vec<u8>)> {
    let mut bytes = Vec::new();
    let offset = stream.offset;
    let mut reader = stream.bytes;
    reader.read_to_end(&mut bytes)?;
    Ok((offset, bytes))
}

/// What a [`PlaceError`](crate::transfer::PlaceError) says and advises.
fn said(error: &dyn PlaceFailure) -> (String, String) {
    (error.to_string(), error.hint().unwrap_or_default())
}

/// Bytes in memory.
struct Bytes(Vec<u8>);

impl BlobContent for Bytes {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let rest = self.0[usize::try_from(offset).unwrap()..].to_vec();
        Ok(Box::new(io::Cursor::new(rest)))
    }
}
