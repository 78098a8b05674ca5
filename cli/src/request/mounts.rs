//! `-v`, `--mount`, `--tmpfs` and `--volumes-from`, read into [`MountRequest`]s. Nothing is looked up here.

use rctr_storage::record::MountRequest;

use super::values::{parse_bool, parse_csv, parse_size};

const PROPAGATIONS: [&str; 6] = [
    "private", "rprivate", "slave", "rslave", "shared", "rshared",
];

/// One `-v` word: `[SRC:]DST[:options]`.
///
/// A source that starts with `/` is a host path, one that starts with `.` is a host path relative to the caller's
/// directory (still relative in the result), anything else names a volume.
///
/// # Errors
/// Docker's messages for a bad specification.
pub(crate) fn parse_volume(text: &str) -> Result<MountRequest, String> {
    let invalid = |why: &str| {
        if why.is_empty() {
            format!("invalid volume specification: '{text}'")
        } else {
            format!("invalid volume specification: '{text}': {why}")
        }
    };
    let fields: Vec<&str> = text.split(':').collect();
    if fields.iter().any(|f| f.is_empty()) {
        return Err(invalid("empty section between colons"));
    }
    let (source, target, options) = match fields[..] {
        [target] => ("", target, ""),
        [_, options] if !options.starts_with('/') && is_options(options) => {
            return Err(invalid("a volume without a source can't have options"));
        }
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return Err(invalid("")),
    };
    check_target(target).map_err(|why| invalid(&why))?;
    let bind = source.starts_with(['/', '.']);
    let mut request = MountRequest {
        kind: if bind { "bind" } else { "volume" }.to_owned(),
        source: source.to_owned(),
        target: clean(target),
        create_source: bind,
        mode: options.to_owned(),
        ..MountRequest::default()
    };
    if !bind && !source.is_empty() {
        check_volume_name(source)?;
    }
    for option in options.split(',').filter(|o| !o.is_empty()) {
        match option {
            "ro" => request.read_only = true,
            "rw" | "z" | "Z" | "consistent" | "cached" | "delegated" => {}
            "nocopy" if !bind => request.no_copy = true,
            "bind" if bind => request.non_recursive = true,
            "rbind" if bind => {}
            "U" => request.chown = true,
            p if bind && PROPAGATIONS.contains(&p) => p.clone_into(&mut request.propagation),
            other => return Err(invalid(&format!("invalid mode: {other}"))),
        }
    }
    if options.split(',').any(|o| o == "ro") && options.split(',').any(|o| o == "rw") {
        return Err(invalid(&format!("invalid mode: {options}")));
    }
    Ok(request)
}

fn is_options(text: &str) -> bool {
    text.split(',').all(|option| {
        matches!(
            option,
            "ro" | "rw" | "z" | "Z" | "U" | "nocopy" | "consistent" | "cached" | "delegated"
        ) || PROPAGATIONS.contains(&option)
    })
}

/// One `--mount` word: `type=bind,source=/host,target=/inside,readonly`.
///
/// # Errors
/// Docker's messages for unknown or missing keys.
pub(crate) fn parse_mount(text: &str) -> Result<MountRequest, String> {
    let mut request = MountRequest {
        kind: "volume".to_owned(),
        ..MountRequest::default()
    };
    let mut only_for: Vec<(&'static str, String)> = Vec::new();
    for field in parse_csv(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        let key = key.trim().to_ascii_lowercase();
        let truth = || match value {
            None => Ok(true),
            Some(v) => parse_bool(v).map_err(|_| format!("invalid value for {key}: {v}")),
        };
        let need = || {
            value
                .filter(|v| !v.is_empty() || key == "source" || key == "src")
                .ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))
        };
        if let Some((kind, _)) = key
            .split_once('-')
            .filter(|(k, _)| matches!(*k, "bind" | "volume" | "tmpfs"))
        {
            let kind = match kind {
                "bind" => "bind",
                "volume" => "volume",
                _ => "tmpfs",
            };
            only_for.push((kind, key.clone()));
        }
        match key.as_str() {
            "type" => request.kind = need()?.to_ascii_lowercase(),
            "source" | "src" => need()?.clone_into(&mut request.source),
            "target" | "dst" | "destination" => need()?.clone_into(&mut request.target),
            "readonly" | "ro" => request.read_only = truth()?,
            "consistency" => drop(need()?),
            "bind-propagation" => {
                let value = need()?.to_ascii_lowercase();
                if !PROPAGATIONS.contains(&value.as_str()) {
                    return Err(format!("invalid propagation mode: {value}"));
                }
                request.propagation = value;
            }
            "bind-nonrecursive" => request.non_recursive = truth()?,
            "bind-recursive" => match need()? {
                "enabled" | "writable" | "readonly" => {}
                "disabled" => request.non_recursive = true,
                other => {
                    return Err(format!(
                        "invalid value for {key}: {other} (must be one of enabled, disabled, writable, readonly)"
                    ));
                }
            },
            "bind-create-src" | "bind-create-mountpoint" => request.create_source = truth()?,
            "volume-nocopy" => request.no_copy = truth()?,
            "volume-driver" if matches!(value, Some("local")) => {}
            "volume-driver" => {
                return Err(format!(
                    "volume driver {:?} is not available: only local is",
                    need()?
                ));
            }
            "volume-label" => {
                let (name, value) = split_label(need()?);
                request.labels.insert(name, value);
            }
            "volume-opt" => {
                return Err(format!(
                    "volume-opt is not supported ({}): volumes are directories of the store",
                    need()?
                ));
            }
            "volume-subpath" => return Err("volume-subpath is not supported".to_owned()),
            "tmpfs-size" => {
                let size = parse_size(need()?)?;
                add_option(&mut request.tmpfs_options, &format!("size={size}"));
            }
            "tmpfs-mode" => {
                let value = need()?;
                let mode = u32::from_str_radix(value, 8)
                    .ok()
                    .filter(|m| *m <= 0o7777)
                    .ok_or_else(|| format!("invalid value for {key}: {value}"))?;
                add_option(&mut request.tmpfs_options, &format!("mode={mode:o}"));
            }
            "" => return Err(format!("invalid field '{field}' must be a key=value pair")),
            _ if value.is_none() => {
                return Err(format!("invalid field '{field}' must be a key=value pair"));
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    settle_mount(&mut request, &only_for)?;
    Ok(request)
}

fn split_label(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

fn settle_mount(request: &mut MountRequest, only_for: &[(&str, String)]) -> Result<(), String> {
    let kind = request.kind.as_str();
    match kind {
        "bind" | "volume" | "tmpfs" => {}
        "image" | "npipe" | "cluster" | "glob" => {
            return Err(format!(
                "mount type {kind:?} is not supported: use bind, volume or tmpfs"
            ));
        }
        _ => return Err(format!("mount type unknown: {kind:?}")),
    }
    if let Some((_, key)) = only_for.iter().find(|(k, _)| *k != kind) {
        return Err(format!("cannot mix '{key}' with mount type '{kind}'"));
    }
    let bad = |why: String| format!("invalid mount config for type \"{kind}\": {why}");
    if request.target.is_empty() {
        return Err("target is required".to_owned());
    }
    check_target(&request.target).map_err(bad)?;
    match kind {
        "bind" if request.source.is_empty() => {
            return Err(bad("field Source must not be empty".to_owned()));
        }
        "bind" if !request.source.starts_with(['/', '.']) => {
            return Err(bad(format!(
                "invalid mount path: '{}' mount path must be absolute",
                request.source
            )));
        }
        "tmpfs" if !request.source.is_empty() => {
            return Err(bad("field Source must not be specified".to_owned()));
        }
        "volume" if !request.source.is_empty() => check_volume_name(&request.source)?,
        _ => {}
    }
    if kind == "tmpfs" && request.read_only {
        add_option(&mut request.tmpfs_options, "ro");
    }
    request.target = clean(&request.target);
    Ok(())
}

fn add_option(options: &mut String, option: &str) {
    if !options.is_empty() {
        options.push(',');
    }
    options.push_str(option);
}

/// One `--tmpfs` word: `PATH[:options]`.
///
/// # Errors
/// When the path isn't absolute or an option is unknown.
pub(crate) fn parse_tmpfs(text: &str) -> Result<MountRequest, String> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    check_target(target).map_err(|why| format!("invalid tmpfs mount {text:?}: {why}"))?;
    for option in options.split(',').filter(|o| !o.is_empty()) {
        let name = option.split('=').next().unwrap_or_default();
        let known = matches!(
            name,
            "rw" | "ro"
                | "exec"
                | "noexec"
                | "suid"
                | "nosuid"
                | "dev"
                | "nodev"
                | "sync"
                | "async"
                | "dirsync"
                | "remount"
                | "mand"
                | "nomand"
                | "atime"
                | "noatime"
                | "diratime"
                | "nodiratime"
                | "bind"
                | "rbind"
                | "relatime"
                | "norelatime"
                | "strictatime"
                | "nostrictatime"
                | "size"
                | "mode"
                | "uid"
                | "gid"
                | "nr_inodes"
                | "nr_blocks"
                | "mpol"
                | "tmpcopyup"
                | "notmpcopyup"
        );
        if !known {
            return Err(format!("invalid tmpfs option [\"{option}\"]"));
        }
        check_tmpfs_value(option)?;
    }
    Ok(MountRequest {
        kind: "tmpfs".to_owned(),
        target: clean(target),
        tmpfs_options: options.to_owned(),
        read_only: options.split(',').any(|o| o == "ro"),
        ..MountRequest::default()
    })
}

/// The kernel refuses a bad value without a word.
fn check_tmpfs_value(option: &str) -> Result<(), String> {
    let Some((name, value)) = option.split_once('=') else {
        return Ok(());
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let scaled = |units: &[char]| digits(value) || value.strip_suffix(units).is_some_and(digits);
    let (good, wanted) = match name {
        "size" => (
            scaled(&[
                'k', 'K', 'm', 'M', 'g', 'G', 't', 'T', 'p', 'P', 'e', 'E', '%',
            ]),
            "bytes, a number with k, m or g, or a percentage of the memory",
        ),
        "nr_inodes" | "nr_blocks" => (
            scaled(&['k', 'K', 'm', 'M', 'g', 'G']),
            "a number, also with k, m or g",
        ),
        "mode" => (
            u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777),
            "an octal number: 1777",
        ),
        "uid" | "gid" => (value.parse::<u32>().is_ok(), "a number"),
        _ => (true, ""),
    };
    if good {
        return Ok(());
    }
    Err(format!("invalid tmpfs option {option:?}: want {wanted}"))
}

/// One `--volumes-from` word: (container, read-only).
///
/// # Errors
/// When there is no name or the mode is unknown.
pub(crate) fn parse_volumes_from(text: &str) -> Result<(String, bool), String> {
    let (name, mode) = text.split_once(':').unwrap_or((text, "rw"));
    if name.is_empty() {
        return Err("malformed volumes-from specification: \"\"".to_owned());
    }
    let mut read_only = false;
    for word in mode.split(',') {
        match word {
            "ro" => read_only = true,
            "rw" | "z" | "Z" => {}
            _ => return Err(format!("invalid mode for volumes-from: {mode}")),
        }
    }
    Ok((name.to_owned(), read_only))
}

/// Absolute, and not the root.
fn check_target(target: &str) -> Result<(), String> {
    if !target.starts_with('/') {
        return Err(format!(
            "invalid mount path: '{target}' mount path must be absolute"
        ));
    }
    if clean(target) == "/" {
        return Err("invalid specification: destination can't be '/'".to_owned());
    }
    Ok(())
}

/// Docker's rule for the names of volumes.
///
/// # Errors
/// Docker's message.
pub(crate) fn check_volume_name(name: &str) -> Result<(), String> {
    let mut bytes = name.bytes();
    let good = bytes.next().is_some_and(|c| c.is_ascii_alphanumeric())
        && bytes.all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c));
    if !good {
        return Err(format!(
            "\"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed; if you meant a host directory, use an absolute path or ./path"
        ));
    }
    if name.len() < 2 {
        return Err(format!(
            "volume name {name:?} is too short: at least two characters"
        ));
    }
    Ok(())
}

/// An absolute path without `.`, `..`, doubled or trailing slashes (lexically, as Go's `path.Clean`).
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volume_words() {
        for (text, kind, source, target, read_only) in [
            ("/data", "volume", "", "/data", false),
            ("name:/data/", "volume", "name", "/data", false),
            ("name:/data:ro", "volume", "name", "/data", true),
            ("/h:/c", "bind", "/h", "/c", false),
            ("/h:/c:ro,z", "bind", "/h", "/c", true),
            ("./h:/c:rslave", "bind", "./h", "/c", false),
            ("..:/c", "bind", "..", "/c", false),
        ] {
            let got = parse_volume(text).unwrap();
            assert_eq!(
                (
                    got.kind.as_str(),
                    got.source.as_str(),
                    got.target.as_str(),
                    got.read_only
                ),
                (kind, source, target, read_only),
                "{text}"
            );
        }
        for text in [
            "rel",
            "/h:rel",
            "/h:/",
            "/:/../",
            "a::b",
            ":/x",
            "/x:",
            "/x:ro",
            "/h:/c:bad",
            "/h:/c:ro,rw",
            "/h:/c:nocopy",
            "n:/c:rslave",
            "b d:/c",
            "x:/c",
            "a:b:c:d",
        ] {
            let error = parse_volume(text).unwrap_err();
            assert!(!error.is_empty(), "{text}");
        }
    }

    #[test]
    fn mount_words() {
        let got =
            parse_mount("type=bind,\"source=/a,b\",target=/c,readonly,bind-propagation=rslave")
                .unwrap();
        assert_eq!(
            got,
            MountRequest {
                kind: "bind".to_owned(),
                source: "/a,b".to_owned(),
                target: "/c".to_owned(),
                read_only: true,
                propagation: "rslave".to_owned(),
                ..MountRequest::default()
            }
        );
        let got = parse_mount("type=tmpfs,dst=/t,tmpfs-size=8m,tmpfs-mode=1770").unwrap();
        assert_eq!(got.tmpfs_options, "size=8388608,mode=1770");
        let got = parse_mount("src=vol,dst=/t,volume-nocopy").unwrap();
        assert!(got.no_copy && got.kind == "volume");
        for (text, message) in [
            ("type=bind,src=/a", "target is required"),
            ("type=bind,src=/a,dst=/c,tmpfs-size=1m", "cannot mix"),
            ("type=bind,dst=/c", "must not be empty"),
            ("type=bind,src=a,dst=/c", "must be absolute"),
            ("type=foo,dst=/c", "mount type unknown"),
            ("dst=/c,what=1", "unexpected key 'what'"),
            ("dst=/c,what", "must be a key=value pair"),
            ("dst=c", "must be absolute"),
            ("dst=/", "destination can't be '/'"),
            ("type=tmpfs,src=x,dst=/c", "must not be specified"),
            ("dst=/c,ro=maybe", "invalid value for ro"),
        ] {
            let error = parse_mount(text).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn tmpfs_words() {
        let got = parse_tmpfs("/run:rw,size=64k").unwrap();
        assert_eq!(
            (got.target.as_str(), got.tmpfs_options.as_str()),
            ("/run", "rw,size=64k")
        );
        assert!(parse_tmpfs("run").is_err());
        assert!(parse_tmpfs("/run:bad").is_err());
        for good in ["size=0", "size=1G", "size=50%", "mode=01777", "uid=5"] {
            assert!(parse_tmpfs(&format!("/t:{good}")).is_ok(), "{good}");
        }
        for bad in [
            "size=zz",
            "size=",
            "size=1.5m",
            "nr_inodes=5%",
            "mode=9",
            "gid=-1",
        ] {
            let error = parse_tmpfs(&format!("/t:rw,{bad}")).unwrap_err();
            assert!(error.contains(bad) && error.contains(": want "), "{error}");
        }
    }

    #[test]
    fn volumes_from_words() {
        assert_eq!(parse_volumes_from("c"), Ok(("c".to_owned(), false)));
        assert_eq!(parse_volumes_from("c:ro"), Ok(("c".to_owned(), true)));
        assert!(parse_volumes_from(":ro").is_err());
        assert!(parse_volumes_from("c:x").is_err());
    }
}
