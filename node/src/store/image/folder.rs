//! The task that folds the log into the images.

use super::ImageStore;
use crate::replica::Replica;

/// Follows the replica and folds what it applies into the images, for as long as it exists.
pub struct Folder {}

#[allow(unused_variables, clippy::unimplemented)]
impl Folder {
    /// Starts folding.
    pub fn start(replica: Replica, images: ImageStore) -> Self {
        unimplemented!()
    }
}
