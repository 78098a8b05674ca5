//! `attach.sock`: a Unix socket of packets (SOCK_SEQPACKET, unix(7)) in the container's run directory.
//!
//! A socket's address holds 107 bytes at most; a run directory may be longer. Both sides reach it as
//! `/proc/self/fd/N/attach.sock`, N being the open directory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect, listen, recv,
    send, socket, socketpair,
};

const NAME: &str = "attach.sock";

/// Where the live files of a container are: `<run>/<short ID>`.
#[must_use]
pub fn run_directory(run: &Path, container_id: &str) -> PathBuf {
    run.join(&container_id[..container_id.len().min(12)])
}

/// Makes the container's run directory and listens there; what a killed monitor left is replaced.
pub(crate) fn bind_in(directory: &Path) -> io::Result<OwnedFd> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    match fs::remove_file(directory.join(NAME)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = new()?;
    let (_open, address) = address(directory)?;
    bind(listener.as_raw_fd(), &address)?;
    listen(&listener, Backlog::MAXCONN)?;
    Ok(listener)
}

/// Removes the socket and its directory, unless other files are in it.
pub(crate) fn unbind(directory: &Path) {
    // What can't be removed is replaced at the next start.
    let _ = fs::remove_file(directory.join(NAME));
    let _ = fs::remove_dir(directory);
}

/// Removes what a killed monitor left of a container that is removed.
pub fn forget(run: &Path, container_id: &str) {
    unbind(&run_directory(run, container_id));
}

/// How old a directory without a socket must be: a monitor makes the one right after the other.
const ABANDONED: Duration = Duration::from_secs(60);

/// Removes what killed monitors left of containers that are gone. Several stores may share `run`, so what counts is
/// that nobody listens.
pub fn sweep(run: &Path) {
    let Ok(entries) = fs::read_dir(run) else {
        return;
    };
    for directory in entries.flatten().map(|entry| entry.path()) {
        let is_ours = directory
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.len() == 12 && name.bytes().all(|c| c.is_ascii_hexdigit()));
        if !is_ours {
            continue;
        }
        let old = || {
            let changed = fs::metadata(&directory).and_then(|meta| meta.modified());
            changed.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > ABANDONED))
        };
        match connect_in(&directory).map_err(|error| error.kind()) {
            Err(ErrorKind::ConnectionRefused) => unbind(&directory),
            Err(ErrorKind::NotFound) if old() => unbind(&directory),
            _ => {}
        }
    }
}

/// A connection to the monitor of the container whose run directory this is.
pub(crate) fn connect_in(directory: &Path) -> io::Result<OwnedFd> {
    let (_open, address) = address(directory)?;
    let client = new()?;
    loop {
        match connect(client.as_raw_fd(), &address) {
            Err(nix::Error::EINTR) => {}
            other => break other?,
        }
    }
    Ok(client)
}

fn new() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
}

/// Two connected ends.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        flags,
    )?)
}

/// The address, and the open directory that must live until it was used.
fn address(directory: &Path) -> io::Result<(File, UnixAddr)> {
    let open = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(directory)?;
    let path = format!("/proc/self/fd/{}/{NAME}", open.as_raw_fd());
    let address = UnixAddr::new(path.as_str())?;
    Ok((open, address))
}

/// Sends a packet; blocks while the peer's queue is full.
pub(crate) fn send_packet(to: impl AsFd, packet: &[u8]) -> io::Result<()> {
    transmit(to.as_fd(), packet, MsgFlags::empty())
}

/// Sends a packet, or gives `WouldBlock`.
pub(crate) fn try_send_packet(to: impl AsFd, packet: &[u8]) -> io::Result<()> {
    transmit(to.as_fd(), packet, MsgFlags::MSG_DONTWAIT)
}

fn transmit(to: BorrowedFd<'_>, packet: &[u8], flags: MsgFlags) -> io::Result<()> {
    loop {
        match send(to.as_raw_fd(), packet, flags | MsgFlags::MSG_NOSIGNAL) {
            Err(nix::Error::EINTR) => {}
            // All or nothing: packets are never cut.
            other => return Ok(other.map(drop)?),
        }
    }
}

/// Receives a packet into `buffer`; an empty one means that the peer has gone.
pub(crate) fn receive(from: impl AsFd, buffer: &mut [u8]) -> io::Result<&[u8]> {
    take_packet(from.as_fd(), buffer, MsgFlags::empty())
}

/// The same, or gives `WouldBlock`.
pub(crate) fn try_receive(from: impl AsFd, buffer: &mut [u8]) -> io::Result<&[u8]> {
    take_packet(from.as_fd(), buffer, MsgFlags::MSG_DONTWAIT)
}

fn take_packet<'b>(
    from: BorrowedFd<'_>,
    buffer: &'b mut [u8],
    flags: MsgFlags,
) -> io::Result<&'b [u8]> {
    loop {
        match recv(from.as_raw_fd(), buffer, flags) {
            Err(nix::Error::EINTR) => {}
            Err(nix::Error::ECONNRESET) => return Ok(&[]),
            Ok(length) => return Ok(&buffer[..length]),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_directory_works() {
        let top = std::env::temp_dir().join(format!("rctr-sock-{}", std::process::id()));
        let directory = top.join("x".repeat(150));
        let listener = bind_in(&directory).unwrap();
        let client = connect_in(&directory).unwrap();
        let server = crate::sys::accept(listener.as_fd()).unwrap();
        send_packet(&client, b"hello").unwrap();
        assert_eq!(receive(&server, &mut [0; 16]).unwrap(), b"hello");
        drop(client);
        assert_eq!(receive(&server, &mut [0; 16]).unwrap(), b"");
        unbind(&directory);
        assert!(!directory.exists());
        fs::remove_dir(&top).unwrap();
    }
}
