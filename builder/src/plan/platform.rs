//! Platforms as the command line and FROM write them: `linux/amd64`, `arm64`, `linux/arm/v7`.

use rctr_storage::manifest::Platform;

/// The text names no platform that images can be built for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlatform {
    /// Not of the form.
    #[error("{text:?} is an invalid platform: want OS[/ARCH[/VARIANT]], for example linux/amd64")]
    Format {
        /// What was given.
        text: String,
    },
    /// Windows and the like.
    #[error("cannot build for {os}: images are built for linux only")]
    System {
        /// What was asked for.
        os: String,
    },
}

/// Systems that containerd knows: `windows` alone is a system, `arm64` alone an architecture.
const SYSTEMS: &[&str] = &[
    "linux",
    "windows",
    "darwin",
    "macos",
    "freebsd",
    "netbsd",
    "openbsd",
    "dragonfly",
    "solaris",
    "plan9",
    "android",
    "aix",
    "js",
    "wasip1",
];

/// Parses and normalizes `text`; what isn't said is this machine's.
///
/// # Errors
/// When it is no platform, or not one of linux.
pub fn parse(text: &str) -> Result<Platform, InvalidPlatform> {
    let parts: Vec<String> = text.split('/').map(str::to_ascii_lowercase).collect();
    let host = host();
    let of = |os: &str, architecture: &str, variant: Option<&str>| {
        let (architecture, variant) = normal(architecture, variant);
        platform(os, &architecture, variant)
    };
    let word = |part: &String| {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        !part.is_empty() && part.bytes().all(good)
    };
    let found = match parts.as_slice() {
        parts if !parts.iter().all(word) => None,
        [os] if SYSTEMS.contains(&os.as_str()) => {
            Some(platform(os, &host.architecture, host.variant))
        }
        [architecture] => Some(of("linux", architecture, None)),
        [os, architecture] => Some(of(os, architecture, None)),
        [os, architecture, variant] => Some(of(os, architecture, Some(variant))),
        _ => None,
    };
    let found = found.ok_or_else(|| InvalidPlatform::Format {
        text: text.to_owned(),
    })?;
    if found.os != "linux" {
        return Err(InvalidPlatform::System { os: found.os });
    }
    Ok(found)
}

/// This machine's.
#[must_use]
pub fn host() -> Platform {
    let (architecture, variant) = normal(std::env::consts::ARCH, None);
    platform("linux", &architecture, variant)
}

/// `linux/amd64`, `linux/arm/v7`.
#[must_use]
pub fn shown(platform: &Platform) -> String {
    let (architecture, variant) = normal(&platform.architecture, platform.variant.as_deref());
    match variant {
        Some(variant) => format!("{}/{architecture}/{variant}", platform.os),
        None => format!("{}/{architecture}", platform.os),
    }
}

/// Whether what is made for `image` runs where `wanted` is asked for, as far as BuildKit compares it.
pub(super) fn same(wanted: &Platform, image: &Platform) -> bool {
    wanted.os == image.os && wanted.architecture == image.architecture
}

fn platform(os: &str, architecture: &str, variant: Option<String>) -> Platform {
    Platform {
        os: os.to_owned(),
        architecture: architecture.to_owned(),
        variant,
        ..Platform::default()
    }
}

/// Go's words; variants that are an architecture's usual one are left out (`arm` always has one).
fn normal(architecture: &str, variant: Option<&str>) -> (String, Option<String>) {
    let variant = variant.filter(|v| !v.is_empty());
    let (architecture, variant) = match (architecture, variant) {
        ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64", None),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386", None),
        ("aarch64" | "arm64", None | Some("8" | "v8" | "v8.0")) => ("arm64", None),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) | ("arm", None | Some("7")) => ("arm", Some("v7")),
        ("armel", _) | ("arm", Some("6")) => ("arm", Some("v6")),
        ("arm", Some("5")) => ("arm", Some("v5")),
        ("arm", Some("8")) => ("arm", Some("v8")),
        other => other,
    };
    (architecture.to_owned(), variant.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_have_several_spellings() {
        for (text, want) in [
            ("linux/amd64", "linux/amd64"),
            ("amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("aarch64", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("armhf", "linux/arm/v7"),
            ("Linux/386", "linux/386"),
            ("linux/amd64/v3", "linux/amd64/v3"),
        ] {
            assert_eq!(shown(&parse(text).unwrap()), want, "{text}");
        }
        assert_eq!(parse("linux").unwrap(), host());
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "/",
            "a/b/c/d",
            "linux/",
            "linux/amd 64",
            "windows",
            "windows/amd64",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let windows = parse("windows/amd64").unwrap_err().to_string();
        assert!(windows.contains("linux only"), "{windows}");
    }
}
