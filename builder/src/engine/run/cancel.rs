//! The word that ends what is under way.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Ends a build's steps, from any thread, once and for all.
#[derive(Debug)]
pub struct Cancel(EventFd);

impl Cancel {
    /// One that nobody has said yet.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self(EventFd::from_flags(flags)?))
    }

    /// Says it.
    pub fn cancel(&self) {
        // It fails only when it was said 2^64 - 2 times.
        let _ = self.0.write(1);
    }

    /// Whether it was said.
    #[must_use]
    pub fn is_canceled(&self) -> bool {
        let mut fds = [PollFd::new(self.fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Readable since it was said.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        // It is never read, so all who wait see it.
        self.0.as_fd()
    }
}
