//! Certificates by registry, as docker has them: `certs.d/HOST[:PORT]/` with authorities (`*.crt`) and pairs of ours
//! (`*.cert` and `*.key`).

use std::fs;
use std::path::{Path, PathBuf};

use super::RegistryError;
use crate::web::{Trust, TrustError};

/// The name of a registry's directory.
pub(super) fn directory(address: &str) -> &str {
    // Names come from references and URLs; neither has slashes in this place, but they might be made up.
    match address.contains('/') || address.starts_with('.') {
        true => "invalid",
        false => address,
    }
}

/// What is in the directories of `address`.
pub(super) fn trust(dirs: &[PathBuf], address: &str) -> Result<Trust, RegistryError> {
    let mut trust = Trust::default();
    for dir in dirs {
        add(&mut trust, &dir.join(directory(address))).map_err(|source| RegistryError::Certs {
            registry: address.to_owned(),
            source,
        })?;
    }
    Ok(trust)
}

fn add(trust: &mut Trust, dir: &Path) -> Result<(), TrustError> {
    let Ok(entries) = fs::read_dir(dir) else {
        // Hardly any registry has one; one that we may not read is as none, as with docker.
        return Ok(());
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => trust.add_authorities(&path)?,
            Some("cert") => trust.set_client(&path, &path.with_extension("key"))?,
            _ => {}
        }
    }
    Ok(())
}
