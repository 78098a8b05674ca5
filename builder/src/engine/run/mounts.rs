//! RUN --mount: what the step asks for and what the engine has found, as mounts of the sandbox.

use std::fs;
use std::path::{Path, PathBuf};

use rctr_runtime::plan::{Content, Driver, MountOp, Tree};
use rctr_storage::Store;
use rctr_storage::atomic::Durability;

use super::error::READ_SECRET;
use super::ssh::{self, Forwarding};
use super::{RunError, RunOrder, Source, make};
use crate::plan::RunMount;
use crate::request::SecretSource;

/// Most bytes of a secret, as with BuildKit.
const SECRET_LIMIT: usize = 500 << 10;

/// What the engine has found for a mount of the step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolvedMount {
    /// Of `type=bind`: where it comes from.
    Bind(Source),
    /// Of `type=cache`: the directory, with its owner and mode, which must stay locked as its sharing demands.
    Cache {
        /// On the host.
        path: PathBuf,
        /// What fills it if it is empty.
        seed: Option<Source>,
    },
    /// Of all others: the request knows the rest.
    Plain,
}

/// The mounts of a step.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) ops: Vec<MountOp>,
    /// Variables that they bring: `NAME=value`.
    pub(super) env: Vec<String>,
    /// While the step runs.
    forwardings: Vec<Forwarding>,
}

/// Everything that the mounts of the step need, made below `directory`.
pub(super) fn prepare(
    store: &Store,
    order: &RunOrder<'_>,
    directory: &Path,
) -> Result<Prepared, RunError> {
    let mut maker = Maker {
        store,
        order,
        directory,
        places: 0,
        prepared: Prepared::default(),
    };
    for (mount, found) in order.step.mounts.iter().zip(&order.mounts) {
        maker.mount(mount, found)?;
    }
    for file in &order.step.files {
        let content = file.content.clone().into_bytes();
        maker.file(&file.path, content, 0o755, (0, 0));
    }
    Ok(maker.prepared)
}

struct Maker<'a> {
    store: &'a Store,
    order: &'a RunOrder<'a>,
    directory: &'a Path,
    places: usize,
    prepared: Prepared,
}

impl Maker<'_> {
    fn mount(&mut self, mount: &RunMount, found: &ResolvedMount) -> Result<(), RunError> {
        match (mount, found) {
            (
                RunMount::Bind {
                    source,
                    target,
                    writable,
                    ..
                },
                ResolvedMount::Bind(from),
            ) => self.bind(from, source, target, *writable),
            (
                RunMount::Cache {
                    target,
                    read_only,
                    from,
                    ..
                },
                ResolvedMount::Cache { path, seed },
            ) => {
                let inside = from.as_ref().map_or("", |(_, source)| source);
                self.cache(path, seed.as_ref(), inside, target, *read_only)
            }
            (RunMount::Tmpfs { target, size }, _) => {
                let size = match size {
                    0 => String::new(),
                    bytes => format!(",size={bytes}"),
                };
                self.prepared.ops.push(MountOp::Tmpfs {
                    target: target.clone(),
                    options: format!("exec,dev,mode=1777{size}"),
                });
                Ok(())
            }
            (RunMount::Secret { .. }, _) => self.secret(mount),
            (RunMount::Ssh { .. }, _) => self.ssh(mount),
            (RunMount::Bind { target, .. } | RunMount::Cache { target, .. }, _) => {
                let message = format!("nothing is known of the mount at {}", target.display());
                Err(RunError::Mount {
                    message,
                    hint: None,
                })
            }
        }
    }

    /// A new directory of ours.
    fn place(&mut self) -> Result<PathBuf, RunError> {
        let place = self.directory.join(format!("mount-{}", self.places));
        self.places += 1;
        make(&place)?;
        Ok(place)
    }

    fn tree(&mut self, from: &Source, source: &str) -> Result<Tree, RunError> {
        let mut layers = from.layers.clone();
        if layers.len() > 1 && self.order.driver != Driver::Overlay {
            layers = vec![self.flat(&layers)?];
        }
        let source = Path::new("/").join(source.trim_start_matches('/'));
        Ok(Tree {
            layers,
            shown: format!("{} of {}", source.display(), from.shown),
            source,
            place: self.place()?,
        })
    }

    /// A copy of the layers over each other, for hosts without overlay.
    fn flat(&mut self, layers: &[PathBuf]) -> Result<PathBuf, RunError> {
        let flat = self.place()?.join("flat");
        self.store
            .flatten(layers, &flat, Durability::None)
            .map_err(RunError::Layer)?;
        Ok(flat)
    }

    fn bind(
        &mut self,
        from: &Source,
        source: &str,
        target: &Path,
        writable: bool,
    ) -> Result<(), RunError> {
        let mut tree = self.tree(from, source)?;
        let scratch = match (writable, self.order.driver) {
            (false, _) => None,
            (true, Driver::Overlay) => Some(self.place()?),
            (true, _) => {
                let layers = std::mem::take(&mut tree.layers);
                Some(self.flat(&layers)?)
            }
        };
        self.prepared.ops.push(MountOp::Tree {
            tree,
            target: target.to_owned(),
            scratch,
        });
        Ok(())
    }

    fn cache(
        &mut self,
        path: &Path,
        seed: Option<&Source>,
        inside: &str,
        target: &Path,
        read_only: bool,
    ) -> Result<(), RunError> {
        let (source, target) = (path.to_owned(), target.to_owned());
        let op = match seed {
            Some(seed) => MountOp::Seeded {
                source,
                target,
                read_only,
                seed: self.tree(seed, inside)?,
            },
            None => MountOp::Bind {
                source,
                target,
                read_only,
                recursive: true,
                propagation: String::new(),
                chown: false,
            },
        };
        self.prepared.ops.push(op);
        Ok(())
    }

    fn file(&mut self, target: &Path, content: Vec<u8>, mode: u32, owner: (u32, u32)) {
        self.prepared.ops.push(MountOp::File {
            target: target.to_owned(),
            content: Content(content),
            mode,
            uid: owner.0,
            gid: owner.1,
            place: self.directory.join("files"),
        });
    }

    fn secret(&mut self, mount: &RunMount) -> Result<(), RunError> {
        let RunMount::Secret {
            id,
            target,
            env,
            required,
            mode,
            uid,
            gid,
        } = mount
        else {
            return Ok(());
        };
        let Some(source) = self.order.request.secrets.get(id) else {
            let remedy = format!("give it with --secret id={id},src=FILE");
            return not_given(*required, &format!("secret {id:?}"), remedy);
        };
        let content = secret(id, source)?;
        if let Some(name) = env {
            let value = String::from_utf8(content.clone()).ok();
            let Some(value) = value.filter(|value| !value.contains('\0')) else {
                return Err(RunError::Mount {
                    message: format!("secret {id:?} can't be a variable: it isn't text"),
                    hint: Some("mount it as a file, without env=".to_owned()),
                });
            };
            self.prepared.env.push(format!("{name}={value}"));
        }
        if let Some(target) = target {
            self.file(target, content, *mode, (*uid, *gid));
        }
        Ok(())
    }

    fn ssh(&mut self, mount: &RunMount) -> Result<(), RunError> {
        let RunMount::Ssh {
            id,
            target,
            required,
            mode,
            uid,
            gid,
        } = mount
        else {
            return Ok(());
        };
        let Some(sources) = self.order.request.ssh.get(id) else {
            let remedy = format!(
                "give one with --ssh {id} (the agent of SSH_AUTH_SOCK) or --ssh {id}=KEYFILE"
            );
            return not_given(*required, &format!("ssh agent {id:?}"), remedy);
        };
        let number = self.prepared.forwardings.len();
        let target = target
            .clone()
            .unwrap_or_else(|| PathBuf::from(format!("/run/buildkit/ssh_agent.{number}")));
        if number == 0 {
            let variable = format!("SSH_AUTH_SOCK={}", target.display());
            self.prepared.env.push(variable);
        }
        let place = self.place()?;
        let forwarding = ssh::forward(id, sources, &place, *mode, (*uid, *gid))?;
        self.prepared.ops.push(MountOp::Bind {
            source: forwarding.socket().to_owned(),
            target,
            read_only: false,
            recursive: false,
            propagation: String::new(),
            chown: false,
        });
        self.prepared.forwardings.push(forwarding);
        Ok(())
    }
}

/// A secret's bytes.
/// A mount whose content nobody gave is left out, unless it is required.
fn not_given(required: bool, what: &str, remedy: String) -> Result<(), RunError> {
    match required {
        false => Ok(()),
        true => Err(RunError::Mount {
            message: format!("{what} is required, and none was given"),
            hint: Some(remedy),
        }),
    }
}

fn secret(id: &str, source: &SecretSource) -> Result<Vec<u8>, RunError> {
    let content = match source {
        SecretSource::Value(value) => value.clone(),
        SecretSource::File(path) => fs::read(path).map_err(RunError::io(READ_SECRET, path))?,
    };
    if content.len() > SECRET_LIMIT {
        return Err(RunError::Mount {
            message: format!(
                "secret {id:?} is too big: {} bytes, {SECRET_LIMIT} at most",
                content.len()
            ),
            hint: Some("bring what is big in as a file of a build context".to_owned()),
        });
    }
    Ok(content)
}
