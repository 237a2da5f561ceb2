//! Putting one object to a destination, and proving what is there already.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, stream};
use seawall_host::probe::{mutant, sometimes};
use seawall_host::task;
use seawall_proto::checksum::Checksum;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::object_name::{Level, ObjectName};
use seawall_proto::segment::{SegmentDecoder, SegmentEvent, SegmentSummary, concat};

use super::CommittedLog;
use super::plan::Window;
use crate::destination::{ByteStream, Creation, Destination, DestinationError};
use crate::replica::SegmentRecord;

/// An existing object is read back in pieces of this size.
const READ_BYTES: u64 = 1 << 20;

/// Why an object is not at its destination, or not known to be.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    /// The log file no longer has the bytes: go on from a snapshot.
    #[error("the log no longer has the transactions from {0} on")]
    Gone(seawall_proto::position::Txid),
    /// The destination.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// The node's own log could not be read.
    #[error("cannot read this node's log: {0}")]
    Log(io::Error),
    /// The node's own image could not be read.
    #[error("no snapshot to be had: {0}")]
    Image(io::Error),
    /// What the log holds is not what the position log says: it must not go anywhere.
    #[error("transactions {first} to {last} of {database} are not uploaded: {cause}")]
    Inconsistent {
        database: DatabaseName,
        first: seawall_proto::position::Txid,
        last: seawall_proto::position::Txid,
        cause: String,
    },
    /// An object of that name is there, and is not what its name says.
    #[error(
        "{name} is there already at {destination}, but damaged: {cause}; delete it, and it is uploaded again from the log"
    )]
    Damaged { destination: String, name: String, cause: String },
    /// A snapshot that takes too long to end within the share of the disk.
    #[error(
        "a snapshot took so long that the log behind it outgrew this destination's share of the disk, {limit} bytes: \
         it is tried again from the beginning; write less meanwhile, or raise `disk.destination-share`"
    )]
    Outgrown { limit: u64 },
    /// The machine is stopping.
    #[error(transparent)]
    Stopped(#[from] task::JoinError),
}

/// An object that is now there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Uploaded {
    pub(super) bytes: u64,
}

/// Uploads a window as one object of level 0.
pub(super) async fn upload_window(
    log: &Arc<dyn CommittedLog>,
    destination: &dyn Destination,
    database: &DatabaseName,
    window: &Window,
    window_bytes: u64,
) -> Result<Uploaded, UploadError> {
    let Some((name, before)) = window.object() else { return Ok(Uploaded { bytes: 0 }) };
    let path = format!("{database}/{name}");
    let creation = match window.segments() {
        [large] if large.bytes > window_bytes => {
            // Asked for before anything is sent, so that a hole in the log is not taken for a broken stream.
            let first = log.segment_part(large, 0).await.map_err(UploadError::Log)?;
            let first = first.ok_or(UploadError::Gone(large.first))?;
            sometimes("large segment streamed to a destination");
            let is_gone = Arc::new(AtomicBool::new(false));
            let content = stream_segment(Arc::clone(log), large.clone(), first, Arc::clone(&is_gone));
            match destination.create_streaming(&path, Some(large.bytes), content).await {
                // Parts of it were dropped meanwhile, or are damaged, and no other node has them.
                Err(_) if is_gone.load(Ordering::Acquire) => return Err(UploadError::Gone(large.first)),
                created => created?,
            }
        }
        segments => {
            let parts = join(log, database, segments, name, before).await?;
            match destination.create(&path, parts).await {
                Err(DestinationError::Unavailable { .. }) if mutant("success-before-put-completed") => {
                    Creation::Created
                }
                created => created?,
            }
        }
    };
    if creation == Creation::AlreadyExists && !mutant("existing-object-not-read-back") {
        sometimes("object already at its destination");
        prove(destination, &path, name, Some(before)).await?;
    }
    Ok(Uploaded { bytes: window.bytes() })
}

/// Reads adjacent segments and joins them, proving that they are what the position log says.
async fn join(
    log: &Arc<dyn CommittedLog>,
    database: &DatabaseName,
    segments: &[SegmentRecord],
    name: ObjectName,
    before: Checksum,
) -> Result<Vec<Bytes>, UploadError> {
    let mut contents = Vec::with_capacity(segments.len());
    for record in segments {
        let content = log.segment_bytes(record).await.map_err(UploadError::Log)?;
        contents.push(content.ok_or(UploadError::Gone(record.first))?);
    }
    let inconsistent = |cause: String| UploadError::Inconsistent {
        database: database.clone(),
        first: name.first,
        last: name.last,
        cause,
    };
    let joined = task::blocking(move || concat(contents)).await?;
    let (parts, summary) = joined.map_err(|error| inconsistent(error.to_string()))?;
    contradiction(&summary, name, Some(before)).map_or(Ok(parts), |cause| Err(inconsistent(cause)))
}

/// The parts of a large segment, read one by one as they are asked for; `is_gone` says that one was not there.
fn stream_segment(
    log: Arc<dyn CommittedLog>,
    record: SegmentRecord,
    first: Bytes,
    is_gone: Arc<AtomicBool>,
) -> ByteStream {
    let rest = stream::unfold((log, record, 1, is_gone), |(log, record, part, is_gone)| async move {
        if part >= record.entries.len() {
            return None;
        }
        let piece = match log.segment_part(&record, part).await {
            Ok(Some(piece)) => Ok(piece),
            Ok(None) => {
                is_gone.store(true, Ordering::Release);
                Err(io::Error::new(io::ErrorKind::NotFound, "the log no longer has it"))
            }
            Err(error) => Err(error),
        };
        let next = if piece.is_ok() { part + 1 } else { usize::MAX };
        Some((piece, (log, record, next, is_gone)))
    });
    stream::once(async move { Ok(first) }).chain(rest).boxed()
}

/// `content`, with its bytes added up in `counted`.
pub(super) fn count(content: ByteStream, counted: Arc<Mutex<u64>>) -> ByteStream {
    let counting = content.inspect(move |piece| {
        if let Ok(piece) = piece {
            *counted.lock().unwrap_or_else(PoisonError::into_inner) += piece.len() as u64;
        }
    });
    counting.boxed()
}

/// Proves that the object at `path` is whole and holds what its name says, by reading all of it.
pub(super) async fn prove(
    destination: &dyn Destination,
    path: &str,
    name: ObjectName,
    before: Option<Checksum>,
) -> Result<(), UploadError> {
    let damaged = |cause: String| UploadError::Damaged {
        destination: destination.url().to_owned(),
        name: path.to_owned(),
        cause,
    };
    let mut decoder = SegmentDecoder::new();
    let mut offset = 0;
    loop {
        let piece = match destination.read(path, offset, READ_BYTES).await {
            // It was there a moment ago: a creation by someone else that failed, or a stale answer.
            Err(DestinationError::NotFound { destination, name }) => {
                let cause = "it was said to exist, and then not to".to_owned();
                return Err(
                    DestinationError::Unavailable { destination, action: format!("create {name}"), cause }.into()
                );
            }
            other => other?,
        };
        offset += piece.len() as u64;
        let ended = (piece.len() as u64) < READ_BYTES;
        if !piece.is_empty() {
            decoder.push(piece);
        }
        while let Some(event) = decoder.next().map_err(|error| damaged(error.to_string()))? {
            if matches!(event, SegmentEvent::End(_)) {
                break;
            }
        }
        if ended {
            break;
        }
    }
    let summary = decoder.finish().map_err(|error| damaged(error.to_string()))?;
    contradiction(&summary, name, before).map_or(Ok(()), |cause| Err(damaged(cause)))
}

/// What in `summary` is not as `name` says, in words.
fn contradiction(summary: &SegmentSummary, name: ObjectName, before: Option<Checksum>) -> Option<String> {
    let header = &summary.header;
    let found = ObjectName {
        lineage: header.lineage,
        level: name.level,
        first: header.first,
        last: header.last,
        checksum_after: summary.checksum_after,
    };
    if found != name {
        return Some(format!("it holds {found}"));
    }
    if let Some(before) = before.filter(|before| *before != header.checksum_before) {
        return Some(format!("it continues checksum {}, not {before}", header.checksum_before));
    }
    (name.level == Level::Snapshot && !header.is_snapshot()).then(|| "it is no snapshot".to_owned())
}
