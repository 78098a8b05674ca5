//! The root file systems that tests start from, made once by `scripts/mkimage`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::account::Account;
use super::sandbox::base;

/// A tar of a file system with static busybox, a few users and groups: 2 MB.
pub(crate) fn busybox() -> &'static Path {
    static TAR: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    TAR.get_or_init(|| provide("busybox"))
        .as_ref()
        .expect("busybox-static is installed by scripts/test")
}

/// A tar of a small Debian with apt, or why there is none.
pub(crate) fn debian() -> Result<&'static Path, String> {
    static TAR: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    TAR.get_or_init(|| provide("debian"))
        .as_deref()
        .map_err(Clone::clone)
}

/// Busybox for arm64, or why there is none.
pub(crate) fn busybox_arm64() -> Result<&'static Path, String> {
    static TAR: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    TAR.get_or_init(|| provide("busybox-arm64"))
        .as_deref()
        .map_err(Clone::clone)
}

fn provide(name: &str) -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("cli/ has a parent");
    let dir =
        env::var_os("RCTR_TEST_IMAGES").map_or_else(|| source.join("target/images"), PathBuf::from);
    let tar = dir.join(format!("{name}.tar"));
    if !tar.exists() && name == "debian" && env::var_os("RCTR_TEST_NO_DEBIAN").is_some() {
        return Err("no package mirror can be reached to make a Debian image".to_owned());
    }
    if !tar.exists() && name == "busybox-arm64" && env::var_os("RCTR_TEST_NO_ARM64").is_some() {
        return Err("no package mirror can be reached to make an arm64 image".to_owned());
    }
    if !tar.exists() {
        let made = Command::new(source.join("scripts/mkimage"))
            .arg(name)
            .arg(&tar)
            .output();
        let made = made.map_err(|e| format!("cannot run scripts/mkimage: {e}"))?;
        if !made.status.success() {
            let text = String::from_utf8_lossy(&made.stderr).into_owned();
            return Err(format!(
                "no {name} image: {}",
                text.lines().last().unwrap_or("scripts/mkimage failed")
            ));
        }
    }
    // The user under test may not be able to read the source tree (a clone below /root).
    if !Account::current().tests_are_root() {
        return Ok(tar);
    }
    let copy = base().join(format!("{name}.tar"));
    fs::copy(&tar, &copy).map_err(|e| format!("cannot copy {}: {e}", tar.display()))?;
    Ok(copy)
}
