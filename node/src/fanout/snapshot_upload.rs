//! One snapshot on its way to one destination.

use std::sync::{Arc, Mutex, PoisonError};

use seawall_host::probe::mutant;
use seawall_host::task;
use seawall_proto::object_name::{Level, ObjectName};
use seawall_proto::position::{Lineage, Position, Txid};
use tokio::sync::Notify;

use super::lane::LaneContext;
use super::upload::{self, UploadError};
use crate::destination::Creation;

/// Uploads a snapshot of the image at `at_least` or later; answers what it holds.
pub(super) async fn upload_snapshot(
    context: &LaneContext,
    lineage: Lineage,
    at_least: Txid,
    give_up: &Arc<Notify>,
) -> Result<Position, UploadError> {
    let outlet = &context.outlet;
    let database = &context.board.database;
    // An image that is behind, perhaps for long, takes no other database's turn.
    context.snapshots.wait_ready(database, lineage, at_least).await.map_err(UploadError::Image)?;
    let Ok(_turn) = outlet.snapshots.acquire().await else { return Err(task::JoinError::Cancelled.into()) };
    let snapshot = context.snapshots.snapshot(database, lineage, at_least).await.map_err(UploadError::Image)?;
    let position = snapshot.position;
    let name = ObjectName {
        lineage: position.lineage,
        level: Level::Snapshot,
        first: Txid::NONE.next(),
        last: position.txid,
        checksum_after: position.checksum,
    };
    if position.lineage != lineage || position.txid < at_least {
        return Err(UploadError::Inconsistent {
            database: database.clone(),
            first: at_least,
            last: position.txid,
            cause: format!("the image gave a snapshot of {position}"),
        });
    }
    // The image is held at that position, so the log still has what follows.
    let following = context.log.pin(database, "snapshot at a destination", position.txid.next());
    context.board.resumes_behind(position.txid, following, Arc::clone(give_up));
    let path = format!("{database}/{name}");
    let counted = Arc::new(Mutex::new(0));
    let content = upload::count(snapshot.content, Arc::clone(&counted));
    let place = &*outlet.destination.destination;
    match place.create_streaming(&path, Some(snapshot.size_hint), content).await? {
        Creation::Created => {}
        Creation::AlreadyExists if mutant("existing-object-not-read-back") => {}
        Creation::AlreadyExists => upload::prove(place, &path, name, None).await?,
    }
    let bytes = *counted.lock().unwrap_or_else(PoisonError::into_inner);
    context.board.metrics.uploaded(Level::Snapshot, bytes);
    Ok(position)
}
