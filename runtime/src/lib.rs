//! What is alive: namespaces, identities, mounts, seccomp, network, pty, the monitor.
//!
//! Takes plain data ([`plan::LaunchPlan`]) and knows the runtime-spec and the kernel; it knows nothing of tags,
//! registries or Dockerfiles, and never prints.

pub mod attach;
pub mod caps;
pub mod cgroup;
pub mod control;
pub mod emulation;
pub mod exec;
mod freeze;
mod fuse;
mod guard;
mod handshake;
pub mod host;
pub mod identity;
pub mod init;
pub mod launch;
pub mod log;
pub mod monitor;
pub mod net;
pub mod plan;
pub mod probe;
pub mod process;
pub mod rootfs;
pub mod sandbox;
mod sealed;
pub mod seccomp;
pub mod signals;
pub mod step;
pub mod sys;
mod unrunnable;
pub mod users;
