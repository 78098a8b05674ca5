//! `rctr manifest`: indexes of images for several platforms, here and in registries.

use clap::{Arg, ArgMatches};
use rctr_runtime::identity::{self, Mounts};
use rctr_storage::Store;
use rctr_storage::image::Image;
use rctr_storage::manifest::{Descriptor, Document, Index, Platform};
use rctr_storage::reference::Reference;
use rctr_storage::removal::RemoveImage;
use rctr_storage::transfer::{self, PushOptions, RawManifest, Source};
use rctr_storage::transport::Place;
use serde::Serialize;
use serde_json::{Value, json};

use super::{pull, words};
use crate::command::Verb;
use crate::context::Context;
use crate::progress::transfer::{Display, Look, Way};
use crate::registries::{Registries, tls_verify};
use crate::report::Failure;
use crate::{output, places};

/// `manifest inspect`.
pub(crate) const INSPECT: Verb = Verb {
    names: &["manifest inspect"],
    about: "Show a manifest or index, of the store or of a registry, without pulling",
    args: |command| {
        words::required(command, "name", "NAME|PLACE")
            .arg(words::on("verbose", Some('v'), "With what an index names"))
            .arg(words::on("insecure", None, "As --tls-verify=false").hide(true))
            .arg(tls_verify())
    },
    run: inspect,
};

/// `manifest create`.
pub(crate) const CREATE: Verb = Verb {
    names: &["manifest create"],
    about: "Make an index of images for several platforms",
    args: |command| {
        words::required(command, "list", "INDEX")
            .arg(
                Arg::new("image")
                    .value_name("IMAGE")
                    .num_args(1..)
                    .required(true)
                    .help("An image here; one that isn't is pulled"),
            )
            .arg(words::on(
                "amend",
                Some('a'),
                "Add to an index that is there",
            ))
            .arg(words::on("insecure", None, "Ignored: registries.conf says it").hide(true))
    },
    run: create,
};

/// `manifest annotate`.
pub(crate) const ANNOTATE: Verb = Verb {
    names: &["manifest annotate"],
    about: "Say what platform an image of an index is for",
    args: |command| {
        let command = words::required(command, "list", "INDEX");
        words::required(command, "image", "IMAGE|DIGEST")
            .arg(words::value(
                "arch",
                None,
                "Architecture, for example arm64",
            ))
            .arg(words::value("os", None, "Operating system"))
            .arg(words::value(
                "variant",
                None,
                "Variant of the architecture, for example v7",
            ))
    },
    run: annotate,
};

/// `manifest push`.
pub(crate) const PUSH: Verb = Verb {
    names: &["manifest push"],
    about: "Put an index and its images into a registry",
    args: |command| {
        words::required(command, "list", "INDEX")
            .arg(
                Arg::new("target")
                    .value_name("TARGET")
                    .help("Where to, if not to where the name says"),
            )
            .arg(words::on(
                "purge",
                Some('p'),
                "Remove the index here afterwards",
            ))
            .arg(words::on("quiet", Some('q'), "Print the digest only"))
            .arg(words::on("insecure", None, "As --tls-verify=false").hide(true))
            .arg(tls_verify())
    },
    run: push,
};

/// `manifest rm`.
pub(crate) const REMOVE: Verb = Verb {
    names: &["manifest rm", "manifest remove"],
    about: "Remove indexes; their images stay",
    args: |command| {
        command.arg(
            Arg::new("list")
                .value_name("INDEX")
                .num_args(1..)
                .required(true),
        )
    },
    run: remove,
};

fn inspect(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let word = words::text(matches, "name").unwrap_or_default();
    let store = Store::open(&context.root)?;
    let verbose = words::is_on(matches, "verbose");
    if let Some((_, index)) = store.find_index(word)?
        && !verbose
    {
        output::text(indented(&index));
        return Ok(0);
    }
    let registries = Registries::new(matches)?;
    let from = places::source(&registries, &store, &places::parse(word)?)?;
    let (raw, document) = transfer::look(&*from.source, None)?;
    if !verbose {
        let value: Value = serde_json::from_slice(&raw.bytes).unwrap_or_default();
        output::text(indented(&value));
        return Ok(0);
    }
    let entry =
        |raw: &RawManifest, platform: Option<&Platform>| entry(&*from.source, raw, platform);
    match document {
        Document::Manifest(_) => output::text(indented(&entry(&raw, None))),
        Document::Index(index) => {
            let mut entries = Vec::new();
            for descriptor in &index.manifests {
                let (raw, _) = transfer::look(&*from.source, Some(descriptor))?;
                entries.push(entry(&raw, descriptor.platform.as_ref()));
            }
            output::text(indented(&entries));
        }
    }
    Ok(0)
}

/// One manifest of `manifest inspect --verbose`.
fn entry(source: &dyn Source, raw: &RawManifest, platform: Option<&Platform>) -> Value {
    let mut descriptor = json!({
        "mediaType": raw.media_type,
        "digest": raw.digest,
        "size": raw.bytes.len(),
    });
    if let Some(platform) = platform {
        descriptor["platform"] = json!(platform);
    }
    let content: Value = serde_json::from_slice(&raw.bytes).unwrap_or_default();
    let kind = match raw.media_type.contains("docker") {
        true => "SchemaV2Manifest",
        false => "OCIManifest",
    };
    json!({ "Ref": source.shown(), "Descriptor": descriptor, kind: content })
}

/// JSON with docker's indentation of three.
fn indented(value: &impl Serialize) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"   ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    // Writing values to memory can't fail.
    let _ = value.serialize(&mut serializer);
    out.push(b'\n');
    String::from_utf8_lossy(&out).into_owned()
}

fn create(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let list = tag(words::text(matches, "list").unwrap_or_default())?;
    let store = Store::open(&context.root)?;
    let known = store.find_index(&list.to_string())?;
    let mut manifests = match (known, words::is_on(matches, "amend")) {
        (Some((_, index)), true) => index.manifests,
        (Some(_), false) => {
            return Err(Failure::new(format!(
                "refusing to amend an existing manifest list {list}"
            ))
            .hint("add to it by --amend, or remove it: rctr manifest rm"));
        }
        (None, _) => Vec::new(),
    };
    for name in words::list(matches, "image") {
        let image = image(&store, &name)?;
        let mut descriptor = image.manifest.clone();
        descriptor.annotations.clear();
        descriptor.platform = Some(Platform::of(&image.config));
        manifests.retain(|other: &Descriptor| other.digest != descriptor.digest);
        manifests.push(descriptor);
    }
    store.put_index(&manifests, std::slice::from_ref(&list))?;
    output::line(format!("Created manifest list {}", pull::full(&list)));
    Ok(0)
}

/// An image here; one that isn't is pulled.
fn image(store: &Store, name: &str) -> Result<Image, Failure> {
    match store.find_image(name) {
        Err(error) if error.is_not_found() => {
            pull::for_run(name, None, false)?;
            Ok(store.find_image(name)?)
        }
        found => Ok(found?),
    }
}

fn tag(word: &str) -> Result<Reference, Failure> {
    let name = Reference::parse(word)?;
    match name.digest {
        None => Ok(name),
        Some(_) => Err(
            Failure::new(format!("{word} has a digest: a tag is wanted")).hint("write NAME[:TAG]"),
        ),
    }
}

fn index(store: &Store, name: &Reference) -> Result<(Descriptor, Index), Failure> {
    store.find_index(&name.to_string())?.ok_or_else(|| {
        Failure::new(format!("No such manifest: {name}")).hint(
            "`rctr manifest create INDEX IMAGE...` makes one, `rctr pull --all-platforms` gets one",
        )
    })
}

fn annotate(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let list = tag(words::text(matches, "list").unwrap_or_default())?;
    let word = words::text(matches, "image").unwrap_or_default();
    let store = Store::open(&context.root)?;
    let (_, mut index) = index(&store, &list)?;
    let digest = match word.parse() {
        Ok(digest) => digest,
        Err(_) => store.find_image(word)?.manifest.digest,
    };
    let found = index
        .manifests
        .iter_mut()
        .find(|manifest| manifest.digest == digest);
    let found = found.ok_or_else(|| {
        Failure::new(format!(
            "manifest for image {word} does not exist in {list}"
        ))
        .hint(format!(
            "`rctr manifest inspect {list}` shows what is in it"
        ))
    })?;
    let platform = found.platform.get_or_insert_default();
    let text = |name: &str| words::text(matches, name).map(str::to_owned);
    if let Some(os) = text("os") {
        platform.os = os;
    }
    if let Some(architecture) = text("arch") {
        platform.architecture = architecture;
    }
    if let Some(variant) = text("variant") {
        platform.variant = Some(variant);
    }
    store.put_index(&index.manifests, &[list])?;
    Ok(0)
}

fn push(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let list = tag(words::text(matches, "list").unwrap_or_default())?;
    let to = match words::text(matches, "target") {
        Some(word) => places::parse(word)?,
        None => Place::Registry(list.clone()),
    };
    let quiet = words::is_on(matches, "quiet");
    let registries = Registries::new(matches)?;
    let store = Store::open(&context.root)?;
    let (descriptor, _) = index(&store, &list)?;
    let target = places::target(&registries, &to)?;
    let look = if quiet { Look::Quiet } else { Look::auto() };
    let display = Display::start(look, Way::Push);
    let options = PushOptions::default();
    let pushed = transfer::push_index(&store, &descriptor, &*target, &options, &display);
    display.finish();
    output::line(pushed?.digest);
    if words::is_on(matches, "purge") {
        forget(context, &store, &[list])?;
    }
    Ok(0)
}

fn remove(context: &Context, matches: &ArgMatches) -> Result<u8, Failure> {
    let lists = words::list(matches, "list");
    let lists = lists
        .iter()
        .map(|word| tag(word))
        .collect::<Result<Vec<_>, _>>()?;
    let store = Store::open(&context.root)?;
    for list in &lists {
        index(&store, list)?;
    }
    forget(context, &store, &lists)?;
    lists.iter().for_each(output::line);
    Ok(0)
}

fn forget(context: &Context, store: &Store, lists: &[Reference]) -> Result<(), Failure> {
    identity::enter(&context.identity()?, Mounts::Host)?;
    for list in lists {
        store.remove_image(&list.to_string(), RemoveImage::default())?;
    }
    Ok(())
}
