//! What the command line asks for: plain data.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use rctr_storage::manifest::Platform;
use rctr_storage::record::Ulimit;
use rctr_storage::reference::Reference;
use rctr_storage::transfer::Compression;

use crate::plan::RunNetwork;

/// What to build.
#[derive(Debug, Clone, Default)]
pub struct BuildRequest {
    /// `--target`; `None`: the last stage.
    pub target: Option<String>,
    /// `--build-arg`, values found (`--build-arg NAME` takes the environment's; without one it is left out).
    pub build_args: BTreeMap<String, String>,
    /// `--platform`; `None`: this machine's.
    pub platform: Option<Platform>,
    /// `--platform` with several: everything is built for each, and comes together in an index. `platform` is `None` then.
    pub platforms: Vec<Platform>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `-t`.
    pub tags: Vec<Reference>,
    /// `--network`.
    pub network: RunNetwork,
    /// `--add-host`: (name, address or `host-gateway`).
    pub extra_hosts: Vec<(String, String)>,
    /// `--shm-size`; `None`: 64 MiB.
    pub shm_size: Option<u64>,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// `--secret`.
    pub secrets: BTreeMap<String, SecretSource>,
    /// `--ssh`: ID to socket of an agent, or files of keys.
    pub ssh: BTreeMap<String, Vec<PathBuf>>,
    /// `--build-context NAME=…`.
    pub contexts: BTreeMap<String, NamedContext>,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--no-cache-filter`: stages' names, lower case.
    pub no_cache_filter: Vec<String>,
    /// `--pull`.
    pub pull: bool,
    /// `--squash`.
    pub squash: bool,
    /// `--cache-from`.
    pub cache_from: Vec<CachePlace>,
    /// `--cache-to`.
    pub cache_to: Vec<CacheTo>,
    /// `--jobs`: steps that run at once; 0: no limit.
    pub jobs: usize,
    /// `SOURCE_DATE_EPOCH`: seconds since 1970 that all times in image and layers become.
    pub epoch: Option<i64>,
    /// `--explain`.
    pub explain: bool,
    /// `--fail-on-miss`.
    pub fail_on_miss: bool,
    /// `--allow security.insecure`.
    pub allow_insecure: bool,
    /// What is made of values that look like secrets.
    pub baked_secrets: BakedSecrets,
}

/// Where a cache travels to or from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachePlace {
    /// A directory, which becomes an OCI image layout.
    Local(PathBuf),
    /// An image's name; to read from, also an image that carries its cache inside.
    Registry(Reference),
    /// Inside the image that is built. Only to write to.
    Inline,
}

impl fmt::Display for CachePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(dir) => write!(f, "local:{}", dir.display()),
            Self::Registry(name) => name.fmt(f),
            Self::Inline => f.write_str("the image"),
        }
    }
}

/// Bytes of layers in a cache, where nothing is said: 10 GB.
pub const CACHE_SIZE: u64 = 10_000_000_000;

/// `--cache-to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTo {
    /// Where to.
    pub place: CachePlace,
    /// What goes along.
    pub mode: CacheMode,
    /// How layers are compressed; `None`: they aren't.
    pub compression: Option<(Compression, Option<i32>)>,
    /// Whether the content of cache mounts goes along.
    pub mounts: bool,
    /// Bytes of all layers together: what was used longest ago is left out.
    pub max_size: u64,
    /// That it can't be written doesn't fail the build.
    pub ignore_error: bool,
}

/// Which steps a cache has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// Those of the target.
    #[default]
    Min,
    /// Those of all stages.
    Max,
}

/// What happens when a value that looks like a secret would be baked into the image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BakedSecrets {
    /// A warning.
    #[default]
    Warn,
    /// An error.
    Refuse,
}

/// Where a secret's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file.
    File(PathBuf),
    /// The value of an environment variable, read already.
    Value(Vec<u8>),
}

/// What `--build-context NAME=` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory.
    Directory(PathBuf),
    /// `docker-image://REF`, or the name of another stage's replacement: an image of the store.
    Image(String),
}
