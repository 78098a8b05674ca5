//! Images in a [`Place`], and what becomes of them.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "each test uses a part"
)]

use std::fs;
use std::io::Write;
use std::time::Duration;

use rctr_storage::Store;
use rctr_storage::digest::{DiffId, Digest};
use rctr_storage::manifest::{Manifest, OCI_MANIFEST};
use rctr_storage::removal::RemoveImage;
use rctr_storage::transfer::{self, Patience, PullOptions, Pulled, Silent, TransferError};

use crate::place::Place;
use crate::support::{config, entries, tag, tar_of};

/// Content that doesn't compress to nothing.
pub fn noise(seed: u32, size: usize) -> Vec<u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    })
    .take(size)
    .collect()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An image in a place.
pub struct Served {
    pub place: Place,
    pub manifest: Digest,
    pub layers: Vec<Digest>,
}

/// Layers of `sizes` bytes each, compressed.
pub fn serve(sizes: &[usize]) -> Served {
    let place = Place {
        name: Some(tag("registry.test/app:1")),
        ..Place::default()
    };
    let tars = (1..).zip(sizes).map(|(seed, size)| {
        let name = format!("file-{seed}");
        tar_of(&[(&name, &noise(seed, *size))])
    });
    let manifest = serve_tars(&place, &tars.collect::<Vec<_>>());
    let layers = layers_of(&place, &manifest);
    place.named.lock().unwrap().replace(manifest);
    Served {
        place,
        manifest,
        layers,
    }
}

pub fn serve_tars(place: &Place, tars: &[Vec<u8>]) -> Digest {
    serve_for(place, tars, rctr_storage::manifest::Platform::host())
}

/// For that platform.
pub fn serve_for(
    place: &Place,
    tars: &[Vec<u8>],
    platform: rctr_storage::manifest::Platform,
) -> Digest {
    let mut config = config("2024-05-01T10:00:00Z");
    config.architecture = platform.architecture;
    config.variant = platform.variant;
    config.rootfs.diff_ids = tars.iter().map(|tar| DiffId(Digest::of(tar))).collect();
    let config = serde_json::to_vec(&config).unwrap();
    let size = config.len();
    let config = place.put(config);
    let layers = tars.iter().map(|tar| {
        let blob = gzip(tar);
        let size = blob.len();
        serde_json::json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": place.put(blob),
            "size": size,
        })
    });
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": size},
        "layers": layers.collect::<Vec<_>>(),
        "annotations": {"of": "the test"},
    });
    place.put_manifest_bytes(serde_json::to_vec_pretty(&manifest).unwrap())
}

pub fn layers_of(place: &Place, manifest: &Digest) -> Vec<Digest> {
    let manifests = place.manifests.lock().unwrap();
    let manifest: Manifest = serde_json::from_slice(&manifests[manifest].bytes).unwrap();
    manifest.layers.iter().map(|layer| layer.digest).collect()
}

pub fn options() -> PullOptions {
    PullOptions {
        patience: Patience {
            retries: 3,
            pause: Duration::from_millis(1),
        },
        jobs: 3,
        ..PullOptions::default()
    }
}

pub fn pull(store: &Store, place: &Place) -> Result<Pulled, TransferError> {
    transfer::pull(store, place, &tag("app:1"), &options(), &Silent)
}

/// The image and all of it.
pub fn remove(store: &Store, name: &str) {
    let id = store.find_image(name).unwrap().id;
    let force = RemoveImage {
        force: true,
        ..RemoveImage::default()
    };
    store.remove_image(&id.to_string(), force).unwrap();
    store.abandon().unwrap();
}

/// The image is there as it was served: documents and files.
pub fn assert_whole(store: &Store, served: &Served) {
    let image = store.find_image("app:1").unwrap();
    assert_eq!(image.manifest.digest, served.manifest);
    assert_eq!(image.layers.len(), served.layers.len());
    for (layer, seed) in image.layers.iter().zip(1..) {
        let blob = fs::read(store.blob_path(&layer.digest)).unwrap();
        assert_eq!(Digest::of(&blob), layer.digest);
        let file = store.layer_dir(&layer.diff_id).join(format!("file-{seed}"));
        let content = fs::read(file).unwrap();
        assert!(content == noise(seed, content.len()));
    }
    let partial = store.path("partial");
    assert!(
        !partial.exists() || entries(&partial).is_empty(),
        "{:?}",
        entries(&partial)
    );
}
