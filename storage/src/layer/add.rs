//! Adding a layer: one pass over its bytes.
//!
//! ```text
//! plain       source ─▶ blob ─┬─▶ hash ─▶ diffID = digest
//!                             └─▶ unpack
//! compressed  source ─▶ blob ─┬─▶ hash ─▶ digest
//!                             └─▶ decompress ─┬─▶ hash ─▶ diffID
//!                                             └─▶ unpack
//! ```
//!
//! Every arrow after the first is a channel to another thread. Who fails hangs up, which stops the others; the error
//! that is reported is that of the first in the stream's order.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::{self, Scope, ScopedJoinHandle};

use nix::unistd::syncfs;

use super::channel::{Fan, PIECE, Pieces, read_piece};
use super::{Expected, LayerBlob, LayerError, MEDIA_TYPE, StoreAs, unpack, unsynced};
use crate::atomic::{Durability, sync_dir};
use crate::compression::Compression;
use crate::digest::{DiffId, Digest, Hasher};
use crate::session::Pin;
use crate::store::Store;
use crate::sys;
use crate::tarfile::Reader;
use crate::tree;

/// The blob is given to the disk in portions of 16 MiB while the rest still comes.
const WRITEBACK: u64 = 16 << 20;

/// How a layer that begins with `head` is compressed.
fn compression_of(head: &[u8]) -> Result<Compression, LayerError> {
    let unsupported = |format| Err(LayerError::Compression { format });
    match (head, Compression::of(head)) {
        (_, other @ (Compression::Bzip2 | Compression::Xz)) => unsupported(other.name()),
        ([0x04, 0x22, 0x4d, 0x18, ..], _) => unsupported("lz4"),
        ([0x5d, 0, 0, _, ..], _) => unsupported("lzma"),
        (_, known) => Ok(known),
    }
}

fn media_type(compression: Compression) -> String {
    match compression {
        Compression::None => MEDIA_TYPE.to_owned(),
        other => format!("{MEDIA_TYPE}+{}", other.name()),
    }
}

/// The media type of a layer that begins with these bytes.
pub(crate) fn media_type_of(head: &[u8]) -> String {
    media_type(compression_of(head).unwrap_or(Compression::None))
}

/// What came of the bytes.
struct Outcome {
    digest: Digest,
    size: u64,
    diff_id: DiffId,
    has_end_mark: bool,
}

impl Store {
    /// Adds a layer: stores the blob, unpacks it, verifies what is expected of it. Blob and layer are pinned until the
    /// store is dropped.
    ///
    /// `source` is read to its end, unless everything is there already. A layer that is there isn't unpacked again
    /// when its diffID is known before. Needs ids.
    ///
    /// # Errors
    /// When the source fails, the bytes aren't what is expected, are no tar, or can't be unpacked. Nothing is left
    /// then.
    pub fn add_layer(
        &self,
        mut source: impl Read,
        expected: &Expected,
        stored: StoreAs,
    ) -> Result<LayerBlob, LayerError> {
        if stored == StoreAs::Verbatim
            && let Some(blob) = self.known_layer(expected)?
        {
            return Ok(blob);
        }
        let (blob, lasts) = (BlobFrom::Stream(stored), Lasts::AtOnce);
        self.add_unknown_layer(&mut source, expected, blob, lasts)
    }

    /// Adds a layer that isn't there whole, whose bytes `source` also leaves in the file `kept`: the blob becomes
    /// another name of it. The layer lasts after the next [`sync_build`](Self::sync_build), and so when its image is
    /// listed. Needs ids.
    pub(crate) fn add_kept_layer(
        &self,
        source: &mut dyn Read,
        expected: &Expected,
        kept: &Path,
    ) -> Result<LayerBlob, LayerError> {
        self.add_unknown_layer(source, expected, BlobFrom::Kept(kept), Lasts::AfterSync)
    }

    fn add_unknown_layer(
        &self,
        mut source: &mut dyn Read,
        expected: &Expected,
        blob: BlobFrom<'_>,
        lasts: Lasts,
    ) -> Result<LayerBlob, LayerError> {
        let head = read_piece(&mut source).map_err(|source| LayerError::Read { source })?;
        if head.is_empty() {
            return Err(LayerError::Empty);
        }
        let compression = compression_of(&head)?;
        let wanted = match expected.diff_id {
            Some(diff_id) => {
                self.pin(&[Pin::Layer(diff_id)])?;
                !self.settle_layer(&diff_id)?
            }
            None => true,
        };
        let staging = Staging::create(self, lasts)?;
        let work = Work {
            compression,
            blob,
            staging: &staging,
            unpack: wanted,
        };
        let outcome = work.run(head, source)?;
        verify(expected, &outcome)?;
        if let BlobFrom::Kept(kept) = blob {
            let linked = fs::hard_link(kept, staging.blob());
            linked.map_err(LayerError::io("create", staging.blob()))?;
        }
        let (digest, size, media_type) = match blob {
            BlobFrom::Stream(StoreAs::Decompressed) => {
                let size = fs::metadata(staging.blob())
                    .map_err(LayerError::io("read", staging.blob()))?
                    .len();
                let plain = media_type(Compression::None);
                (outcome.diff_id.0, size, plain)
            }
            _ => (outcome.digest, outcome.size, media_type(compression)),
        };
        // A blob whose layer isn't marked has nobody else who makes it last.
        if lasts == Lasts::AtOnce || !wanted {
            staging.sync(wanted)?;
            self.publish_blob(&staging.blob(), &digest)?;
        } else {
            self.publish_blob_as(&staging.blob(), &digest, Durability::None)?;
        }
        if wanted {
            self.publish_layer(&staging, &outcome.diff_id)?;
        }
        Ok(LayerBlob {
            digest,
            size,
            media_type,
            diff_id: outcome.diff_id,
        })
    }

    /// The layer, when blob and unpacked layer are there; both are pinned then.
    pub(crate) fn known_layer(&self, expected: &Expected) -> Result<Option<LayerBlob>, LayerError> {
        let (Some(digest), Some(diff_id)) = (expected.digest, expected.diff_id) else {
            return Ok(None);
        };
        if !self.has_blob(&digest) || !self.has_layer(&diff_id) {
            return Ok(None);
        }
        // Once more under the pins: what was there may have been deleted meanwhile.
        self.pin(&[Pin::Blob(digest), Pin::Layer(diff_id)])?;
        if !self.has_blob(&digest) || !self.settle_layer(&diff_id)? {
            return Ok(None);
        }
        let path = self.blob_path(&digest);
        let failed = || LayerError::io("read", &path);
        let file = File::open(&path).map_err(failed())?;
        let size = file.metadata().map_err(failed())?.len();
        if expected.size.is_some_and(|expected| expected != size) {
            return Ok(None);
        }
        let mut head = Vec::new();
        (&file).take(16).read_to_end(&mut head).map_err(failed())?;
        Ok(Some(LayerBlob {
            digest,
            size,
            media_type: media_type(compression_of(&head)?),
            diff_id,
        }))
    }

    /// Moves an unpacked layer to its place; one that is there already stays.
    pub(super) fn publish_layer(
        &self,
        staging: &Staging,
        diff_id: &DiffId,
    ) -> Result<(), LayerError> {
        self.pin(&[Pin::Layer(*diff_id)])?;
        // What a power cut left of it would stand in the way.
        self.settle_layer(diff_id)?;
        let layers = self.path("layers");
        let place = layers.join(diff_id.0.hex());
        match fs::rename(staging.unpacked(), &place) {
            Ok(()) => match staging.lasts {
                Lasts::AtOnce => Ok(sync_dir(&layers)?),
                Lasts::AfterSync => {
                    self.note_unsynced(*diff_id);
                    Ok(())
                }
            },
            // Somebody else has made the same meanwhile.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty
                ) =>
            {
                Ok(())
            }
            Err(source) => Err(LayerError::io("create", place)(source)),
        }
    }
}

fn verify(expected: &Expected, outcome: &Outcome) -> Result<(), LayerError> {
    if let Some(expected) = expected.size
        && expected != outcome.size
    {
        return Err(LayerError::Size {
            expected,
            actual: outcome.size,
        });
    }
    if let Some(expected) = expected.digest
        && expected != outcome.digest
    {
        return Err(LayerError::Digest {
            expected,
            actual: outcome.digest,
        });
    }
    if let Some(expected) = expected.diff_id
        && expected != outcome.diff_id
    {
        return Err(LayerError::DiffId {
            expected,
            actual: outcome.diff_id,
        });
    }
    // Some programs leave the end out. Where nothing else tells that the bytes are all there, it is asked for.
    if *expected == Expected::default() && !outcome.has_end_mark {
        return Err(LayerError::NoEnd);
    }
    Ok(())
}

/// A layer under way, in `tmp/`. What is left there when it is dropped is deleted.
pub(super) struct Staging {
    dir: PathBuf,
    lasts: Lasts,
}

/// When a layer survives a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lasts {
    /// When it is published.
    AtOnce,
    /// After the next [`Store::sync_build`].
    AfterSync,
}

impl Staging {
    pub(super) fn create(store: &Store, lasts: Lasts) -> Result<Self, LayerError> {
        let dir = store.temp_path("layer")?;
        let staging = Self { dir, lasts };
        let make = |path: &Path| {
            fs::create_dir(path)?;
            // The root of a layer without an entry for it.
            fs::set_permissions(path, Permissions::from_mode(0o755))
        };
        let (unpacked, fs) = (staging.unpacked(), staging.fs());
        make(&staging.dir).map_err(LayerError::io("create", &staging.dir))?;
        match lasts {
            Lasts::AtOnce => make(&unpacked),
            Lasts::AfterSync => unsynced::make_marked(&unpacked),
        }
        .map_err(LayerError::io("create", &unpacked))?;
        make(&fs).map_err(LayerError::io("create", &fs))?;
        Ok(staging)
    }

    pub(super) fn blob(&self) -> PathBuf {
        self.dir.join("blob")
    }

    pub(super) fn unpacked(&self) -> PathBuf {
        self.dir.join("unpacked")
    }

    pub(super) fn fs(&self) -> PathBuf {
        self.dir.join("unpacked/fs")
    }

    /// Makes everything survive a power cut; the blob alone when nothing was unpacked.
    fn sync(&self, unpacked: bool) -> Result<(), LayerError> {
        let path = if unpacked {
            self.dir.clone()
        } else {
            self.blob()
        };
        let failed = || LayerError::io("write", &path);
        let file = File::open(&path).map_err(failed())?;
        if unpacked {
            // One call for all files: an fsync for each would take longer than everything else.
            syncfs(&file).map_err(|errno| failed()(errno.into()))
        } else {
            file.sync_data().map_err(failed())
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What can't be deleted now is deleted by the next session.
        let _ = tree::remove_tree(&self.dir);
    }
}

/// Where the blob comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BlobFrom<'w> {
    /// It is written while the bytes come.
    Stream(StoreAs),
    /// Who reads the bytes has left them in this file.
    Kept(&'w Path),
}

struct Work<'w> {
    compression: Compression,
    blob: BlobFrom<'w>,
    staging: &'w Staging,
    unpack: bool,
}

type Unpacked = Result<bool, LayerError>;

impl Work<'_> {
    fn run(&self, head: Vec<u8>, source: &mut dyn Read) -> Result<Outcome, LayerError> {
        let root =
            tree::open_root(&self.staging.fs()).map_err(|source| LayerError::Unpack { source })?;
        thread::scope(|scope| match self.compression {
            Compression::None => self.plain(scope, root, head, source),
            _ => self.compressed(scope, root, head, source),
        })
    }

    fn plain<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        root: OwnedFd,
        head: Vec<u8>,
        source: &mut dyn Read,
    ) -> Result<Outcome, LayerError> {
        let mut fan = Fan::default();
        let hash = spawn_hash(scope, fan.reader());
        let unpack = spawn_unpack(scope, fan.reader(), root, self.unpack);
        let blob = match self.blob {
            BlobFrom::Stream(_) => BlobFile::create(self.staging.blob()).map(Some),
            BlobFrom::Kept(_) => Ok(None),
        };
        let fed = blob.and_then(|blob| feed(blob, fan, head, source));
        let (hashed, unpacked) = (join(hash), join(unpack));
        let size = fed?;
        let has_end_mark = unpacked?;
        let digest = hashed.map_err(|source| LayerError::Read { source })?;
        Ok(Outcome {
            digest,
            size,
            diff_id: DiffId(digest),
            has_end_mark,
        })
    }

    fn compressed<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
        root: OwnedFd,
        head: Vec<u8>,
        source: &mut dyn Read,
    ) -> Result<Outcome, LayerError> {
        let (mut raw, mut tar) = (Fan::default(), Fan::default());
        let raw_hash = spawn_hash(scope, raw.reader());
        let tar_hash = spawn_hash(scope, tar.reader());
        let unpack = spawn_unpack(scope, tar.reader(), root, self.unpack);
        let input = raw.reader();
        let decompress = scope.spawn(move || self.decompress(input, tar));
        let blob = match self.blob {
            BlobFrom::Stream(StoreAs::Verbatim) => BlobFile::create(self.staging.blob()).map(Some),
            _ => Ok(None),
        };
        let fed = blob.and_then(|blob| feed(blob, raw, head, source));
        let decompressed = join(decompress);
        let (raw_hashed, tar_hashed, unpacked) = (join(raw_hash), join(tar_hash), join(unpack));
        let size = fed?;
        decompressed?;
        let has_end_mark = unpacked?;
        let lost = |source| LayerError::Read { source };
        Ok(Outcome {
            digest: raw_hashed.map_err(lost)?,
            size,
            diff_id: DiffId(tar_hashed.map_err(lost)?),
            has_end_mark,
        })
    }

    fn decompress(&self, mut input: Pieces, tar: Fan) -> Result<(), LayerError> {
        let failed = |source| LayerError::Decompress {
            format: self.compression.name(),
            source,
        };
        let mut output = self.compression.reader(&mut input).map_err(failed)?;
        let mut blob = match self.blob {
            BlobFrom::Stream(StoreAs::Decompressed) => Some(BlobFile::create(self.staging.blob())?),
            _ => None,
        };
        loop {
            let piece = read_piece(&mut output).map_err(failed)?;
            if piece.is_empty() {
                break;
            }
            if let Some(blob) = &mut blob {
                blob.write(&piece)?;
            }
            if !tar.send(piece) {
                return Ok(());
            }
        }
        tar.end();
        drop(output);
        // Hanging up before the end would stop who still writes the blob.
        while input.next_piece().map_err(failed)?.is_some() {}
        Ok(())
    }
}

/// The blob while it is written.
struct BlobFile {
    file: File,
    path: PathBuf,
    size: u64,
    on_the_way: u64,
}

impl BlobFile {
    fn create(path: PathBuf) -> Result<Self, LayerError> {
        let file = File::create_new(&path).map_err(LayerError::io("create", &path))?;
        Ok(Self {
            file,
            path,
            size: 0,
            on_the_way: 0,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.file
            .write_all(bytes)
            .map_err(LayerError::io("write", &self.path))?;
        self.size += bytes.len() as u64;
        if self.size - self.on_the_way >= WRITEBACK {
            // A help, not a promise: the sync at the end tells of errors.
            let _ = sys::begin_writeback(&self.file, self.on_the_way, self.size - self.on_the_way);
            self.on_the_way = self.size;
        }
        Ok(())
    }
}

/// Reads the source, writes the blob, feeds the others. Returns the bytes.
fn feed(
    mut blob: Option<BlobFile>,
    fan: Fan,
    head: Vec<u8>,
    mut source: &mut dyn Read,
) -> Result<u64, LayerError> {
    let mut piece = head;
    let mut size = 0;
    while !piece.is_empty() {
        size += piece.len() as u64;
        if let Some(blob) = &mut blob {
            blob.write(&piece)?;
        }
        if !fan.send(piece) {
            // Who hung up has an error to report.
            return Ok(size);
        }
        piece = read_piece(&mut source).map_err(|source| LayerError::Read { source })?;
    }
    fan.end();
    Ok(size)
}

/// The digest of all pieces.
pub(super) fn spawn_hash<'s>(
    scope: &'s Scope<'s, '_>,
    mut pieces: Pieces,
) -> ScopedJoinHandle<'s, io::Result<Digest>> {
    scope.spawn(move || {
        let mut hasher = Hasher::new();
        while let Some(piece) = pieces.next_piece()? {
            hasher.update(&piece);
        }
        Ok(hasher.finish())
    })
}

/// Unpacks the tar, or only reads it. Tells whether it had a proper end.
fn spawn_unpack<'s>(
    scope: &'s Scope<'s, '_>,
    mut pieces: Pieces,
    root: OwnedFd,
    wanted: bool,
) -> ScopedJoinHandle<'s, Unpacked> {
    scope.spawn(move || {
        if !wanted {
            let failed = |source| LayerError::Read { source };
            while pieces.next_piece().map_err(failed)?.is_some() {}
            return Ok(true);
        }
        let mut reader = Reader::new(pieces);
        unpack::unpack(&mut reader, root).map_err(|source| LayerError::Unpack { source })?;
        Ok(reader.has_end_mark())
    })
}

pub(super) fn join<T>(handle: ScopedJoinHandle<'_, T>) -> T {
    match handle.join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// As [`BlobFile`], for a tar that is made here.
pub(super) fn write_blob(path: &Path, mut pieces: Pieces) -> Result<u64, LayerError> {
    let mut blob = BlobFile::create(path.to_owned())?;
    while let Some(piece) = pieces
        .next_piece()
        .map_err(|source| LayerError::Read { source })?
    {
        blob.write(&piece)?;
    }
    Ok(blob.size)
}

/// The tar in a blob's file.
pub(super) fn decompressed(file: File) -> io::Result<Box<dyn Read + Send>> {
    let mut file = BufReader::with_capacity(PIECE, file);
    let compression = compression_of(file.fill_buf()?).map_err(io::Error::other)?;
    compression.reader(file)
}
