//! The directory of all images.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, PageSize, Position};

use super::{Image, ImageError, SegmentStream};

/// How images behave.
#[derive(Clone, Debug)]
pub struct ImageOptions {
    /// Make folded pages durable after this long at the latest.
    pub checkpoint_interval: Duration,
    /// Make folded pages durable when this many bytes of them are waiting, over all images of the node.
    pub checkpoint_bytes: usize,
}

impl Default for ImageOptions {
    fn default() -> Self {
        Self { checkpoint_interval: Duration::from_secs(5), checkpoint_bytes: 16 << 20 }
    }
}

/// What an image holds: goes before its bytes when a peer pulls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageManifest {
    /// The exact state.
    pub position: Position,
    /// Its page size.
    pub page_size: PageSize,
    /// Its pages, the lock page counted.
    pub page_count: u32,
    /// Commit time of its last transaction, milliseconds since 1970.
    pub commit_time_ms: i64,
}

/// All images of a node. Clones share them.
#[derive(Clone)]
pub struct ImageStore {}

#[allow(unused_variables, clippy::unimplemented, clippy::unused_async)]
impl ImageStore {
    /// Opens the directory `root`, created if need be, and every image in it.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    pub async fn open(root: PathBuf, options: ImageOptions) -> Result<Self, ImageError> {
        unimplemented!()
    }

    /// The image of a database's lineage, if there is one.
    pub fn get(&self, database: &DatabaseName, lineage: Lineage) -> Option<Image> {
        unimplemented!()
    }

    /// Every image, in the order of names and lineages.
    pub fn images(&self) -> Vec<Image> {
        unimplemented!()
    }

    /// Holds an image and streams it as a snapshot segment, for a peer to [`ImageStore::import`].
    ///
    /// # Errors
    /// As [`Image::hold`]; the stream's as [`super::Hold::snapshot`].
    pub async fn export(
        &self,
        database: &DatabaseName,
        lineage: Lineage,
        limit: Duration,
    ) -> Result<(ImageManifest, SegmentStream), ImageError> {
        unimplemented!()
    }

    /// Takes in a snapshot segment as the image of `database`, in place of any it has of that lineage. The old one
    /// stays untouched until all of the new one is verified and durable.
    ///
    /// # Errors
    /// [`ImageError::Segment`] if the bytes are damaged or not what `expected` says.
    pub async fn import(
        &self,
        database: &DatabaseName,
        expected: ImageManifest,
        bytes: impl Stream<Item = std::io::Result<Bytes>> + Send + Unpin,
    ) -> Result<Image, ImageError> {
        unimplemented!()
    }

    /// Removes an image.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    pub async fn remove(&self, database: &DatabaseName, lineage: Lineage) -> Result<(), ImageError> {
        unimplemented!()
    }
}
