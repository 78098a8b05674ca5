//! `registries.conf`, version 2 (containers-registries.conf(5)): where images are instead of where their names say.

use crate::reference::Reference;

use super::{Access, RegistryError};

/// Why registries.conf can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {}

/// What the files say.
#[derive(Debug, Clone, Default)]
pub struct RegistriesConf {}

/// A place to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// The image there.
    pub(super) reference: Reference,
    /// Plain http or a bad certificate will do.
    pub(super) insecure: bool,
}

impl RegistriesConf {
    /// Whether plain http or a bad certificate will do for a registry.
    pub(super) fn is_insecure(&self, _registry: &str) -> bool {
        false
    }

    /// Where `name` is, in the order to be tried.
    pub(super) fn endpoints(
        &self,
        name: &Reference,
        _access: Access,
    ) -> Result<Vec<Endpoint>, RegistryError> {
        Ok(vec![Endpoint {
            reference: name.clone(),
            insecure: false,
        }])
    }
}
