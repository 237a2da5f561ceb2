//! Where snapshots and merged objects come from.

use std::io;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, Position, Txid};

use crate::destination::ByteStream;
use crate::store::image::ImageStore;

/// How long an image may be kept from folding for the sake of one object.
const HOLD_LIMIT: Duration = Duration::from_secs(30 * 60);
/// How long to wait for an image to be folded to where it is needed.
const FOLD_LIMIT: Duration = Duration::from_secs(60);

/// A squashed segment on its way.
pub struct Merged {
    /// The exact state it leads to.
    pub position: Position,
    /// Of a snapshot: the database's size in bytes, which it hardly exceeds.
    pub size_hint: Option<u64>,
    /// The encoded segment.
    pub content: ByteStream,
}

/// Makes squashed segments of databases.
pub trait ImageSource: Send + Sync + 'static {
    /// Waits until there is something not below `at_least` to be had, but not for ever.
    fn wait_ready(
        &self,
        database: &DatabaseName,
        lineage: Lineage,
        at_least: Txid,
    ) -> BoxFuture<'static, io::Result<()>>;

    /// The last version of every page of a database that changed after `after`, at exactly one txid not below
    /// `at_least`; every page, a snapshot, if `after` is the empty database.
    fn merged(
        &self,
        database: &DatabaseName,
        after: Position,
        at_least: Txid,
    ) -> BoxFuture<'static, io::Result<Merged>>;
}

fn none_of(database: &DatabaseName, lineage: Lineage) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("this node has no image of {database}@{lineage}"))
}

impl ImageSource for ImageStore {
    fn wait_ready(
        &self,
        database: &DatabaseName,
        lineage: Lineage,
        at_least: Txid,
    ) -> BoxFuture<'static, io::Result<()>> {
        let image = self.get(database, lineage).ok_or_else(|| none_of(database, lineage));
        async move { image?.wait_folded(at_least, FOLD_LIMIT).await.map(drop).map_err(io::Error::other) }.boxed()
    }

    fn merged(
        &self,
        database: &DatabaseName,
        after: Position,
        at_least: Txid,
    ) -> BoxFuture<'static, io::Result<Merged>> {
        let image = self.get(database, after.lineage).ok_or_else(|| none_of(database, after.lineage));
        async move {
            let image = image?;
            image.wait_folded(at_least, FOLD_LIMIT).await.map_err(io::Error::other)?;
            let hold = image.hold(HOLD_LIMIT).await.map_err(io::Error::other)?;
            let manifest = hold.manifest();
            let content = hold.changes_since(after).map(|piece| piece.map_err(io::Error::other)).boxed();
            let database_bytes = u64::from(manifest.page_count) * u64::from(manifest.page_size.bytes());
            let size_hint = (after.txid == Txid::NONE).then_some(database_bytes);
            Ok(Merged { position: manifest.position, size_hint, content })
        }
        .boxed()
    }
}
