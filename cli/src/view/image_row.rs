//! An image as rows of `images`: one for each name.

use rctr_storage::digest::Digest;
use rctr_storage::image::ImageSummary;
use rctr_storage::reference::Reference;

use super::container_row::Cut;
use crate::format::time::{Nanos, since};
use crate::format::{Listing, duration, short_id, size, time};
use crate::template::Data;

/// What an absent part of a name is shown as.
const NONE: &str = "<none>";
const NOT_KNOWN: &str = "N/A";

/// The list of images; `digests` adds the column DIGEST.
pub(crate) fn listing(digests: bool) -> Listing {
    let digest = if digests { "{{.Digest}}\t" } else { "" };
    Listing {
        headers: &[
            ("Repository", "REPOSITORY"),
            ("Tag", "TAG"),
            ("Digest", "DIGEST"),
            ("ID", "IMAGE ID"),
            ("CreatedSince", "CREATED"),
            ("CreatedAt", "CREATED AT"),
            ("Size", "SIZE"),
            ("VirtualSize", "SIZE"),
            ("SharedSize", "SHARED SIZE"),
            ("UniqueSize", "UNIQUE SIZE"),
            ("Containers", "CONTAINERS"),
            ("Platform", "PLATFORM"),
        ],
        table: format!(
            "{{{{.Repository}}}}\t{{{{.Tag}}}}\t{digest}{{{{.ID}}}}\t{{{{.CreatedSince}}}}\t{{{{.Size}}}}"
        ),
        quiet: "{{.ID}}",
    }
}

/// The list of `--tree`, roughly as docker 28 has it.
pub(crate) fn tree() -> Listing {
    Listing {
        headers: &[
            ("Image", "IMAGE"),
            ("ID", "ID"),
            ("DiskUsage", "DISK USAGE"),
            ("InUse", "IN USE"),
        ],
        table: "{{.Image}}\t{{.ID}}\t{{.DiskUsage}}\t{{.InUse}}".to_owned(),
        quiet: "{{.ID}}",
    }
}

/// An image in the tree: its name with the digest of its manifest or index, and below it its platforms with the IDs of their
/// images, as in the flat list.
pub(crate) fn branch(
    name: &Name,
    top: Digest,
    platforms: &[(&ImageSummary, Use)],
    cut: Cut,
) -> Vec<Data> {
    let row = |label: String, digest: Digest, size: u64, used: bool| {
        let id = match cut {
            Cut::Yes => short_id(&digest.to_string()),
            Cut::No => digest.to_string(),
        };
        Data::fields([
            ("DiskUsage", Data::text(size::short(size))),
            ("ID", Data::text(id)),
            ("Image", Data::text(label)),
            ("InUse", Data::text(if used { "U" } else { "" })),
        ])
    };
    let is_used = |used: &Use| used.containers.is_some_and(|n| n > 0);
    let tag = name.tag.as_deref().unwrap_or(NONE);
    let size = platforms.iter().map(|(image, _)| image.size).sum();
    let used = platforms.iter().any(|(_, used)| is_used(used));
    let mut rows = vec![row(format!("{}:{tag}", name.repository), top, size, used)];
    for (number, (image, used)) in platforms.iter().enumerate() {
        let line = if number + 1 == platforms.len() {
            "└─"
        } else {
            "├─"
        };
        let label = format!("{line} {}", image.platform);
        rows.push(row(label, image.id, image.size, is_used(used)));
    }
    rows
}

/// A name of an image: its parts as shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Name {
    /// As it is typed; `None`: it has no tag.
    pub(crate) fn typed(&self) -> Option<String> {
        let tag = self.tag.as_ref()?;
        Some(format!("{}:{tag}", self.repository))
    }
}

/// The names of an image that `wanted` agrees to: tags, then digests of repositories without a tag. `digests`: every
/// digest has a row of its own. No names at all (and `wanted` never asked) is one row, too.
pub(crate) fn names(
    image: &ImageSummary,
    digests: bool,
    wanted: &dyn Fn(&Reference) -> bool,
) -> Vec<Name> {
    let mut names = Vec::new();
    if image.tags.is_empty() && image.digests.is_empty() {
        names.push(Name {
            repository: NONE.to_owned(),
            tag: None,
            digest: None,
        });
    }
    let mut tags: Vec<_> = image.tags.iter().filter(|t| wanted(t)).collect();
    tags.sort_by_cached_key(|t| t.to_string());
    for tag in tags {
        let repository = tag.familiar_name();
        let pulled = image
            .digests
            .iter()
            .filter(|d| digests && d.familiar_name() == repository);
        let mut all: Vec<_> = pulled.map(|d| d.digest).collect();
        if all.is_empty() {
            all.push(None);
        }
        names.extend(all.into_iter().map(|digest| Name {
            repository: repository.clone(),
            tag: tag.tag.clone(),
            digest,
        }));
    }
    for digest in image.digests.iter().filter(|d| wanted(d)) {
        let repository = digest.familiar_name();
        if !image.tags.iter().any(|t| t.familiar_name() == repository) {
            names.push(Name {
                repository,
                tag: None,
                digest: digest.digest,
            });
        }
    }
    names
}

/// What an image shares and who uses it, as far as that was asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Use {
    /// How many containers are made from it.
    pub(crate) containers: Option<usize>,
    /// Bytes of layers that other images have, too.
    pub(crate) shared: Option<u64>,
    /// Bytes of layers that only this one has.
    pub(crate) unique: Option<u64>,
}

/// A row, fields in alphabetical order as docker's JSON has them.
pub(crate) fn row(image: &ImageSummary, name: &Name, cut: Cut, now: Nanos, used: Use) -> Data {
    let id = match cut {
        Cut::Yes => short_id(&image.id.to_string()),
        Cut::No => image.id.to_string(),
    };
    let created = time::of(&image.created);
    let since = created.map(|_| format!("{} ago", duration::words(since(&image.created, now))));
    let known = |text: Option<String>| Data::text(text.unwrap_or_else(|| NOT_KNOWN.to_owned()));
    let or_none = |text: Option<String>| Data::text(text.unwrap_or_else(|| NONE.to_owned()));
    Data::fields([
        ("Containers", known(used.containers.map(|n| n.to_string()))),
        ("CreatedAt", known(created.map(time::shown))),
        ("CreatedSince", known(since)),
        ("Digest", or_none(name.digest.map(|d| d.to_string()))),
        ("ID", Data::text(id)),
        ("Platform", Data::text(image.platform.to_string())),
        ("Repository", Data::text(&name.repository)),
        ("SharedSize", known(used.shared.map(size::short))),
        ("Size", Data::text(size::short(image.size))),
        ("Tag", or_none(name.tag.clone())),
        ("UniqueSize", known(used.unique.map(size::short))),
        ("VirtualSize", Data::text(size::short(image.size))),
    ])
}

#[cfg(test)]
pub(crate) mod tests {
    use rctr_storage::manifest::Platform;

    use super::*;
    use crate::format::Quiet;

    pub(crate) fn image(tags: &[&str]) -> ImageSummary {
        ImageSummary {
            id: Digest::of(b"config"),
            manifest: Digest::of(b"manifest"),
            manifest_size: 400,
            manifest_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            tags: tags.iter().map(|t| Reference::parse(t).unwrap()).collect(),
            digests: Vec::new(),
            created: "2024-04-10T10:00:00Z".to_owned(),
            size: 77_800_000,
            layers: 1,
            parent: None,
            platform: Platform {
                architecture: "amd64".to_owned(),
                os: "linux".to_owned(),
                variant: None,
                extra: Default::default(),
            },
            tagged: None,
            part_of: None,
        }
    }

    fn shown(image: &ImageSummary, digests: bool, wanted: &str) -> String {
        let now = crate::view::container_row::tests::NOW;
        let rows = names(image, digests, &|r| {
            wanted.is_empty() || r.familiar_name() == wanted
        });
        let rows = rows
            .iter()
            .map(|n| row(image, n, Cut::Yes, now, Use::default()));
        let format = listing(digests).format(None, Quiet::No).unwrap();
        format.render(rows).unwrap()
    }

    #[test]
    fn each_name_has_a_row() {
        assert_eq!(
            shown(&image(&["ubuntu:14.04", "myphpapp:1.0"]), false, ""),
            "REPOSITORY   TAG       IMAGE ID       CREATED       SIZE\n\
             myphpapp     1.0       b79606fb3afe   3 weeks ago   77.8MB\n\
             ubuntu       14.04     b79606fb3afe   3 weeks ago   77.8MB\n"
        );
        assert!(!shown(&image(&["ubuntu:14.04", "a:1"]), false, "a").contains("ubuntu"));
        assert!(shown(&image(&[]), false, "").contains("\n<none>       <none>    b7"));
        assert!(
            shown(&image(&["a:1"]), true, "").contains("\na            1         <none>    b7")
        );
        let mut pulled = image(&["r/a:1"]);
        let digest = Digest::of(b"manifest");
        pulled.digests = vec![Reference::parse(&format!("r/a@{digest}")).unwrap()];
        assert!(
            shown(&pulled, true, "").contains(&format!("\nr/a          1         {digest}   b7"))
        );
        pulled.tags.clear();
        assert!(shown(&pulled, false, "").contains("\nr/a          <none>    b7"));
    }
}
