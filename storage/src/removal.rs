//! Removing images, by docker's rules.
//!
//! A name takes the tag away; the image goes with its last one, unless a container needs it. An ID takes the image
//! away with its tags, unless it has several (force does it) or is in use: by a stopped container (force does it), by a
//! running one, or by an image made from it (nothing does it). The ancestors without a name go with it.

use std::collections::HashSet;

use crate::container::Container;
use crate::digest::{DiffId, Digest, Hasher};
use crate::gc::{self, Freed};
use crate::image::{Image, ImageError, ImageSummary};
use crate::index::Catalog;
use crate::lock::StoreLock;
use crate::record::Status;
use crate::reference::Reference;
use crate::store::Store;

/// How `rmi` was asked to go about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveImage {
    /// `-f`.
    pub force: bool,
    /// `--no-prune`: nameless ancestors stay.
    pub keep_parents: bool,
}

/// Which images `image prune` is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneScope {
    /// Those without a name.
    Dangling,
    /// All that no container uses.
    Unused,
}

/// A line of `rmi`'s output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A tag or digest is gone.
    Untagged(String),
    /// An image (its ID) or a layer (its chainID) is gone.
    Deleted(Digest),
}

impl std::fmt::Display for Removed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Untagged(name) => write!(f, "Untagged: {name}"),
            Self::Deleted(digest) => write!(f, "Deleted: {digest}"),
        }
    }
}

/// What `image prune` did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// In order.
    pub removed: Vec<Removed>,
    /// Freed on the disk.
    pub bytes: u64,
}

impl Store {
    /// Removes a tag or an image, as `docker rmi`. Needs ids.
    ///
    /// # Errors
    /// When there is none, or docker's rules forbid it.
    pub fn remove_image(
        &self,
        name: &str,
        options: RemoveImage,
    ) -> Result<Vec<Removed>, ImageError> {
        self.session()?;
        let mut removal = Removal::begin(self)?;
        removal.remove(name, options)?;
        Ok(removal.finish()?.0)
    }

    /// Removes what is of no use any more. Needs ids. `wanted` decides about each candidate (`--filter`).
    ///
    /// # Errors
    /// When the store can't be read or written.
    pub fn prune_images(
        &self,
        scope: PruneScope,
        wanted: &dyn Fn(&Image) -> bool,
    ) -> Result<Pruned, ImageError> {
        self.session()?;
        let mut removal = Removal::begin(self)?;
        // Children before their parents, which are of use as long as a child is.
        let mut candidates: Vec<ImageSummary> = removal.catalog.images.values().cloned().collect();
        candidates.sort_by_cached_key(|i| crate::timestamp::nanoseconds(&i.created));
        candidates.reverse();
        loop {
            let before = removal.catalog.images.len();
            candidates.retain(|image| {
                let named = !(image.tags.is_empty() && image.digests.is_empty());
                let goes = (scope == PruneScope::Unused || !named)
                    && removal.users(&image.id).next().is_none()
                    && !removal.has_children(&image.id)
                    && self.read_image(image).is_ok_and(|image| wanted(&image));
                if goes {
                    removal.delete(&image.id);
                }
                !goes
            });
            if removal.catalog.images.len() == before {
                break;
            }
        }
        let (removed, freed) = removal.finish()?;
        let bytes = freed.bytes;
        Ok(Pruned { removed, bytes })
    }
}

/// A removal under way, with the store's lock held.
struct Removal<'s> {
    held: StoreLock<'s>,
    catalog: Catalog,
    containers: Vec<Container>,
    removed: Vec<Removed>,
    /// The layers of deleted images with their chainIDs, to tell which of them went.
    chains: Vec<(DiffId, Digest)>,
}

impl<'s> Removal<'s> {
    fn begin(store: &'s Store) -> Result<Self, ImageError> {
        let held = store.lock()?;
        Ok(Self {
            catalog: Catalog::read(store)?,
            containers: store.containers()?,
            held,
            removed: Vec::new(),
            chains: Vec::new(),
        })
    }

    fn remove(&mut self, name: &str, options: RemoveImage) -> Result<(), ImageError> {
        let image = self.catalog.find(name)?.clone();
        let reference = Reference::parse(name)
            .ok()
            .filter(|reference| names_of(&image).any(|other| is_meant(reference, other, &image)));
        let Some(reference) = reference else {
            if !options.force && !is_single(&image) {
                return Err(in_use(
                    &image,
                    true,
                    "image is referenced in multiple repositories",
                ));
            }
            self.check(&image, options.force)?;
            self.delete_with_parents(&image, options);
            return Ok(());
        };
        if !options.force
            && is_single(&image)
            && let Some(container) = self.users(&image.id).next()
        {
            return Err(ImageError::ReferenceInUse {
                name: reference.to_string(),
                container: short(&container.record.id),
                id: short(&image.id.hex()),
            });
        }
        let image = self.untag(&image.id, &reference);
        if names_of(&image).next().is_some() {
            return Ok(());
        }
        // Else the name is gone, which was the wish, and the image stays for those who use it.
        if self.check(&image, options.force).is_ok() {
            self.delete_with_parents(&image, options);
        }
        Ok(())
    }

    /// Takes one name away; the digests of a repository go with its last tag.
    fn untag(&mut self, id: &Digest, reference: &Reference) -> ImageSummary {
        let image = self.catalog.images.get_mut(id).expect("it was found here");
        let same = |other: &Reference| {
            (&other.domain, &other.path) == (&reference.domain, &reference.path)
        };
        if reference.digest.is_some() {
            image.digests.retain(|other| other != reference);
            self.removed.push(Removed::Untagged(reference.to_string()));
            return image.clone();
        }
        image.tags.retain(|other| other != reference);
        self.removed.push(Removed::Untagged(reference.to_string()));
        if !image.tags.iter().any(same) {
            for digest in image.digests.iter().filter(|digest| same(digest)) {
                self.removed.push(Removed::Untagged(digest.to_string()));
            }
            image.digests.retain(|digest| !same(digest));
        }
        image.clone()
    }

    /// Whether the image may be deleted. Force lets stopped containers lose it.
    fn check(&self, image: &ImageSummary, force: bool) -> Result<(), ImageError> {
        if self.has_children(&image.id) {
            return Err(in_use(image, false, "image has dependent child images"));
        }
        let mut users: Vec<&Container> = self.users(&image.id).collect();
        users.sort_by_key(|container| !is_live(container));
        match users.first() {
            Some(container) if is_live(container) => {
                let id = short(&container.record.id);
                let reason = format!("image is being used by running container {id}");
                Err(in_use(image, false, &reason))
            }
            Some(container) if !force => {
                let id = short(&container.record.id);
                let reason = format!("image is being used by stopped container {id}");
                Err(in_use(image, true, &reason))
            }
            _ => Ok(()),
        }
    }

    fn delete_with_parents(&mut self, image: &ImageSummary, options: RemoveImage) {
        let mut next = Some(image.clone());
        while let Some(image) = next {
            self.delete(&image.id);
            let parent = image.parent.filter(|_| !options.keep_parents);
            next = parent
                .and_then(|id| self.catalog.images.get(&id).cloned())
                .filter(|parent| names_of(parent).next().is_none())
                .filter(|parent| self.check(parent, false).is_ok());
        }
    }

    fn delete(&mut self, id: &Digest) {
        let Some(image) = self.catalog.images.remove(id) else {
            return;
        };
        let names = names_of(&image).map(|name| Removed::Untagged(name.to_string()));
        self.removed.extend(names);
        self.removed.push(Removed::Deleted(image.id));
        if let Ok(config) = self.held.store.read_config(&image.id) {
            let mut chain = chain_ids(&config.rootfs.diff_ids);
            chain.reverse();
            self.chains.extend(chain);
        }
    }

    fn finish(mut self) -> Result<(Vec<Removed>, Freed), ImageError> {
        self.catalog.write(&self.held)?;
        let freed = if self.chains.is_empty() && !self.deleted_any() {
            Freed::default()
        } else {
            gc::sweep(self.held, &[])?
        };
        let gone: HashSet<&DiffId> = freed.layers.iter().collect();
        let mut told = HashSet::new();
        for (diff_id, chain_id) in &self.chains {
            if gone.contains(diff_id) && told.insert(*chain_id) {
                self.removed.push(Removed::Deleted(*chain_id));
            }
        }
        Ok((self.removed, freed))
    }

    fn deleted_any(&self) -> bool {
        let deleted = |removed: &Removed| matches!(removed, Removed::Deleted(_));
        self.removed.iter().any(deleted)
    }

    fn users(&self, id: &Digest) -> impl Iterator<Item = &Container> {
        let id = *id;
        let containers = self.containers.iter();
        containers.filter(move |container| container.record.image == id)
    }

    fn has_children(&self, id: &Digest) -> bool {
        let mut images = self.catalog.images.values();
        images.any(|image| image.parent == Some(*id))
    }
}

fn names_of(image: &ImageSummary) -> impl Iterator<Item = &Reference> {
    image.tags.iter().chain(&image.digests)
}

/// Whether `wanted` names what `name` is, rather than being the beginning of an ID.
fn is_meant(wanted: &Reference, name: &Reference, image: &ImageSummary) -> bool {
    let same = (&wanted.domain, &wanted.path) == (&name.domain, &name.path);
    match wanted.digest {
        None => name == wanted,
        Some(digest) => same && (name.digest == Some(digest) || image.manifest == digest),
    }
}

/// One tag at most, perhaps with the digest of the same repository.
fn is_single(image: &ImageSummary) -> bool {
    let repository = |name: &Reference| (name.domain.clone(), name.path.clone());
    let repositories: HashSet<_> = names_of(image).map(repository).collect();
    image.tags.len() <= 1 && repositories.len() <= 1
}

fn is_live(container: &Container) -> bool {
    matches!(
        container.state.status,
        Status::Running | Status::Paused | Status::Restarting
    )
}

fn short(id: &str) -> String {
    id.get(..12).unwrap_or(id).to_owned()
}

fn in_use(image: &ImageSummary, forcible: bool, reason: &str) -> ImageError {
    ImageError::InUse {
        id: short(&image.id.hex()),
        forcible,
        reason: reason.to_owned(),
    }
}

/// Each layer with the digest of the stack up to it (OCI image-spec, config.md, "Layer ChainID").
fn chain_ids(diff_ids: &[DiffId]) -> Vec<(DiffId, Digest)> {
    let mut chain: Option<Digest> = None;
    let mut out = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain {
            None => diff_id.0,
            Some(below) => {
                let mut hasher = Hasher::new();
                hasher.update(format!("{below} {diff_id}").as_bytes());
                hasher.finish()
            }
        };
        chain = Some(next);
        out.push((*diff_id, next));
    }
    out
}
