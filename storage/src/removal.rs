//! Removing images, by docker's rules.
//!
//! A name takes the tag away; the image goes with its last one, unless a container needs it. An ID takes the image
//! away with its tags, unless it has several (force does it) or is in use: by a stopped container (force does it), by a
//! running one, or by an image made from it (nothing does it). The ancestors without a name go with it. An index goes as an
//! image does, and with it those of its images that nothing else names and no container needs.

use std::collections::HashSet;
use std::time::Duration;

use crate::container::Container;
use crate::digest::{DiffId, Digest, Hasher};
use crate::gc::{self, Freed};
use crate::image::{Image, ImageError, ImageSummary};
use crate::index::{Catalog, IndexSummary, Named};
use crate::lock::StoreLock;
use crate::manifest::Platform;
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
        let mut indexes: Vec<IndexSummary> = removal.catalog.indexes.values().cloned().collect();
        loop {
            let before = (candidates.len(), indexes.len());
            indexes.retain(|index| {
                let named = !(index.tags.is_empty() && index.digests.is_empty());
                let shown = index.choice(&Platform::host());
                let shown = shown.or(index.members.first().map(|m| m.id));
                let shown = shown.map(|id| self.read_image(&removal.catalog.summary(&id)));
                let goes = (scope == PruneScope::Unused || !named)
                    && !index.members.iter().any(|m| removal.is_needed(&m.id))
                    && shown.is_none_or(|image| image.is_ok_and(|image| wanted(&image)));
                if goes {
                    removal.delete_index(index, RemoveImage::default());
                }
                !goes
            });
            candidates.retain(|image| {
                let named = !(image.tags.is_empty() && image.digests.is_empty());
                let goes = (scope == PruneScope::Unused || !named)
                    && !removal.is_member(&image.id)
                    && !removal.is_needed(&image.id)
                    && self.read_image(image).is_ok_and(|image| wanted(&image));
                if goes {
                    removal.delete(&image.id);
                }
                !goes
            });
            if (candidates.len(), indexes.len()) == before {
                break;
            }
        }
        let (removed, freed) = removal.finish()?;
        // What broken pulls have left is of use only to who pulls the same again.
        let bytes = freed.bytes + self.sweep_partials(Duration::ZERO);
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
        match self.catalog.find(name)? {
            Named::Image(id) => self.remove_listed(name, &id, options),
            Named::Index(digest) => self.remove_index(name, &digest, options),
        }
    }

    fn remove_listed(
        &mut self,
        name: &str,
        id: &Digest,
        options: RemoveImage,
    ) -> Result<(), ImageError> {
        let image = self.catalog.images[id].clone();
        let names = Names::of(&image);
        let Some(reference) = names.meant_by(name) else {
            // By its ID, which stands for the indexes that it is in as well.
            let whole = self.catalog.summary(id);
            if !options.force && !Names::of(&whole).is_single() {
                let reason = "image is referenced in multiple repositories";
                return Err(in_use(&image, true, reason));
            }
            self.check(&image, options.force)?;
            let indexes = self.catalog.indexes.values();
            let indexes: Vec<_> = indexes.filter(|index| index.has(id)).cloned().collect();
            for index in indexes {
                self.delete_index(&index, options);
            }
            self.delete_with_parents(&image, options);
            return Ok(());
        };
        if !options.force && names.is_single() {
            self.unused(&reference, &[*id])?;
        }
        let image = self.catalog.images.get_mut(id).expect("it was found here");
        let untagged = untag(&mut image.tags, &mut image.digests, &reference);
        self.removed.extend(untagged);
        let image = image.clone();
        if Names::of(&image).any() || self.is_member(id) {
            return Ok(());
        }
        // Else the name is gone, which was the wish, and the image stays for those who use it.
        if self.check(&image, options.force).is_ok() {
            self.delete_with_parents(&image, options);
        }
        Ok(())
    }

    fn remove_index(
        &mut self,
        name: &str,
        digest: &Digest,
        options: RemoveImage,
    ) -> Result<(), ImageError> {
        let index = self.catalog.indexes[digest].clone();
        let names = Names {
            document: index.digest,
            tags: &index.tags,
            digests: &index.digests,
        };
        let going = self.only_in(&index);
        let Some(reference) = names.meant_by(name) else {
            if let Some(first) = going.first()
                && !options.force
                && !names.is_single()
            {
                let reason = "image is referenced in multiple repositories";
                return Err(in_use(&self.catalog.images[first], true, reason));
            }
            for id in &going {
                self.check(&self.catalog.images[id], options.force)?;
            }
            self.delete_index(&index, options);
            return Ok(());
        };
        if !options.force && names.is_single() {
            self.unused(&reference, &going)?;
        }
        let index = self.catalog.indexes.get_mut(digest);
        let index = index.expect("it was found here");
        let untagged = untag(&mut index.tags, &mut index.digests, &reference);
        self.removed.extend(untagged);
        let index = index.clone();
        if index.tags.is_empty() && index.digests.is_empty() {
            self.delete_index(&index, options);
        }
        Ok(())
    }

    /// An error if a container uses one of `images`, whose last name is to go.
    fn unused(&self, name: &Reference, images: &[Digest]) -> Result<(), ImageError> {
        for id in images {
            if let Some(container) = self.users(id).next() {
                return Err(ImageError::ReferenceInUse {
                    name: name.to_string(),
                    container: short(&container.record.id),
                    id: short(&id.hex()),
                });
            }
        }
        Ok(())
    }

    /// Takes an index off the list, and those of its images that have no other name and may go.
    fn delete_index(&mut self, index: &IndexSummary, options: RemoveImage) {
        if self.catalog.indexes.remove(&index.digest).is_none() {
            return;
        }
        let names = index.tags.iter().chain(&index.digests);
        let names = names.map(|name| Removed::Untagged(name.to_string()));
        self.removed.extend(names);
        self.removed.push(Removed::Deleted(index.digest));
        for id in self.only_in(index) {
            let image = self.catalog.images[&id].clone();
            if self.check(&image, options.force).is_ok() {
                self.delete_with_parents(&image, options);
            }
        }
    }

    /// The images of an index that have no name but its, and are in no other.
    fn only_in(&self, index: &IndexSummary) -> Vec<Digest> {
        let members = index.members.iter().map(|member| member.id);
        let mut only: Vec<Digest> = members
            .filter(|id| {
                let image = self.catalog.images.get(id);
                let mut others = self.catalog.indexes.values();
                image.is_some_and(|image| !Names::of(image).any())
                    && !others.any(|other| other.digest != index.digest && other.has(id))
            })
            .collect();
        only.dedup();
        only
    }

    fn is_member(&self, id: &Digest) -> bool {
        self.catalog.indexes.values().any(|index| index.has(id))
    }

    /// Whether a container or another image stands on it.
    fn is_needed(&self, id: &Digest) -> bool {
        self.users(id).next().is_some() || self.has_children(id)
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
                .filter(|parent| !Names::of(parent).any() && !self.is_member(&parent.id))
                .filter(|parent| self.check(parent, false).is_ok());
        }
    }

    fn delete(&mut self, id: &Digest) {
        let Some(image) = self.catalog.images.remove(id) else {
            return;
        };
        let names = image.tags.iter().chain(&image.digests);
        let names = names.map(|name| Removed::Untagged(name.to_string()));
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

/// The names of an image or an index.
struct Names<'n> {
    /// The digest of its manifest, or its own.
    document: Digest,
    tags: &'n [Reference],
    digests: &'n [Reference],
}

impl<'n> Names<'n> {
    fn of(image: &'n ImageSummary) -> Self {
        Self {
            document: image.manifest,
            tags: &image.tags,
            digests: &image.digests,
        }
    }

    fn any(&self) -> bool {
        !(self.tags.is_empty() && self.digests.is_empty())
    }

    /// `text` as one of the names, rather than as an ID or the beginning of one.
    fn meant_by(&self, text: &str) -> Option<Reference> {
        let wanted = Reference::parse(text).ok()?;
        let is_meant = |name: &Reference| match wanted.digest {
            None => *name == wanted,
            Some(digest) => {
                let same = is_same_repository(&wanted, name);
                same && (name.digest == Some(digest) || self.document == digest)
            }
        };
        let mut names = self.tags.iter().chain(self.digests);
        names.any(is_meant).then_some(wanted)
    }

    /// One tag at most, perhaps with the digest of the same repository.
    fn is_single(&self) -> bool {
        let names = self.tags.iter().chain(self.digests);
        let repositories: HashSet<_> = names.map(|name| (&name.domain, &name.path)).collect();
        self.tags.len() <= 1 && repositories.len() <= 1
    }
}

fn is_same_repository(one: &Reference, other: &Reference) -> bool {
    (&one.domain, &one.path) == (&other.domain, &other.path)
}

/// Takes one name away; the digests of a repository go with its last tag.
fn untag(
    tags: &mut Vec<Reference>,
    digests: &mut Vec<Reference>,
    reference: &Reference,
) -> Vec<Removed> {
    let mut removed = vec![Removed::Untagged(reference.to_string())];
    if reference.digest.is_some() {
        digests.retain(|other| other != reference);
        return removed;
    }
    let same = |other: &Reference| is_same_repository(other, reference);
    tags.retain(|other| other != reference);
    if !tags.iter().any(same) {
        for digest in digests.iter().filter(|digest| same(digest)) {
            removed.push(Removed::Untagged(digest.to_string()));
        }
        digests.retain(|digest| !same(digest));
    }
    removed
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
