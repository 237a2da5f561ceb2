//! Images: a node's materialised copy of each database, with its page vector.
//!
//! The log is folded into them in the background. An image is at exactly one position at any time, whatever its files
//! hold after a crash: see [`Image`] for how that is kept.

mod error;
mod folder;
#[allow(clippy::module_inception)]
mod image;
mod store;

pub use error::ImageError;
pub use folder::Folder;
pub use image::{Hold, Image, ImageStatus, SegmentStream};
pub use store::{ImageManifest, ImageOptions, ImageStore};
