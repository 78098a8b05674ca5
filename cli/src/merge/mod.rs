//! From a request and an image to a container's record, and from the record to what runtime is told.

pub(crate) mod config;
pub(crate) mod name;
pub(crate) mod plan;
pub(crate) mod record;
