//! Images from a place to another: pulled, pushed, copied, with all that can go wrong on the way.

#[path = "support/place.rs"]
mod place;
#[path = "support/served.rs"]
mod served;
mod support;

use std::fs;

use place::{Fault, Log, Place};
use rctr_storage::explain::Explain;
use rctr_storage::image::Image;
use rctr_storage::reference::Reference;
use rctr_storage::transfer::{self, Compression, PushOptions, Silent, Step, TransferError};
use served::{assert_whole, layers_of, options, pull, remove, serve};
use support::{Sandbox, image, tag};

#[test]
fn an_image_is_pulled_with_its_bytes_and_names() {
    let sandbox = Sandbox::new();
    let served = serve(&[100, 300_000, 5]);
    let pulled = pull(&sandbox.store, &served.place).unwrap();
    assert!(pulled.changed);
    assert_eq!(pulled.digest, served.manifest);
    assert_whole(&sandbox.store, &served);
    let name = Reference::parse(&format!("registry.test/app@{}", served.manifest)).unwrap();
    assert_eq!(pulled.image.digests, std::slice::from_ref(&name));
    assert_eq!(
        sandbox.store.find_image(&name.to_string()).unwrap().id,
        pulled.image.id
    );

    served.place.forget_given();
    let again = pull(&sandbox.store, &served.place).unwrap();
    assert!(!again.changed);
    assert_eq!(served.place.given(), 0);
}

#[test]
fn a_pulled_image_is_pushed_byte_for_byte() {
    let sandbox = Sandbox::new();
    let served = serve(&[100, 70_000]);
    let image = pull(&sandbox.store, &served.place).unwrap().image;
    let target = Place::default();
    let pushed = transfer::push(
        &sandbox.store,
        &image,
        &target,
        &PushOptions::default(),
        &Silent,
    );
    assert_eq!(pushed.unwrap().digest, served.manifest);
    let source = served.place.blobs.lock().unwrap();
    assert!(*source == *target.blobs.lock().unwrap());
}

#[test]
fn an_image_made_here_is_pushed_with_gzip_and_found_again() {
    let sandbox = Sandbox::new();
    let made = image(&sandbox.store, &["one", "two"], &["app:1"]);
    let target = Place {
        name: Some(tag("registry.test/app:1")),
        ..Place::default()
    };
    let push = |image: &Image| {
        transfer::push(
            &sandbox.store,
            image,
            &target,
            &PushOptions::default(),
            &Silent,
        )
        .unwrap()
    };
    let pushed = push(&made);
    assert_ne!(pushed.digest, made.manifest.digest);
    for blob in target.blobs.lock().unwrap().values() {
        assert!(blob.starts_with(&[0x1f, 0x8b]) || blob.starts_with(b"{"));
    }
    let received = || target.received.load(std::sync::atomic::Ordering::SeqCst);
    let before = received();
    assert_eq!(push(&made), pushed);
    assert_eq!(received(), before);

    // Here it is known, though with other blobs.
    let again = pull(&sandbox.store, &target).unwrap();
    assert_eq!((again.changed, again.image.id), (false, made.id));
    assert_eq!(target.given(), 0);
    // Elsewhere it is pulled as it was pushed.
    let other = Sandbox::new();
    let elsewhere = pull(&other.store, &target).unwrap();
    assert_eq!(
        (elsewhere.digest, elsewhere.image.id),
        (pushed.digest, made.id)
    );
}

#[test]
fn a_connection_that_breaks_is_taken_up_where_it_broke() {
    for fault in [
        &[Fault::Cut(100_000), Fault::Cut(200_000)][..],
        &[Fault::End(100_000)],
        &[Fault::Stall(50_000), Fault::Overloaded, Fault::Overloaded],
        &[Fault::Cut(0), Fault::Cut(0), Fault::Cut(0)],
    ] {
        let sandbox = Sandbox::new();
        let served = serve(&[300_000]);
        served.place.fault(served.layers[0], fault);
        let log = Log::default();
        transfer::pull(
            &sandbox.store,
            &served.place,
            &tag("app:1"),
            &options(),
            &log,
        )
        .unwrap();
        assert_whole(&sandbox.store, &served);
        assert_eq!(log.retries(), fault.len());
        // Each byte was given once, the config's too.
        let blobs = served.place.blobs.lock().unwrap();
        let all: usize = blobs.values().map(|blob| blob.len()).sum();
        assert_eq!(served.place.given(), all as u64, "{fault:?}");
    }
}

#[test]
fn a_source_that_knows_no_ranges_is_read_to_where_it_broke() {
    let sandbox = Sandbox::new();
    let served = serve(&[300_000]);
    let faults = [
        Fault::Cut(100_000),
        Fault::FromStartCut(200_000),
        Fault::FromStart,
    ];
    served.place.fault(served.layers[0], &faults);
    pull(&sandbox.store, &served.place).unwrap();
    assert_whole(&sandbox.store, &served);
}

#[test]
fn what_broke_for_good_is_taken_up_by_the_next_pull() {
    let sandbox = Sandbox::new();
    let served = serve(&[300_000, 10]);
    let cuts = vec![Fault::Cut(150_000); 9];
    served.place.fault(served.layers[0], &cuts);
    let error = pull(&sandbox.store, &served.place).unwrap_err();
    assert!(
        matches!(error, TransferError::Broken { have: 150_000, .. }),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("goes on from there"));
    assert!(sandbox.store.images().unwrap().is_empty());

    served.place.fault(served.layers[0], &[]);
    served.place.forget_given();
    pull(&sandbox.store, &served.place).unwrap();
    assert_whole(&sandbox.store, &served);
    let blobs = served.place.blobs.lock().unwrap();
    let all: u64 = blobs.values().map(|blob| blob.len() as u64).sum();
    // The small one may have come before.
    assert!(served.place.given() <= all - 150_000);
}

#[test]
fn wrong_bytes_are_fetched_once_more_and_then_told() {
    for (at, more) in [(11, 0), (150_000, 0), (299_000, 0), (150_000, 1)] {
        let sandbox = Sandbox::new();
        let served = serve(&[300_000]);
        let faults = vec![Fault::Wrong(at); 1 + more];
        served.place.fault(served.layers[0], &faults);
        let pulled = pull(&sandbox.store, &served.place);
        if more == 0 {
            pulled.unwrap();
            assert_whole(&sandbox.store, &served);
            continue;
        }
        let error = pulled.unwrap_err();
        assert!(matches!(error, TransferError::Digest { .. }), "{error}");
        assert!(error.hint().is_some());
        // Nothing of it stays.
        let kept = sandbox.root().join("partial").join(served.layers[0].hex());
        assert_eq!(fs::metadata(kept).unwrap().len(), 0);
        pull(&sandbox.store, &served.place).unwrap();
        assert_whole(&sandbox.store, &served);
    }
}

#[test]
fn a_damaged_partial_file_is_no_harm() {
    let sandbox = Sandbox::new();
    let served = serve(&[300_000]);
    let dir = sandbox.root().join("partial");
    fs::create_dir(&dir).unwrap();
    for bytes in [vec![7; 100_000], vec![7; 1_000_000]] {
        fs::write(dir.join(served.layers[0].hex()), bytes).unwrap();
        pull(&sandbox.store, &served.place).unwrap();
        assert_whole(&sandbox.store, &served);
        remove(&sandbox.store, "app:1");
    }
}

#[test]
fn a_blob_longer_than_its_manifest_says_is_refused() {
    let sandbox = Sandbox::new();
    let served = serve(&[300_000]);
    served.place.fault(served.layers[0], &[Fault::TooLong]);
    let error = pull(&sandbox.store, &served.place).unwrap_err();
    assert!(matches!(error, TransferError::TooLong { .. }), "{error}");
    assert!(sandbox.store.images().unwrap().is_empty());
}

#[test]
fn a_refusal_is_told_at_once() {
    let sandbox = Sandbox::new();
    let served = serve(&[300_000]);
    served.place.fault(served.layers[0], &[Fault::Refused]);
    let log = Log::default();
    let pulled = transfer::pull(
        &sandbox.store,
        &served.place,
        &tag("app:1"),
        &options(),
        &log,
    );
    assert!(matches!(pulled, Err(TransferError::Blob { .. })));
    assert_eq!(log.retries(), 0);
    let nothing = Place::default();
    assert!(pull(&sandbox.store, &nothing).unwrap_err().is_not_found());
}

#[test]
fn layers_are_compressed_as_asked_for() {
    let sandbox = Sandbox::new();
    let served = serve(&[100, 70_000]);
    let image = pull(&sandbox.store, &served.place).unwrap().image;
    let push = |compression| {
        let target = Place::default();
        let options = PushOptions {
            compression: Some(compression),
            ..PushOptions::default()
        };
        let log = Log::default();
        let pushed = transfer::push(&sandbox.store, &image, &target, &options, &log).unwrap();
        assert!(log.has(&served.layers[0], |step| *step == Step::Pushed));
        let other = Sandbox::new();
        assert_eq!(pull(&other.store, &target).unwrap().image.id, image.id);
        (pushed.digest, layers_of(&target, &pushed.digest))
    };
    // They are so already.
    assert_eq!(push((Compression::Gzip, None)).0, served.manifest);
    let best = push((Compression::Gzip, Some(9)));
    assert_ne!(best.0, served.manifest);
    assert_eq!(push((Compression::Gzip, Some(9))), best);
    let zstd = push((Compression::Zstd, None));
    assert_ne!(zstd.0, served.manifest);
    assert_eq!(push((Compression::Zstd, Some(3))), zstd);
}
