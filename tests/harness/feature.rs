//! What a machine may lack. A test that needs it says so first; without it, it is skipped loudly and counted.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::account::{Account, find_program};
use super::images;

/// Something that not every machine has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Feature {
    /// Subordinate ids and the programs that map them.
    SubordinateIds,
    /// pasta or slirp4netns, and /dev/net/tun.
    PrivateNetwork,
    /// fuse-overlayfs, and the device.
    Fuse,
    /// A program of this name.
    Tool(&'static str),
    /// A Debian root file system (`debian.tar`).
    Debian,
    /// Programs for arm64: an image, and a static qemu-user or the processor itself.
    Arm64,
    /// The package mirror named in that Debian's apt sources answers.
    Mirror,
    /// Debian's `docker-registry`, and openssl for its certificates.
    Registry,
    /// Debian's dockerd, and root to run it.
    BuildKit,
    /// The tests may mount file systems: they are root, or sudo asks for no password.
    Mounts,
}

/// Ends the test, as skipped, unless the machine has all of the features.
macro_rules! require {
    ($($feature:expr),+ $(,)?) => {
        $(if let Err(reason) = $crate::harness::Feature::check($feature) {
            $crate::harness::Feature::skip(&reason);
            return;
        })+
    };
}
pub(crate) use require;

impl Feature {
    /// Whether it is there, or why not.
    pub(crate) fn check(self) -> Result<(), String> {
        match self {
            Self::SubordinateIds => subordinate_ids(),
            Self::PrivateNetwork => private_network(),
            Self::Fuse => fuse(),
            Self::Tool(name) => find_program(name)
                .map(drop)
                .ok_or_else(|| format!("{name} is not installed")),
            Self::Debian => images::debian().map(drop),
            Self::Arm64 => arm64(),
            Self::Mirror => mirror(),
            Self::Registry => Self::Tool("docker-registry")
                .check()
                .and_then(|()| Self::Tool("openssl").check()),
            Self::BuildKit => super::buildkit::BuildKit::check(),
            Self::Mounts => mounts(),
        }
    }

    /// Says that the running test is skipped.
    #[expect(clippy::print_stderr, reason = "a skip must be seen")]
    pub(crate) fn skip(reason: &str) {
        let thread = std::thread::current();
        let line = format!("SKIP {}: {reason}", thread.name().unwrap_or("?"));
        eprintln!("{line}");
        if let Some(path) = std::env::var_os("RCTR_TEST_SKIPS") {
            let mut file = OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .unwrap();
            writeln!(file, "{line}").unwrap();
        }
    }
}

fn subordinate_ids() -> Result<(), String> {
    let account = Account::current();
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        let owners = [account.name.clone(), account.uid.to_string()];
        if !text
            .lines()
            .any(|line| owners.iter().any(|o| line.split(':').next() == Some(o)))
        {
            return Err(format!("{} has no range in {file}", account.name));
        }
    }
    Feature::Tool("newuidmap").check()
}

fn private_network() -> Result<(), String> {
    let helper = Feature::Tool("pasta")
        .check()
        .or_else(|_| Feature::Tool("slirp4netns").check());
    helper.map_err(|_| "neither pasta nor slirp4netns is installed".to_owned())?;
    if !Path::new("/dev/net/tun").exists() {
        return Err("there is no /dev/net/tun".to_owned());
    }
    Ok(())
}

fn fuse() -> Result<(), String> {
    Feature::Tool("fuse-overlayfs").check()?;
    let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    device
        .map(drop)
        .map_err(|error| format!("cannot open /dev/fuse: {error}"))
}

fn arm64() -> Result<(), String> {
    if std::env::consts::ARCH != "aarch64" {
        Feature::Tool("qemu-aarch64-static").check()?;
    }
    images::busybox_arm64().map(drop)
}

fn mirror() -> Result<(), String> {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    let probe = || {
        let tar = images::debian()?;
        let sources = Command::new("tar")
            .arg("xOf")
            .arg(tar)
            .arg("./etc/apt/sources.list")
            .output();
        let sources = sources
            .map_err(|e| format!("cannot read apt's sources: {e}"))?
            .stdout;
        let sources = String::from_utf8_lossy(&sources).into_owned();
        let host = sources
            .split("http://")
            .nth(1)
            .and_then(|rest| rest.split(['/', ' ']).next())
            .ok_or("the Debian image names no http mirror")?;
        let mut addresses = (host, 80)
            .to_socket_addrs()
            .map_err(|e| format!("cannot look up the package mirror: {e}"))?;
        addresses
            .find_map(|a| TcpStream::connect_timeout(&a, Duration::from_secs(3)).ok())
            .map(drop)
            .ok_or_else(|| "the package mirror does not answer".to_owned())
    };
    ANSWER.get_or_init(probe).clone()
}

fn mounts() -> Result<(), String> {
    if Account::current().tests_are_root() {
        return Ok(());
    }
    let sudo = Command::new("sudo").args(["-n", "true"]).output();
    match sudo {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err("mounting needs root or sudo".to_owned()),
    }
}
