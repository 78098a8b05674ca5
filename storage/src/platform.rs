//! Platforms: how they are written, and which image runs where.
//!
//! Words are Go's (GOOS, GOARCH). A variant that is an architecture's usual one is the same as none: `arm64` is `arm64/v8`,
//! `arm` is `arm/v7`, `amd64` is `amd64/v1`.

use std::fmt;

use crate::explain::Explain;
use crate::manifest::{Descriptor, Index, Platform};

/// The text names no platform that images can be for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlatform {
    /// Not of the form.
    #[error("{text:?} is an invalid platform: want OS[/ARCH[/VARIANT]], for example linux/amd64")]
    Format {
        /// What was given.
        text: String,
    },
    /// Windows and the like.
    #[error("cannot build or run images for {os}: they are for linux only here")]
    System {
        /// What was asked for.
        os: String,
    },
}

impl Explain for InvalidPlatform {
    fn hint(&self) -> Option<String> {
        Some("write it as linux/amd64, linux/arm64 or linux/arm/v7".to_owned())
    }
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

impl Platform {
    /// Parses and normalizes `text`; what isn't said is this machine's.
    ///
    /// # Errors
    /// When it is no platform, or not one of linux.
    pub fn parse(text: &str) -> Result<Self, InvalidPlatform> {
        let parts: Vec<String> = text.split('/').map(str::to_ascii_lowercase).collect();
        let word = |part: &String| {
            let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
            !part.is_empty() && part.bytes().all(good)
        };
        let found = match parts.as_slice() {
            parts if !parts.iter().all(word) => None,
            [os] if SYSTEMS.contains(&os.as_str()) => Some(Self {
                os: os.clone(),
                ..Self::host()
            }),
            [architecture] => Some(Self::new("linux", architecture, None)),
            [os, architecture] => Some(Self::new(os, architecture, None)),
            [os, architecture, variant] => Some(Self::new(os, architecture, Some(variant))),
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

    /// Normalizes the words.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let (architecture, variant) = normal(architecture, variant);
        Self {
            os: os.to_owned(),
            architecture,
            variant,
            ..Self::default()
        }
    }

    /// This machine's. Its variant isn't told: [`detected_host`](Self::detected_host).
    #[must_use]
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, None)
    }

    /// This machine's, with the level of an x86-64 processor (`linux/amd64/v3`), as docker tells it.
    #[must_use]
    pub fn detected_host() -> Self {
        let host = Self::host();
        let variant = match host.architecture.as_str() {
            "amd64" => Some(format!("v{}", amd64_level())),
            "arm64" => Some("v8".to_owned()),
            _ => host.variant,
        };
        Self { variant, ..host }
    }

    /// Whether an image of this platform is made for the host's kernel and processor: no emulation is needed.
    #[must_use]
    pub fn is_native(&self) -> bool {
        let host = Self::host();
        host.matches(self) || host.architecture == "amd64" && self.normal().architecture == "386"
    }

    /// Whether an image of the platform `image` fits where this one is wanted: the same architecture, in a variant of the same
    /// level or a lower one. What an image doesn't say is this machine's.
    #[must_use]
    pub fn matches(&self, image: &Self) -> bool {
        self.distance(image).is_some()
    }

    /// The item that fits best, by the platform that `of` tells; one that says nothing doesn't fit.
    pub fn choose<'i, T>(
        &self,
        items: impl IntoIterator<Item = &'i T>,
        of: impl Fn(&T) -> Option<&Self>,
    ) -> Option<&'i T> {
        let items = items.into_iter();
        let fitting = items.filter_map(|item| Some((self.distance(of(item)?)?, item)));
        fitting
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, item)| item)
    }

    /// How far `image` is from what is wanted: 0 is the very same, `None` doesn't fit.
    fn distance(&self, image: &Self) -> Option<u32> {
        let (wanted, image) = (self.normal(), image.normal());
        if (&wanted.os, &wanted.architecture) != (&image.os, &image.architecture) {
            return None;
        }
        if wanted.variant == image.variant {
            return Some(0);
        }
        let (level, own) = (wanted.level()?, image.level()?);
        if own <= level {
            return Some(level - own);
        }
        // Nobody said which: better one than none, if the processor can do it.
        let open = wanted.architecture == "amd64" && wanted.variant.is_none();
        (open && own <= amd64_level()).then_some(100 + own)
    }

    /// The number of the variant, the usual one if there is none.
    fn level(&self) -> Option<u32> {
        match (self.architecture.as_str(), self.variant.as_deref()) {
            ("amd64", None) => Some(1),
            ("arm64", None) => Some(8),
            (_, Some(variant)) => {
                let number = variant.strip_prefix('v').unwrap_or(variant);
                number.split('.').next()?.parse().ok()
            }
            (_, None) => None,
        }
    }

    /// With the usual words, and this machine's for those that are missing.
    #[must_use]
    pub fn normal(&self) -> Self {
        let or = |text: &str, default: &str| match text {
            "" => default.to_owned(),
            text => text.to_owned(),
        };
        let os = or(&self.os, "linux");
        let architecture = or(&self.architecture, std::env::consts::ARCH);
        Self::new(&os, &architecture, self.variant.as_deref())
    }
}

impl fmt::Display for Platform {
    /// `linux/amd64`, `linux/arm/v7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let normal = self.normal();
        write!(f, "{}/{}", normal.os, normal.architecture)?;
        match normal.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl Index {
    /// The manifest that fits `platform` best; when none does, the only one there is.
    #[must_use]
    pub fn for_platform(&self, platform: &Platform) -> Option<&Descriptor> {
        let fitting = platform.choose(&self.manifests, |d| d.platform.as_ref());
        match (fitting, self.manifests.as_slice()) {
            (None, [only]) => Some(only),
            (found, _) => found,
        }
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
        ("powerpc64" | "ppc64el" | "powerpc64le", variant) => ("ppc64le", variant),
        ("loongarch64", variant) => ("loong64", variant),
        other => other,
    };
    (architecture.to_owned(), variant.map(str::to_owned))
}

/// The x86-64 level of this machine's processor (x86-64 psABI, "Micro-Architecture Levels").
#[cfg(target_arch = "x86_64")]
fn amd64_level() -> u32 {
    macro_rules! all { ($($name:tt)*) => { true $(&& is_x86_feature_detected!($name))* }; }
    if !all!("cmpxchg16b" "popcnt" "sse3" "sse4.1" "sse4.2" "ssse3") {
        return 1;
    }
    if !all!("avx" "avx2" "bmi1" "bmi2" "f16c" "fma" "lzcnt" "movbe") {
        return 2;
    }
    if !all!("avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl") {
        return 3;
    }
    4
}

#[cfg(not(target_arch = "x86_64"))]
fn amd64_level() -> u32 {
    1
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
            assert_eq!(Platform::parse(text).unwrap().to_string(), want, "{text}");
        }
        assert_eq!(Platform::parse("linux").unwrap(), Platform::host());
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
            assert!(Platform::parse(text).is_err(), "{text}");
        }
        let windows = Platform::parse("windows/amd64").unwrap_err().to_string();
        assert!(windows.contains("linux only"), "{windows}");
    }

    /// As an image's config may have it, nothing put right.
    fn raw(text: &str) -> Platform {
        let mut words = text.split('/').map(str::to_owned);
        Platform {
            os: words.next().unwrap_or_default(),
            architecture: words.next().unwrap_or_default(),
            variant: words.next(),
            ..Platform::default()
        }
    }

    #[test]
    fn an_image_fits_where_its_variant_is_enough() {
        for (wanted, image, fits) in [
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm64", "linux/arm64/v9", false),
            ("linux/arm/v7", "linux/arm/v6", true),
            ("linux/arm/v6", "linux/arm/v7", false),
            ("linux/arm", "linux/arm/v7", true),
            ("linux/amd64", "linux/amd64/v1", true),
            ("linux/amd64/v3", "linux/amd64/v2", true),
            ("linux/amd64/v2", "linux/amd64/v3", false),
            ("linux/amd64", "linux/arm64", false),
            ("linux/arm64", "linux/arm/v7", false),
            ("linux/amd64", "windows/amd64", false),
            ("linux/arm64", "unknown/unknown", false),
        ] {
            assert_eq!(raw(wanted).matches(&raw(image)), fits, "{wanted} {image}");
        }
        assert!(
            Platform::host().matches(&Platform::default()),
            "nothing said"
        );
    }

    #[test]
    fn the_nearest_variant_is_chosen() {
        let have = ["linux/arm/v5", "linux/arm/v6", "linux/arm64", "linux/amd64"].map(raw);
        let choose = |text| {
            raw(text)
                .choose(&have, |p| Some(p))
                .map(Platform::to_string)
        };
        assert_eq!(choose("linux/arm/v7").as_deref(), Some("linux/arm/v6"));
        assert_eq!(choose("linux/arm/v5").as_deref(), Some("linux/arm/v5"));
        assert_eq!(choose("linux/riscv64"), None);
    }
}
