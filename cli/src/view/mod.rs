//! What is shown of containers, images and volumes: pure functions from records to rows and documents.

pub(crate) mod cache_row;
pub(crate) mod container_row;
pub(crate) mod history;
pub(crate) mod image_row;
pub(crate) mod inspect;
