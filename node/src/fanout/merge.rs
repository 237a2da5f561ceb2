//! One snapshot or merged object on its way to one destination.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, stream};
use seawall_host::probe::{mutant, sometimes};
use seawall_host::task;
use seawall_proto::object_name::{Level, ObjectName};
use seawall_proto::position::{Position, Txid};
use tokio::sync::Notify;

use super::lane::LaneContext;
use super::upload::{self, UploadError};
use crate::destination::{ByteStream, Creation};

/// An object to be made of the image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Merge {
    /// 1, 2 or snapshot.
    pub(super) level: Level,
    /// The state that it continues; a snapshot continues the empty database.
    pub(super) after: Position,
    /// It leads to this txid or a later one.
    pub(super) at_least: Txid,
}

/// What the image gave.
enum Content {
    /// All of it.
    Whole(Vec<Bytes>),
    /// It is larger than what is held in memory at a time.
    Streamed(ByteStream),
}

/// Uploads it; answers the state that it leads to, and its length in bytes.
pub(super) async fn upload_merged(
    context: &LaneContext,
    merge: Merge,
    give_up: &Arc<Notify>,
) -> Result<(Position, u64), UploadError> {
    let Merge { level, after, at_least } = merge;
    let outlet = &context.outlet;
    let database = &context.board.database;
    // An image that is behind, perhaps for long, takes no other database's turn.
    context.images.wait_ready(database, after.lineage, at_least).await.map_err(UploadError::Image)?;
    let Ok(_turn) = outlet.merges.acquire().await else { return Err(task::JoinError::Cancelled.into()) };
    let most = outlet.destination.windows.upload_bytes;
    let kib = u32::try_from(most >> 10).unwrap_or(u32::MAX).max(1);
    let Ok(_room) = outlet.memory.acquire_many(kib).await else { return Err(task::JoinError::Cancelled.into()) };
    let merged = context.images.merged(database, after, at_least).await.map_err(UploadError::Image)?;
    let position = merged.position;
    let name = ObjectName {
        lineage: position.lineage,
        level,
        first: after.txid.next(),
        last: position.txid,
        checksum_after: position.checksum,
    };
    if position.lineage != after.lineage || position.txid < at_least {
        return Err(UploadError::Inconsistent {
            database: database.clone(),
            first: at_least,
            last: position.txid,
            cause: format!("the image gave {position}"),
        });
    }
    if level == Level::Snapshot {
        // The image is held at that position, so the log still has what follows.
        let following = context.log.pin(database, "snapshot at a destination", position.txid.next());
        context.board.resumes_behind(position.txid, following, Arc::clone(give_up));
    }
    let path = format!("{database}/{name}");
    let counted = Arc::new(Mutex::new(0));
    let content = upload::count(merged.content, Arc::clone(&counted));
    let place = &*outlet.destination.destination;
    // What is small is in memory before anything is sent: the image is not held up by a place that hangs.
    let creation = match collect(content, most).await.map_err(UploadError::Image)? {
        Content::Whole(parts) => place.create(&path, parts).await?,
        Content::Streamed(content) => {
            sometimes("merged object streamed to a destination");
            place.create_streaming(&path, merged.size_hint, content).await?
        }
    };
    match creation {
        Creation::Created => {}
        Creation::AlreadyExists if mutant("existing-object-not-read-back") => {}
        Creation::AlreadyExists => upload::prove(place, &path, name, Some(after.checksum)).await?,
    }
    let bytes = *counted.lock().unwrap_or_else(PoisonError::into_inner);
    context.board.metrics.uploaded(level, bytes);
    Ok((position, bytes))
}

/// Reads `content` until it ends or has more than `most` bytes.
async fn collect(mut content: ByteStream, most: u64) -> std::io::Result<Content> {
    let (mut parts, mut bytes) = (Vec::new(), 0);
    while let Some(piece) = content.next().await {
        let piece = piece?;
        bytes += piece.len() as u64;
        parts.push(piece);
        if bytes > most {
            return Ok(Content::Streamed(stream::iter(parts.into_iter().map(Ok)).chain(content).boxed()));
        }
    }
    Ok(Content::Whole(parts))
}
