//! What is at rest: blobs, images, layers, containers' records, volumes.
//!
//! ```text
//! <root>/                       $XDG_DATA_HOME/rctr, an OCI image layout that other tools read directly
//!   oci-layout index.json       every image and every index of several platforms; tags are `org.opencontainers.image.ref.name` annotations
//!   blobs/sha256/<hex>          manifests, configs and layer blobs, as received or as made
//!   layers/<hex diffID>/fs      the unpacked layer, in overlay's own format, immutable
//!   containers/<id>/            record.json, state.json, upper/, work/, log
//!   names/<name>                a symbolic link whose target is the ID of the container with that name
//!   volumes/<name>/_data        and volume.json beside it
//!   cache/                      what builds have made and learned: see `cache`
//!   partial/<hex digest>        a blob that came in part: a broken pull goes on from there (see `transfer`)
//!   locks/ tmp/                 tmp/ is where everything else that is unfinished lives
//! ```
//!
//! Storage knows the image-spec, the file system and locks. It never starts a process, never mounts and never prints.
//! Operations that write or delete files of several owners expect to run inside the user namespace of the `mapped`
//! identity (the caller enters it first); they are said so in their docs with "needs ids".

pub mod archive;
pub mod atomic;
pub mod blob;
pub mod cache;
pub mod check;
pub mod compression;
pub mod config;
pub mod container;
pub mod digest;
pub mod explain;
mod find;
pub mod gc;
pub mod image;
pub mod index;
pub mod layer;
pub mod lock;
pub mod manifest;
mod multi;
mod names;
pub mod platform;
pub mod random;
pub mod record;
pub mod reference;
pub mod registry;
pub mod removal;
pub mod session;
pub mod store;
mod sys;
pub mod tarfile;
#[cfg(test)]
mod testing;
pub mod timestamp;
pub mod transfer;
pub mod transport;
pub mod tree;
pub mod volume;
pub mod web;

pub use store::Store;
