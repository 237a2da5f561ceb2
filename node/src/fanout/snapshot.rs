//! Where snapshots come from.

use std::io;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, Position, Txid};

use crate::destination::ByteStream;
use crate::store::image::ImageStore;

/// How long an image may be kept from folding for the sake of one snapshot.
const HOLD_LIMIT: Duration = Duration::from_secs(30 * 60);
/// How long to wait for an image to be folded to where it is needed.
const FOLD_LIMIT: Duration = Duration::from_secs(60);

/// A snapshot segment on its way.
pub struct Snapshot {
    /// The exact state it holds.
    pub position: Position,
    /// The database's size in bytes: the snapshot is hardly larger.
    pub size_hint: u64,
    /// The encoded segment.
    pub content: ByteStream,
}

/// Makes snapshots of databases.
pub trait SnapshotSource: Send + Sync + 'static {
    /// Waits until there is something not below `at_least` to be had, but not for ever.
    fn wait_ready(
        &self,
        database: &DatabaseName,
        lineage: Lineage,
        at_least: Txid,
    ) -> BoxFuture<'static, io::Result<()>>;

    /// Every page of a database, at exactly one txid not below `at_least`.
    fn snapshot(
        &self,
        database: &DatabaseName,
        lineage: Lineage,
        at_least: Txid,
    ) -> BoxFuture<'static, io::Result<Snapshot>>;
}

fn none_of(database: &DatabaseName, lineage: Lineage) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("this node has no image of {database}@{lineage}"))
}

impl SnapshotSource for ImageStore {
    fn wait_ready(
        &self,
        database: &DatabaseName,
        lineage: Lineage,
        at_least: Txid,
    ) -> BoxFuture<'static, io::Result<()>> {
        let image = self.get(database, lineage).ok_or_else(|| none_of(database, lineage));
        async move { image?.wait_folded(at_least, FOLD_LIMIT).await.map(drop).map_err(io::Error::other) }.boxed()
    }

    fn snapshot(
        &self,
        database: &DatabaseName,
        lineage: Lineage,
        at_least: Txid,
    ) -> BoxFuture<'static, io::Result<Snapshot>> {
        let image = self.get(database, lineage).ok_or_else(|| none_of(database, lineage));
        async move {
            let image = image?;
            image.wait_folded(at_least, FOLD_LIMIT).await.map_err(io::Error::other)?;
            let hold = image.hold(HOLD_LIMIT).await.map_err(io::Error::other)?;
            let manifest = hold.manifest();
            let content = hold.snapshot().map(|piece| piece.map_err(io::Error::other)).boxed();
            let size_hint = u64::from(manifest.page_count) * u64::from(manifest.page_size.bytes());
            Ok(Snapshot { position: manifest.position, size_hint, content })
        }
        .boxed()
    }
}
