//! A whole build: context, Dockerfile, plan, layers, result.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use rctr_storage::Store;
use rctr_storage::archive::Format;
use rctr_storage::cache::{BuildEntry, BuildLog, BuildResult, LogPlace, LogStream};
use rctr_storage::digest::Digest;
use rctr_storage::image::{Image, ImageError, NewImage};
use rctr_storage::manifest::{Descriptor, Platform};
use rctr_storage::reference::Reference;
use rctr_storage::session::Pin;
use rctr_storage::timestamp;

use crate::context::{self, Context, ContextSource, DockerfileSource, Surroundings};
use crate::dockerfile::{self, Dockerfile};
use crate::engine::run::Cancel;
use crate::engine::{
    BuildError, Built, Destination, Engine, Files, Host, Loading, Remotes, Repositories, Travelling,
};
use crate::event::{Event, Progress, Stream, VertexId};
use crate::plan::{self, Base, ImageFailure, Images, Plan, PlannedStage, base_image};
use crate::pull::{self, Puller};
use crate::request::{BuildRequest, NamedContext};
use crate::source::Warning;
use crate::tracker::Tracker;
use crate::{fetch, git};

mod several;

/// Bytes that BuildKit tells when there is nothing to be transferred.
pub(crate) const EMPTY: u64 = 2;

/// All that a build needs.
pub struct Job<'a> {
    /// Where images and cache are.
    pub store: &'a Store,
    /// Where the context comes from.
    pub context: ContextSource,
    /// Where the Dockerfile is.
    pub dockerfile: DockerfileSource,
    /// What is asked for.
    pub request: BuildRequest,
    /// What the host gives.
    pub host: &'a dyn Host,
    /// Brings base images that aren't here.
    pub puller: &'a dyn Puller,
    /// The web.
    pub web: &'a fetch::Client,
    /// The program git.
    pub git: &'a git::Settings,
    /// Registries.
    pub repositories: &'a Repositories<'a>,
    /// Ends it early.
    pub cancel: &'a Cancel,
    /// Who hears of it.
    pub progress: Arc<dyn Progress>,
    /// Checks only: nothing is built.
    pub check: bool,
    /// What is made of the layers.
    pub outputs: Vec<Output>,
}

/// What is made of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// An image of the store.
    Image,
    /// Nothing but what the cache keeps.
    Nothing,
    /// Its files.
    Files(Files),
    /// An image in an archive; the store's list of images stays as it was.
    Archive(Format, Destination),
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Listed only if that was asked for; `None`: nothing was built.
    pub image: Option<Image>,
    /// The index of the images for several platforms, if one was made.
    pub index: Option<Descriptor>,
    /// What the result was named.
    pub tags: Vec<Reference>,
    /// All findings of the build checks.
    pub warnings: Vec<Warning>,
    /// Of `builder logs`.
    pub build_id: String,
    /// Sentences about the command line.
    pub notes: Vec<String>,
}

/// What a build works with that was opened.
struct Around<'a> {
    tracker: &'a Tracker,
    context: &'a Context,
    file: &'a Dockerfile,
    /// The Dockerfile's.
    name: &'a str,
    log: &'a BuildLog,
}

/// What came of a build, so far.
#[derive(Default)]
struct Done {
    image: Option<Image>,
    /// What it was made of.
    new: Option<NewImage>,
    index: Option<Descriptor>,
    warnings: Vec<Warning>,
    notes: Vec<String>,
}

impl Done {
    fn id(&self) -> Option<Digest> {
        let index = self.index.as_ref().map(|index| index.digest);
        index.or(self.image.as_ref().map(|image| image.id))
    }
}

/// Hears everything, and writes what steps print to the build's log.
struct Recorder {
    shown: Arc<dyn Progress>,
    log: Arc<OnceLock<BuildLog>>,
    cached: Arc<AtomicU32>,
}

impl Progress for Recorder {
    fn event(&self, event: Event) {
        if let Event::Cached { .. } = event {
            self.cached.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(log) = self.log.get() {
            record(log, &event);
        }
        self.shown.event(event);
    }
}

/// A full disk must not end the build: the log is a convenience.
fn record(log: &BuildLog, event: &Event) {
    let step = |id: &VertexId| id.number();
    let _ = match event {
        Event::Vertex { id, name } => log.write(step(id), LogStream::Step, name.as_bytes()),
        Event::Cached {
            id, log: origin, ..
        } => log
            .write(step(id), LogStream::Note, b"CACHED")
            .and_then(|()| match origin {
                Some(LogPlace { build, step: there }) => {
                    let place = format!("{build} {there}");
                    log.write(step(id), LogStream::Origin, place.as_bytes())
                }
                None => Ok(()),
            }),
        Event::Completed {
            id,
            error: Some(error),
            ..
        } => log.write(
            step(id),
            LogStream::Note,
            format!("ERROR: {error}").as_bytes(),
        ),
        Event::Log {
            id, stream, bytes, ..
        } => {
            let stream = match stream {
                Stream::Out => LogStream::Stdout,
                Stream::Err => LogStream::Stderr,
            };
            log.write(step(id), stream, bytes)
        }
        _ => Ok(()),
    };
}

/// Images of the store, each a vertex.
struct StoreImages<'a> {
    store: &'a Store,
    tracker: &'a Tracker,
    /// `None`: nothing is built, so that no layer is read and nothing pulled.
    puller: Option<&'a dyn Puller>,
    /// Also those that are here are looked for.
    newest: bool,
}

impl Images for StoreImages<'_> {
    fn find(&self, name: &str, wanted: &Platform) -> Result<Image, ImageFailure> {
        let here = match self.pinned(name, wanted) {
            Err(error) if error.is_not_found() || error.is_wrong_platform() => None,
            other => Some(other?),
        };
        // What has no name of its own can't be looked for.
        let is_id = here
            .as_ref()
            .is_some_and(|image| image.id.hex().starts_with(plain(name)));
        let found = match (here, self.puller) {
            (Some(image), _) if !self.newest || is_id => Some(image),
            (_, Some(puller)) => {
                pull::pull(puller, name, wanted, self.tracker)?;
                None
            }
            (here, None) => here,
        };
        let vertex = self
            .tracker
            .start(format!("[internal] load metadata for {name}"));
        match found.map_or_else(|| self.pinned(name, wanted), Ok) {
            Ok(image) => {
                vertex.completed();
                Ok(image)
            }
            Err(error) => {
                vertex.failed(error.to_string());
                Err(match error {
                    ImageError::NotFound { name } => ImageFailure {
                        not_found: true,
                        ..ImageFailure::new(NoBase { name })
                    },
                    other => other.into(),
                })
            }
        }
    }

    fn layers(&self, image: &Image) -> Vec<PathBuf> {
        self.store.snapshot(image)
    }
}

impl StoreImages<'_> {
    /// The image; nobody deletes its layers until the build ends.
    fn pinned(&self, name: &str, platform: &Platform) -> Result<Image, ImageError> {
        let image = base_image(self.store, name, platform)?;
        if self.puller.is_none() {
            return Ok(image);
        }
        let pins = image.layers.iter();
        let pins = pins.flat_map(|layer| [Pin::Blob(layer.digest), Pin::Layer(layer.diff_id)]);
        self.store.pin(&pins.collect::<Vec<_>>())?;
        // What is there under the pins stays.
        let again = base_image(self.store, name, platform)?;
        match again.id == image.id {
            true => Ok(again),
            // The name was moved in between.
            false => self.pinned(name, platform),
        }
    }
}

/// An image ID without the algorithm.
fn plain(name: &str) -> &str {
    name.strip_prefix("sha256:").unwrap_or(name)
}

/// A base image that isn't here.
#[derive(Debug, thiserror::Error)]
#[error("{name}: not found")]
struct NoBase {
    name: String,
}

impl rctr_storage::explain::Explain for NoBase {
    fn hint(&self) -> Option<String> {
        Some(
            "bring the image with `rctr pull` or `rctr load`; `rctr images` lists what is there"
                .to_owned(),
        )
    }
}

impl Job<'_> {
    /// Builds.
    ///
    /// # Errors
    /// The first thing that failed. What was finished before is in the cache.
    pub fn run(self) -> Result<Outcome, BuildError> {
        let log = Arc::new(OnceLock::new());
        let cached = Arc::new(AtomicU32::new(0));
        let tracker = Tracker::new(Arc::new(Recorder {
            shown: Arc::clone(&self.progress),
            log: Arc::clone(&log),
            cached: Arc::clone(&cached),
        }));
        let (context, text, name) = self.open(&tracker)?;
        let file = dockerfile::parse(&name, &text)?;
        let entry = BuildEntry {
            dockerfile: name.clone(),
            context: context.name.clone(),
            target: self.request.target.clone(),
            tags: self.request.tags.iter().map(ToString::to_string).collect(),
            started: timestamp::now(),
            ..BuildEntry::default()
        };
        let build = self.store.build_log(entry)?;
        let build_id = build.id();
        let build = log.get_or_init(|| build);
        let around = Around {
            tracker: &tracker,
            context: &context,
            file: &file,
            name: &name,
            log: build,
        };
        let result = match self.request.platforms.len() > 1 && !self.check {
            true => several::build(&self, &around),
            false => self.build(&self.request, &self.outputs, &around),
        };
        build.update_later(|entry| entry.cached = cached.load(Ordering::Relaxed));
        let (how, image, error) = match &result {
            Ok(done) => (BuildResult::Completed, done.id(), None),
            Err(BuildError::Canceled) => (BuildResult::Canceled, None, None),
            Err(error) => (BuildResult::Failed, None, Some(error.to_string())),
        };
        // The build's result is the news, not what could not be noted of it.
        let _ = build.finish(how, image, error);
        let done = result?;
        Ok(Outcome {
            image: done.image,
            index: done.index,
            tags: self.request.tags.clone(),
            notes: done.notes,
            warnings: done.warnings,
            build_id,
        })
    }

    fn open(&self, tracker: &Tracker) -> Result<(Context, Vec<u8>, String), BuildError> {
        let vertex = tracker.start("[internal] load build definition from Dockerfile");
        let mut stdin = std::io::stdin();
        let fetching = match &self.context {
            ContextSource::Git(url) | ContextSource::Http(url) => {
                Some(vertex.part(format!("fetching {url}")))
            }
            ContextSource::Stdin => Some(vertex.part("transferring context")),
            ContextSource::Directory(_) => None,
        };
        let mut bytes = 0;
        let mut around = Surroundings {
            stdin: &mut stdin,
            web: self.web,
            git: self.git,
            progress: &mut |current, total| {
                bytes = current;
                if let Some(part) = &fetching {
                    part.progress(current, total.unwrap_or(0));
                }
            },
        };
        let opened = context::open(&self.context, &self.dockerfile, self.store, &mut around);
        match opened {
            Ok((context, text, name)) => {
                if let Some(part) = fetching {
                    part.completed(bytes);
                }
                let part = vertex.part("transferring dockerfile");
                part.completed(text.len() as u64);
                vertex.completed();
                let vertex = tracker.start("[internal] load .dockerignore");
                let size = context.ignore_file.as_ref().map_or(0, |file| file.size);
                let part = vertex.part("transferring context");
                part.completed(size.max(EMPTY));
                vertex.completed();
                Ok((context, text, name))
            }
            Err(error) => {
                vertex.failed(error.to_string());
                Err(error.into())
            }
        }
    }

    /// Builds for one platform.
    fn build(
        &self,
        request: &BuildRequest,
        outputs: &[Output],
        around: &Around<'_>,
    ) -> Result<Done, BuildError> {
        let Around {
            tracker,
            context,
            file,
            name,
            log,
        } = *around;
        let images = StoreImages {
            store: self.store,
            tracker,
            puller: (!self.check).then_some(self.puller),
            newest: request.pull,
        };
        let mut plan = plan::plan(file, request, &images)?;
        for warning in &plan.warnings {
            tracker.warning(warning.clone());
        }
        if self.check {
            return Ok(Done {
                notes: plan.notes,
                warnings: plan.warnings,
                ..Done::default()
            });
        }
        if let (Some(platform), true) = (&request.platform, self.request.platforms.len() > 1) {
            several::label(&mut plan, platform);
        }
        let steps: usize = plan.stages.iter().map(|stage| stage.steps.len()).sum();
        log.update_later(|entry| entry.steps += u32::try_from(steps).unwrap_or(u32::MAX));
        let named = self.named()?;
        let engine = Engine {
            loading: Loading::new(&plan, context, tracker),
            store: self.store,
            plan: &plan,
            request,
            context,
            named: &named,
            remotes: Remotes::new(self.web, self.git),
            travelling: &Travelling::open(
                &request.cache_from,
                &request.cache_to,
                self.store,
                self.repositories,
                tracker,
            ),
            tracker,
            cancel: self.cancel,
            build_id: Some(&log.id()),
            place: &format!("{}\0{name}", context.name),
            host: self.host,
        };
        let built = engine.build();
        // Also after a failure: what was read needn't be read again. What can't be kept is read again.
        let _ = context.hashes.save();
        let image = built.and_then(|built| {
            let image = self.export(&engine, &built, outputs)?;
            engine.write_caches(&built)?;
            Ok(image)
        });
        if !matches!(image, Err(BuildError::Canceled)) {
            // What grows without a limit is bad, but no fault of this build.
            let _ = self.store.collect_cache(None);
        }
        self.let_bases_go(&plan);
        let (image, new) = image?;
        Ok(Done {
            image: Some(image),
            new: Some(new),
            index: None,
            notes: plan.notes,
            warnings: plan.warnings,
        })
    }

    /// Base images that were removed meanwhile: only this build has held their layers.
    fn let_bases_go(&self, plan: &Plan) {
        let is_gone = |stage: &PlannedStage| match &stage.base {
            Base::Image(image) => self.store.find_image(&image.id.hex()).is_err(),
            _ => false,
        };
        if plan.stages.iter().any(is_gone) {
            // What fails now is done by `image prune` or `system check --repair`.
            let _ = self.store.abandon();
        }
    }

    /// Makes all that is asked for.
    fn export(
        &self,
        engine: &Engine<'_>,
        built: &Built,
        outputs: &[Output],
    ) -> Result<(Image, NewImage), BuildError> {
        let mut listed = None;
        let new = engine.assemble(built)?;
        let unlisted = self.store.unlisted_image(new.clone())?;
        for output in outputs {
            match output {
                Output::Image => listed = Some(engine.create_image(new.clone())?),
                Output::Nothing => {}
                Output::Files(files) => engine.export(built, files)?,
                Output::Archive(format, to) => engine.export_archive(&unlisted, *format, to)?,
            }
        }
        Ok((listed.unwrap_or(unlisted.image), new))
    }

    /// The directories of `--build-context`.
    fn named(&self) -> Result<BTreeMap<String, Context>, BuildError> {
        let mut named = BTreeMap::new();
        for (name, context) in &self.request.contexts {
            if let NamedContext::Directory(path) = context {
                named.insert(name.clone(), Context::directory(path, self.store)?);
            }
        }
        Ok(named)
    }
}
