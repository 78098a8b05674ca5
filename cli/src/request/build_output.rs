//! `build --output`: where the result goes.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::ArgMatches;
use rctr_builder::build::Output;
use rctr_builder::engine::{Destination, Files};
use rctr_storage::archive::Format;
use rctr_storage::reference::Reference;

use super::build::tagged;
use super::values::{parse_bool, parse_csv};
use crate::commands::words::{bad, is_on, list};
use crate::report::Failure;

/// What is made of the result.
pub(crate) struct Outputs {
    pub(crate) outputs: Vec<Output>,
    /// Names that they give the image.
    pub(crate) names: Vec<Reference>,
    /// The image goes to the registries that its names say.
    pub(crate) push: bool,
}

/// All outputs. None given: an image of the store.
///
/// # Errors
/// A type that there isn't, a missing destination, or two that go to standard output.
pub(crate) fn outputs(matches: &ArgMatches) -> Result<Outputs, Failure> {
    let mut all = Outputs {
        outputs: Vec::new(),
        names: Vec::new(),
        push: is_on(matches, "push"),
    };
    for text in list(matches, "output") {
        let why = |why: String| bad("output", &text, why);
        let words = parse_csv(&text).map_err(why)?;
        let one = output(&words).map_err(why)?;
        if all.outputs.iter().any(to_stdout) && to_stdout(&one.output) {
            return Err(why("another one goes to standard output already".into()));
        }
        if !all.outputs.contains(&one.output) {
            all.outputs.push(one.output);
        }
        all.names.extend(one.names);
        all.push |= one.push;
    }
    // What is pushed is an image of the store.
    if all.outputs.is_empty() || all.push && !all.outputs.contains(&Output::Image) {
        all.outputs.push(Output::Image);
    }
    Ok(all)
}

/// Whether standard output is taken by the result.
pub(crate) fn to_stdout(output: &Output) -> bool {
    matches!(
        output,
        Output::Files(Files::Tar(Destination::Stdout)) | Output::Archive(_, Destination::Stdout)
    )
}

/// One `--output`.
#[derive(Debug)]
struct One {
    output: Output,
    names: Vec<Reference>,
    push: bool,
}

/// `type=local,dest=DIR`, `type=tar|oci|docker[,dest=FILE]`, `type=image`, a directory, `-`.
fn output(words: &[String]) -> Result<One, String> {
    if let [one] = words
        && !one.contains('=')
    {
        return Ok(One {
            output: match one.as_str() {
                "" => return Err("it is empty".to_owned()),
                "-" => Output::Files(Files::Tar(stdout()?)),
                path => Output::Files(Files::Directory(PathBuf::from(path))),
            },
            names: Vec::new(),
            push: false,
        });
    }
    let mut kind = "";
    let mut dest = None;
    let (mut names, mut push) = (Vec::new(), None);
    for word in words {
        match word.split_once('=').unwrap_or((word, "")) {
            ("type", value) => kind = value,
            ("dest" | "destination", value) => dest = Some(value).filter(|path| !path.is_empty()),
            ("name", value) => {
                for name in value.split(',').filter(|name| !name.is_empty()) {
                    names.push(tagged(name)?);
                }
            }
            ("push", value) => push = Some(parse_bool(value)?),
            ("tar", value) if !parse_bool(value)? => {
                return Err("only archives are written: without tar=false".to_owned());
            }
            // How others store and compress what stays here as it is.
            (
                "tar" | "compression" | "compression-level" | "force-compression"
                | "oci-mediatypes" | "unpack" | "store" | "rewrite-timestamp" | "platform-split",
                _,
            ) => {}
            (key, _) => return Err(format!("unexpected key {key:?}: want type, dest or name")),
        }
    }
    let archive = || match dest {
        Some("-") | None => stdout(),
        Some(path) => Ok(Destination::File(PathBuf::from(path))),
    };
    let output = match (kind, dest) {
        ("local", Some(path)) => Output::Files(Files::Directory(PathBuf::from(path))),
        ("local", None) => return Err("type=local needs dest=DIRECTORY".to_owned()),
        ("tar", _) => Output::Files(Files::Tar(archive()?)),
        ("image" | "docker" | "registry", None) => Output::Image,
        ("docker", _) => Output::Archive(Format::Docker, archive()?),
        ("oci", _) => Output::Archive(Format::Oci, archive()?),
        ("cacheonly", _) => Output::Nothing,
        ("", _) => return Err("type= is missing".to_owned()),
        _ => {
            return Err(
                "want type=local, tar, oci, docker, image, registry or cacheonly".to_owned(),
            );
        }
    };
    let push = push.unwrap_or(kind == "registry");
    if push && output != Output::Image {
        return Err("only images are pushed: type=image or type=registry".to_owned());
    }
    Ok(One {
        output,
        names,
        push,
    })
}

/// Nobody wants an archive on a screen.
fn stdout() -> Result<Destination, String> {
    match std::io::stdout().is_terminal() {
        true => Err("a terminal takes no archive: give dest=FILE".to_owned()),
        false => Ok(Destination::Stdout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Output, String> {
        output(&parse_csv(text)?).map(|one| one.output)
    }

    #[test]
    fn outputs_are_understood() {
        let file = |path: &str| Destination::File(PathBuf::from(path));
        let directory = Output::Files(Files::Directory("out".into()));
        assert_eq!(parsed("out").unwrap(), directory);
        assert_eq!(parsed("type=local,dest=out").unwrap(), directory);
        let tar = Output::Files(Files::Tar(file("o.tar")));
        assert_eq!(parsed("type=tar,dest=o.tar").unwrap(), tar);
        let oci = Output::Archive(Format::Oci, file("o"));
        assert_eq!(parsed("dest=o,type=oci").unwrap(), oci);
        assert_eq!(parsed("type=docker").unwrap(), Output::Image);
        assert_eq!(parsed("type=cacheonly").unwrap(), Output::Nothing);
        for (text, push) in [
            ("type=registry", true),
            ("type=image", false),
            ("type=image,push=true", true),
        ] {
            assert_eq!(
                output(&parse_csv(text).unwrap()).unwrap().push,
                push,
                "{text}"
            );
        }
        let words = ["type=image".to_owned(), "name=a:1".to_owned()];
        assert_eq!(output(&words).unwrap().names[0].to_string(), "a:1");
    }

    #[test]
    fn bad_outputs_are_told() {
        for (text, why) in [
            ("type=local", "dest=DIRECTORY"),
            ("type=zip", "want type="),
            ("dest=x", "type= is missing"),
            ("type=oci,push=true", "only images are pushed"),
            ("type=image,name=Bad Name", "invalid"),
            ("type=oci,tar=false,dest=x", "tar=false"),
            ("type=tar,to=x", "unexpected key"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
