//! Times pull and push beside what they are made of, and tells the memory that they took.
//!
//! `cargo bench -p rctr-storage --profile fast --bench transfer -- TAR DIR [ROUNDS [LEVEL…]]`: an image of TAR as its one layer, with
//! gzip and with zstd, in a file on DIR; hashing it, decompressing it, pulling it and pushing it anew at each LEVEL take turns.
//! Besides the time it tells the processors' time, which others on the machine change less. Without TAR nothing is done.

#![expect(clippy::print_stdout, reason = "a bench talks to its user")]

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rctr_storage::Store;
use rctr_storage::digest::{DiffId, Digest, Hasher};
use rctr_storage::manifest::{Descriptor, OCI_MANIFEST, Platform};
use rctr_storage::reference::Reference;
use rctr_storage::transfer::{
    BlobContent, BlobStream, Compression, PlaceError, PullOptions, PushOptions, Put, RawManifest,
    Silent, Source, Target, pull, push,
};
use rctr_storage::tree;

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let [tar, dir, rest @ ..] = words.as_slice() else {
        println!("give TAR DIR [ROUNDS]");
        return Ok(());
    };
    let rounds = rest.first().map_or(Ok(5), |word| word.parse())?;
    let levels = rest.iter().skip(1).map(|word| word.parse());
    let levels: Vec<i32> = levels.collect::<Result<_, _>>()?;
    let (tar, dir) = (PathBuf::from(tar), PathBuf::from(dir));
    for (name, compression) in [("gzip", Compression::Gzip), ("zstd", Compression::Zstd)] {
        let served = Served::make(&tar, &dir, compression)?;
        let mut times: Vec<(String, Vec<Taken>)> = Vec::new();
        let mut memory = [0; 2];
        for _ in 0..rounds {
            let taken = round(&served, &dir, (compression, &levels), &mut memory)?;
            for (at, (name, taken)) in taken.into_iter().enumerate() {
                match times.get_mut(at) {
                    Some((_, times)) => times.push(taken),
                    None => times.push((name, vec![taken])),
                }
            }
        }
        println!(
            "{name}: {} MB of {} MB",
            served.size >> 20,
            fs::metadata(&tar)?.len() >> 20
        );
        for (name, times) in &mut times {
            times.sort();
            let seconds = |at: usize| times[at].wall.as_secs_f64();
            let busy = times
                .iter()
                .map(|taken| taken.busy)
                .min()
                .unwrap_or_default();
            println!(
                "  {name:16} median {:.3} s   {:.3} … {:.3}   processors {:.3} s",
                seconds(times.len() / 2),
                seconds(0),
                seconds(times.len() - 1),
                busy.as_secs_f64()
            );
        }
        let [pulling, pushing] = memory;
        println!("  memory       pull {pulling} KiB, push {pushing} KiB");
        fs::remove_file(&served.blob)?;
    }
    Ok(())
}

/// An image in a file.
struct Served {
    blob: PathBuf,
    size: u64,
    layer: Digest,
    config: Vec<u8>,
    manifest: RawManifest,
}

impl Served {
    fn make(tar: &Path, dir: &Path, compression: Compression) -> Result<Self, Failure> {
        let blob = dir.join("blob");
        let mut input = File::open(tar)?;
        let output = File::create(&blob)?;
        match compression {
            Compression::Gzip => {
                let mut gzip = flate2::write::GzEncoder::new(output, flate2::Compression::new(6));
                io::copy(&mut input, &mut gzip)?;
                gzip.finish()?;
            }
            Compression::Zstd => zstd::stream::copy_encode(&mut input, output, 3)?,
        }
        let diff_id = hash(&mut File::open(tar)?)?;
        let layer = hash(&mut File::open(&blob)?)?;
        let size = fs::metadata(&blob)?.len();
        let platform = Platform::host();
        let config = serde_json::to_vec(&serde_json::json!({
            "architecture": platform.architecture, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [DiffId(diff_id)]},
        }))?;
        let bytes = serde_json::to_vec(&serde_json::json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": Digest::of(&config), "size": config.len(),
            },
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layer, "size": size}],
        }))?;
        let manifest = RawManifest {
            media_type: OCI_MANIFEST.to_owned(),
            digest: Digest::of(&bytes),
            bytes,
        };
        Ok(Self {
            blob,
            size,
            layer,
            config,
            manifest,
        })
    }
}

impl Source for Served {
    fn shown(&self) -> String {
        "a file".to_owned()
    }

    fn manifest(&self, _: Option<&Digest>) -> Result<RawManifest, PlaceError> {
        Ok(self.manifest.clone())
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<BlobStream, PlaceError> {
        let bytes: Box<dyn Read + Send> = if descriptor.digest == self.layer {
            let mut file = File::open(&self.blob).expect("the blob is there");
            file.seek(SeekFrom::Start(offset))
                .expect("a file can be sought in");
            Box::new(file)
        } else {
            let from = usize::try_from(offset).expect("a config is small");
            Box::new(io::Cursor::new(self.config[from..].to_vec()))
        };
        Ok(BlobStream { offset, bytes })
    }
}

/// Reads all and counts the bytes.
#[derive(Default)]
struct Nowhere(AtomicU64);

impl Target for Nowhere {
    fn shown(&self) -> String {
        "nowhere".to_owned()
    }

    fn put_blob(
        &self,
        _: &Descriptor,
        content: &dyn BlobContent,
        _: &[Reference],
        _: &dyn Fn(u64),
    ) -> Result<Put, PlaceError> {
        let mut stream = content.open(0).expect("the layer can be read");
        let size = io::copy(&mut stream, &mut io::sink()).expect("the layer can be read");
        self.0.fetch_add(size, Ordering::Relaxed);
        Ok(Put::Sent)
    }

    fn put_manifest(&self, _: &RawManifest, _: bool) -> Result<(), PlaceError> {
        Ok(())
    }
}

fn round(
    served: &Served,
    dir: &Path,
    (compression, levels): (Compression, &[i32]),
    memory: &mut [u64; 2],
) -> Result<Vec<(String, Taken)>, Failure> {
    let root = dir.join("store");
    tree::remove_tree(&root)?;
    nix::unistd::sync();
    let (hashed, _) = timed(|| Ok(hash(&mut File::open(&served.blob)?)?))?;
    let (decompressed, _) = timed(|| {
        let blob = io::BufReader::with_capacity(1 << 18, File::open(&served.blob)?);
        let mut tar: Box<dyn Read> = match compression {
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(blob)),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(blob)?),
        };
        let mut buffer = vec![0; 1 << 18];
        while tar.read(&mut buffer)? > 0 {}
        Ok(())
    })?;
    let store = Store::open(&root)?;
    nix::unistd::sync();
    forget_peak()?;
    let name = Reference::parse("bench")?;
    let options = PullOptions::default();
    let (pulled, image) = timed(|| Ok(pull(&store, served, &name, &options, &Silent)?.image))?;
    memory[0] = memory[0].max(peak()?);
    let mut taken = vec![
        ("hash".to_owned(), hashed),
        ("decompress".to_owned(), decompressed),
        ("pull".to_owned(), pulled),
    ];
    let levels = match levels {
        // The usual one of both.
        [] => &[3],
        levels => levels,
    };
    for level in levels {
        // Else it would be known the next time, which is another bench.
        tree::remove_tree(&store.path("cache"))?;
        forget_peak()?;
        let options = PushOptions {
            compression: Some((compression, Some(*level))),
            ..PushOptions::default()
        };
        let target = Nowhere::default();
        let (pushed, _) = timed(|| Ok(push(&store, &image, &target, &options, &Silent)?))?;
        memory[1] = memory[1].max(peak()?);
        let size = target.0.load(Ordering::Relaxed) >> 20;
        taken.push((format!("push -{level} {size} MB"), pushed));
    }
    Ok(taken)
}

fn hash(input: &mut impl Read) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match input.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

fn forget_peak() -> io::Result<()> {
    // proc_pid_clear_refs(5): 5 resets the peak.
    let mut file = File::options().write(true).open("/proc/self/clear_refs")?;
    file.write_all(b"5")
}

/// The most memory that was in use, in KiB.
fn peak() -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let word = line.and_then(|line| line.split_whitespace().next());
    Ok(word.ok_or("no VmHWM")?.parse()?)
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Taken {
    wall: Duration,
    /// Of all threads.
    busy: Duration,
}

fn timed<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<(Taken, T), Failure> {
    let (start, before) = (Instant::now(), busy()?);
    let result = work()?;
    let taken = Taken {
        wall: start.elapsed(),
        busy: busy()? - before,
    };
    Ok((taken, result))
}

fn busy() -> Result<Duration, Failure> {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF)?;
    let time = |value: nix::sys::time::TimeVal| {
        let micros = value.tv_sec() * 1_000_000 + value.tv_usec();
        Duration::from_micros(micros.unsigned_abs())
    };
    Ok(time(usage.user_time()) + time(usage.system_time()))
}
