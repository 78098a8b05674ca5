//! What the tests stand on: a [`Sandbox`] with its own store, home and run directory, commands typed as a user would
//! ([`Invocation`]), terminals, crafted archives, and a loud [`require!`](crate::harness::require) for what a machine
//! may lack.
//!
//! Environment: `RCTR_BIN` (the binary under test; default: the one that cargo built), `RCTR_TEST_USER` (who runs it
//! when the tests are root; default `rctr-test`), `RCTR_TEST_IMAGES` (directory with `busybox.tar` and `debian.tar`;
//! default `target/images`, made by `scripts/mkimage`), `RCTR_TEST_SKIPS` (file that gets a line per skipped test), `RCTR_TEST_DRIVER`
//! (`overlay`, `fuse-overlayfs` or `copy`: all tests run with that driver).

mod account;
pub(crate) mod archive;
mod buildkit;
pub(crate) mod fault_proxy;
mod feature;
pub(crate) mod images;
mod invocation;
mod leftovers;
mod oracle;
pub(crate) mod registry;
mod sandbox;
mod small_disk;
mod terminal;
mod wait;

pub(crate) use account::{Account, find_program};
pub(crate) use buildkit::BuildKit;
pub(crate) use feature::{Feature, require};
pub(crate) use invocation::Invocation;
pub(crate) use invocation::Output;
pub(crate) use leftovers::Process;
pub(crate) use oracle::{Buildah, ImageText};
pub(crate) use sandbox::{Sandbox, copy_program};
pub(crate) use small_disk::{OverlayDisk, SmallDisk};
pub(crate) use terminal::Terminal;
pub(crate) use wait::{free_port, http_get, wait_for};
