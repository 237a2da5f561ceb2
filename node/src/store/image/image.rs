//! One image.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{PageNumber, PageSize, Position, Txid};

use super::{ImageError, ImageManifest};

/// The bytes of an encoded segment, one behind the other.
pub type SegmentStream = BoxStream<'static, Result<Bytes, ImageError>>;

/// How an image stands.
#[derive(Clone, Debug)]
pub struct ImageStatus {
    /// The exact state it is folded to; txid 0 while it is empty.
    pub position: Position,
    /// Page size there; `None` while it is empty.
    pub page_size: Option<PageSize>,
    /// Pages there, the lock page counted.
    pub page_count: u32,
    /// Commit time of the last transaction folded, milliseconds since 1970.
    pub commit_time_ms: i64,
    /// Everything up to here survives a crash; the log must keep what comes after.
    pub durable: Txid,
    /// What was found wrong with it, if anything.
    pub quarantined: Option<String>,
}

/// One database's materialised copy. Clones share it.
#[derive(Clone)]
pub struct Image {}

#[allow(unused_variables, clippy::unimplemented, clippy::unused_async)]
impl Image {
    /// Whose it is.
    pub fn database(&self) -> &DatabaseName {
        unimplemented!()
    }

    /// How it stands.
    pub fn status(&self) -> ImageStatus {
        unimplemented!()
    }

    /// Waits until the image is folded to `txid` or beyond.
    ///
    /// # Errors
    /// [`ImageError::Behind`] if `timeout` passed first, [`ImageError::Quarantined`].
    pub async fn wait_folded(&self, txid: Txid, timeout: Duration) -> Result<ImageStatus, ImageError> {
        unimplemented!()
    }

    /// Pauses folding, for `limit` at most, so that the image can be read at exactly one position.
    ///
    /// # Errors
    /// [`ImageError::Quarantined`], [`ImageError::Recovering`], [`ImageError::Empty`].
    pub async fn hold(&self, limit: Duration) -> Result<Hold, ImageError> {
        unimplemented!()
    }
}

/// Keeps an image at one position until it is dropped or its limit has passed.
pub struct Hold {}

#[allow(unused_variables, clippy::unimplemented, clippy::unused_async)]
impl Hold {
    /// What is held.
    pub fn manifest(&self) -> ImageManifest {
        unimplemented!()
    }

    /// The hashes of `count` pages from `first` on, fewer at the end of the database; the lock page's is 0.
    ///
    /// # Errors
    /// [`ImageError::HoldExpired`].
    pub async fn page_hashes(&self, first: PageNumber, count: usize) -> Result<Vec<u64>, ImageError> {
        unimplemented!()
    }

    /// The whole database as a snapshot segment (squashed, from txid 1, from the empty database). Every page is hashed
    /// again on its way out. The hold lasts as long as the stream.
    ///
    /// The stream's errors: [`ImageError::Quarantined`] where a page is not what its hash says (the image is
    /// quarantined then), [`ImageError::HoldExpired`], [`ImageError::Io`].
    pub fn snapshot(self) -> SegmentStream {
        unimplemented!()
    }

    /// The last version of every page changed after `after`, as a squashed segment from `after + 1` whose checksum
    /// before is `checksum_before`. Otherwise as [`Hold::snapshot`].
    pub fn changes_since(self, after: Position) -> SegmentStream {
        unimplemented!()
    }
}
