//! Images: a node's materialised copy of each database, with its page vector.
//!
//! The log is folded into them in the background. An image is at exactly one position at any time, whatever its files
//! hold after a crash: see [`Image`] for how that is kept.

mod error;
mod files;
mod folder;
mod hold;
mod holds;
#[expect(clippy::module_inception, reason = "the type is the folder's main one")]
mod image;
mod meta;
mod name;
mod snapshot;
mod store;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod vector;
mod working;

pub use error::ImageError;
pub use folder::Folder;
pub use hold::Hold;
pub use image::{Image, ImageStatus};
pub use snapshot::SegmentStream;
pub use store::{ImageManifest, ImageOptions, ImageStore};
pub use vector::{MisfitError, PageRecord, PageVector};
