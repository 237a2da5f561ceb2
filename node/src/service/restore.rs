//! The service that `seawall restore` calls: what this node can give a database back from, and the bytes of it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use seawall_host::probe::sometimes;
use seawall_host::time;
use seawall_proto::checksum::Checksum;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::object_name::{Level, ObjectName};
use seawall_proto::position::{Lineage, Position, Txid};
use seawall_proto::segment::concat;
use seawall_proto::v1;
use tonic::{Request, Response, Status};

use crate::destination::NamedDestination;
use crate::replica::{DatabaseView, ProposeError, Replica, SegmentRecord};
use crate::restore::{DestinationSource, RestoreSource, SourceObject, list_segments};
use crate::store::image::{Hold, ImageStore};

/// The name under which a node offers its own image and log.
const NODE: &str = "node";

/// How long the leader, or the log to be applied, is waited for.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The same where an answer without a leader will do.
const STALE_READ_TIMEOUT: Duration = Duration::from_secs(1);

/// After a description the image stays where it is for so long, so that what was described can be read; while folds
/// wait, no longer than others hold it anyway.
const DESCRIBED_HOLD: Duration = Duration::from_secs(10);

/// While an image is read it stays where it is for this long, and a second more for each [`HOLD_RATE`] bytes.
const READ_HOLD: Duration = Duration::from_secs(300);
const HOLD_RATE: u64 = 4 << 20;

/// A destination that has not listed its objects after this long counts as unreachable: whoever asks does not wait for
/// the description of the others for ever.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);

/// Adjacent segments of the log are offered as one object up to this size, in bytes.
const GROUP_BYTES: u64 = 8 << 20;

/// Records of the position log taken at a time.
const RECORDS_AT_ONCE: usize = 4096;

/// Objects named in one answer: what fits into a message.
const MAX_OBJECTS: usize = 40_000;

/// The largest piece of an object in one message, in bytes.
const PIECE_BYTES: usize = 512 << 10;

/// The restore service of a node.
pub struct RestoreService {
    replica: Replica,
    images: ImageStore,
    destinations: Vec<NamedDestination>,
    /// Keep images where the last description found them.
    described: Mutex<BTreeMap<DatabaseName, Hold>>,
}

impl RestoreService {
    /// The service, ready to be added to a server's routes.
    pub fn new(
        replica: Replica,
        images: ImageStore,
        destinations: Vec<NamedDestination>,
    ) -> v1::restore_server::RestoreServer<Self> {
        let described = Mutex::new(BTreeMap::new());
        let service = Self { replica, images, destinations, described };
        v1::restore_server::RestoreServer::new(service).max_encoding_message_size(seawall_proto::MAX_MESSAGE_BYTES)
    }

    /// Sees to it that this node has applied all that was acknowledged. Whether that was not possible, and the caller
    /// takes an older state.
    async fn catch_up(&self, allow_stale: bool) -> Result<bool, Status> {
        let limit = if allow_stale { STALE_READ_TIMEOUT } else { READ_TIMEOUT };
        let caught_up = match self.replica.read_index(limit).await {
            Ok(index) if self.replica.wait_applied(index, limit).await => Ok(()),
            Ok(index) => Err(format!("this node has not applied the log up to {index} within {limit:?}")),
            Err(ProposeError::NotLeader { .. }) => {
                Err("the newest state cannot be read: there is no leader".to_owned())
            }
            Err(ProposeError::Unknown(cause)) => Err(format!("the newest state cannot be read: {cause}")),
        };
        match caught_up {
            Ok(()) => Ok(false),
            Err(_) if allow_stale => {
                sometimes("stale restore served");
                Ok(true)
            }
            Err(cause) => Err(Status::unavailable(cause)),
        }
    }

    /// What this node itself holds of a database.
    async fn own_objects(&self, name: &DatabaseName, view: &DatabaseView, wide: bool) -> Vec<v1::RestoreObject> {
        let lineage = Lineage(view.head.lineage);
        let mut objects = Vec::new();
        let mut after = Txid::NONE;
        if let Some(image) = self.images.get(name, lineage)
            && let Ok(hold) = image.hold_alongside(DESCRIBED_HOLD).await
        {
            let manifest = hold.manifest();
            after = manifest.position.txid;
            objects.push(v1::RestoreObject {
                source: NODE.to_owned(),
                lineage: lineage.0,
                first: 1,
                last: after.0,
                checksum_after: manifest.position.checksum.0,
                level: Level::Snapshot.to_string(),
                size: u64::from(manifest.page_size.bytes()) * u64::from(manifest.page_count),
                commit_time_ms: manifest.commit_time_ms,
            });
            self.described.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), hold);
        }
        if wide {
            // What is folded may not be at the destinations yet, and an older state may need it.
            let uploaded = view.destinations.values().filter(|progress| progress.lineage == lineage.0);
            let uploaded = uploaded.map(|progress| Txid(progress.watermark)).min().unwrap_or(Txid::NONE);
            after = after.min(uploaded);
        }
        let records = self.records(name, lineage, after, Txid(view.head.txid));
        objects.extend(group(&records).into_iter().map(described));
        objects
    }

    /// The position-log records after `after`, up to the one with `until` in it.
    fn records(&self, name: &DatabaseName, lineage: Lineage, mut after: Txid, until: Txid) -> Vec<SegmentRecord> {
        let mut records = Vec::new();
        while after < until {
            let some = self.replica.segments(name, lineage, after, RECORDS_AT_ONCE);
            let Some(last) = some.last().map(|record| record.last).filter(|last| *last > after) else { break };
            after = last;
            records.extend(some);
        }
        records
    }

    /// The image at exactly the state that `wanted` names.
    async fn read_image(&self, name: &DatabaseName, wanted: &ObjectName) -> Result<PieceStream, Status> {
        let moved = |cause: String| Status::failed_precondition(format!("{cause}; ask again what there is"));
        let Some(image) = self.images.get(name, wanted.lineage) else {
            return Err(moved(format!("there is no image of {name} in lineage {}", wanted.lineage)));
        };
        let status = image.status();
        let bytes = u64::from(status.page_count) * status.page_size.map_or(0, |size| u64::from(size.bytes()));
        let limit = READ_HOLD + Duration::from_secs(bytes / HOLD_RATE);
        let told = Position { lineage: wanted.lineage, txid: wanted.last, checksum: wanted.checksum_after };
        let hold = image.hold_at(told, limit).await.map_err(|error| moved(error.to_string()))?;
        self.described.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        let position = hold.manifest().position;
        if position != told {
            return Err(moved(format!("the image of {name} is at {position}, not at txid {}", wanted.last)));
        }
        Ok(hold.snapshot().map_err(|error| Status::data_loss(error.to_string())).boxed())
    }

    /// Adjacent segments of the log, as one.
    async fn read_log(&self, name: &DatabaseName, wanted: &ObjectName) -> Result<PieceStream, Status> {
        let gone = |what: String| Status::not_found(format!("{what} of {name} is not in this node's log any more"));
        let mut records = self.records(name, wanted.lineage, Txid(wanted.first.0 - 1), wanted.last);
        records.retain(|record| record.first >= wanted.first && record.last <= wanted.last);
        let whole = records.first().is_some_and(|record| record.first == wanted.first)
            && records.last().is_some_and(|record| record.last == wanted.last);
        let bytes: u64 = records.iter().map(|record| record.bytes).sum();
        if !whole || (records.len() > 1 && bytes > GROUP_BYTES) {
            return Err(gone(format!("txid {} to {}", wanted.first, wanted.last)));
        }
        if let [large] = &records[..]
            && large.bytes > GROUP_BYTES
        {
            return self
                .read_large(large)
                .await?
                .ok_or_else(|| gone(format!("txid {} to {}", large.first, large.last)));
        }
        let mut segments = Vec::new();
        for record in &records {
            match self.replica.segment_bytes(record).await {
                Ok(Some(parts)) => segments.push(parts),
                Ok(None) => return Err(gone(format!("txid {} to {}", record.first, record.last))),
                Err(error) => return Err(Status::data_loss(error.to_string())),
            }
        }
        let parts = if segments.len() > 1 {
            concat(segments).map_err(|error| Status::data_loss(error.to_string()))?.0
        } else {
            segments.into_iter().flatten().collect()
        };
        Ok(stream::iter(parts.into_iter().map(Ok)).boxed())
    }

    /// A segment too large for memory, part by part; `None` if the log does not have its first one.
    async fn read_large(&self, record: &SegmentRecord) -> Result<Option<PieceStream>, Status> {
        let damaged = |error: io::Error| Status::data_loss(error.to_string());
        let dropped = || Status::not_found("this node's log dropped the rest of it meanwhile");
        let part = |entry: u64| SegmentRecord { entries: vec![entry], ..record.clone() };
        let parts: Vec<SegmentRecord> = record.entries.iter().copied().map(part).collect();
        let mut parts = parts.into_iter();
        let Some(first) = parts.next() else { return Ok(None) };
        // Before anything is sent, so that a hole in the log is not taken for a broken stream.
        let Some(first) = self.replica.segment_bytes(&first).await.map_err(damaged)? else { return Ok(None) };
        let replica = self.replica.clone();
        let rest = stream::iter(parts).then(move |part| {
            let replica = replica.clone();
            async move { replica.segment_bytes(&part).await.map_err(damaged)?.ok_or_else(dropped) }
        });
        let pieces = stream::iter([Ok(first)]).chain(rest);
        Ok(Some(pieces.map_ok(|parts| stream::iter(parts.into_iter().map(Ok))).try_flatten().boxed()))
    }

    /// An object of a destination, so that the client needs no credentials.
    fn read_destination(
        &self,
        name: &DatabaseName,
        source: &str,
        wanted: ObjectName,
        size: u64,
    ) -> Result<PieceStream, Status> {
        let Some(named) = self.destinations.iter().find(|destination| destination.name == source) else {
            return Err(Status::not_found(format!("this node has no destination `{source}`")));
        };
        let source = DestinationSource::new(Arc::clone(&named.destination), name.clone());
        let object = SourceObject::listed(&Arc::from(named.name.as_str()), wanted, size);
        Ok(source.read(&object).map_err(|error| Status::aborted(error.to_string())).boxed())
    }
}

type PieceStream = BoxStream<'static, Result<Bytes, Status>>;

/// Cuts records into runs that are adjacent, of one page size, and not too large to be joined in memory.
fn group(records: &[SegmentRecord]) -> Vec<&[SegmentRecord]> {
    let mut groups = Vec::new();
    let mut start = 0;
    let mut bytes = 0_u64;
    for (index, record) in records.iter().enumerate() {
        let continues = index > start && {
            let before = &records[index - 1];
            before.last.next() == record.first && before.page_size == record.page_size
        };
        if index > start && (!continues || bytes.saturating_add(record.bytes) > GROUP_BYTES) {
            groups.push(&records[start..index]);
            start = index;
            bytes = 0;
        }
        bytes = bytes.saturating_add(record.bytes);
    }
    if start < records.len() {
        groups.push(&records[start..]);
    }
    groups
}

/// A run of records as an object.
fn described(records: &[SegmentRecord]) -> v1::RestoreObject {
    let (first, last) = (&records[0], &records[records.len() - 1]);
    v1::RestoreObject {
        source: NODE.to_owned(),
        lineage: last.lineage.0,
        first: first.first.0,
        last: last.last.0,
        checksum_after: last.checksum_after.0,
        level: Level::Log.to_string(),
        size: records.iter().map(|record| record.bytes).sum(),
        commit_time_ms: last.commit_time_ms,
    }
}

/// Cuts pieces to what a message holds, and leaves out what was not asked for.
fn window(pieces: PieceStream, offset: u64, length: u64) -> BoxStream<'static, Result<v1::Chunk, Status>> {
    let end = if length == 0 { u64::MAX } else { offset.saturating_add(length) };
    let cut = pieces.scan(0_u64, move |at, piece| {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => return futures::future::ready(Some(vec![Err(error)])),
        };
        let start = *at;
        *at += piece.len() as u64;
        if start >= end {
            return futures::future::ready(None);
        }
        let from = offset.saturating_sub(start).min(piece.len() as u64) as usize;
        let to = (end - start).min(piece.len() as u64) as usize;
        let mut wanted = piece.slice(from.min(to)..to);
        let mut chunks = Vec::new();
        while !wanted.is_empty() {
            let data = wanted.split_to(PIECE_BYTES.min(wanted.len()));
            chunks.push(Ok(v1::Chunk { data }));
        }
        futures::future::ready(Some(chunks))
    });
    cut.flat_map(stream::iter).boxed()
}

fn parse_database(name: &str) -> Result<DatabaseName, Status> {
    name.parse()
        .map_err(|error: seawall_proto::database_name::InvalidDatabaseName| Status::invalid_argument(error.to_string()))
}

#[tonic::async_trait]
impl v1::restore_server::Restore for RestoreService {
    async fn describe(&self, request: Request<v1::DescribeRequest>) -> Result<Response<v1::DescribeResponse>, Status> {
        let request = request.into_inner();
        let name = parse_database(&request.database)?;
        let stale = self.catch_up(request.allow_stale).await?;
        let mut answer = v1::DescribeResponse { stale, ..Default::default() };
        if let Some(view) = self.replica.database(&name) {
            answer.objects = self.own_objects(&name, &view, request.include_destinations).await;
            answer.head = Some(view.head);
        }
        if request.include_destinations {
            let listings = self.destinations.iter().map(|named| {
                let name = &name;
                async move {
                    let listing = time::timeout(LIST_TIMEOUT, list_segments(named.destination.as_ref(), name)).await;
                    let late = |_| Err(format!("it did not list its objects within {LIST_TIMEOUT:?}"));
                    (named, listing.map_or_else(late, |listing| listing.map_err(|error| error.to_string())))
                }
            });
            for (named, listing) in futures::future::join_all(listings).await {
                match listing {
                    Ok(segments) => {
                        answer.objects.extend(segments.into_iter().map(|(object, size)| v1::RestoreObject {
                            source: named.name.clone(),
                            lineage: object.lineage.0,
                            first: object.first.0,
                            last: object.last.0,
                            checksum_after: object.checksum_after.0,
                            level: object.level.to_string(),
                            size,
                            commit_time_ms: 0,
                        }))
                    }
                    Err(cause) => _ = answer.unreachable.insert(named.name.clone(), cause),
                }
            }
        }
        if answer.head.is_none() && answer.objects.is_empty() {
            return Err(Status::not_found(format!("the cluster has no database `{name}`")));
        }
        if answer.objects.len() > MAX_OBJECTS {
            let cause = format!("more than {MAX_OBJECTS} objects: restore from a destination's URL");
            return Err(Status::resource_exhausted(cause));
        }
        Ok(Response::new(answer))
    }

    type ReadObjectStream = BoxStream<'static, Result<v1::Chunk, Status>>;

    async fn read_object(
        &self,
        request: Request<v1::ReadObjectRequest>,
    ) -> Result<Response<Self::ReadObjectStream>, Status> {
        let request = request.into_inner();
        let name = parse_database(&request.database)?;
        let object = request.object.ok_or_else(|| Status::invalid_argument("no object was named"))?;
        let level: Level = object
            .level
            .parse()
            .map_err(|_| Status::invalid_argument(format!("`{}` is no level: 0, 1, 2, snapshot are", object.level)))?;
        if object.first == 0 || object.last < object.first || object.lineage == 0 {
            return Err(Status::invalid_argument("the object's range is empty"));
        }
        let wanted = ObjectName {
            lineage: Lineage(object.lineage),
            level,
            first: Txid(object.first),
            last: Txid(object.last),
            checksum_after: Checksum(object.checksum_after),
        };
        let pieces = match (object.source.as_str(), level) {
            (NODE, Level::Snapshot) => self.read_image(&name, &wanted).await?,
            (NODE, Level::Log) => self.read_log(&name, &wanted).await?,
            (NODE, _) => return Err(Status::not_found("a node holds its image and its log only")),
            (source, _) => self.read_destination(&name, source, wanted, object.size)?,
        };
        Ok(Response::new(window(pieces, request.offset, request.length)))
    }
}

#[cfg(test)]
mod tests {
    use seawall_proto::position::{Epoch, PageSize};

    use super::*;

    fn record(first: u64, last: u64, bytes: u64, page_size: u32) -> SegmentRecord {
        SegmentRecord {
            lineage: Lineage(1),
            epoch: Epoch(1),
            first: Txid(first),
            last: Txid(last),
            checksum_before: Checksum(first),
            checksum_after: Checksum(last),
            commit_time_ms: last as i64,
            page_size: PageSize::new(page_size).unwrap(),
            page_count: 1,
            bytes,
            entries: Vec::new(),
        }
    }

    #[test]
    fn joins_what_is_adjacent_alike_and_small() {
        let records = [
            record(1, 3, 10, 4096),
            record(4, 4, 10, 4096),
            record(5, 9, 10, 512),
            record(11, 12, GROUP_BYTES, 512),
            record(13, 13, GROUP_BYTES + 1, 512),
            record(14, 14, 1, 512),
        ];
        let ranges: Vec<(u64, u64)> =
            group(&records).into_iter().map(described).map(|object| (object.first, object.last)).collect();
        assert_eq!(ranges, [(1, 4), (5, 9), (11, 12), (13, 13), (14, 14)]);
        assert!(group(&[]).is_empty());
    }

    #[tokio::test]
    async fn gives_exactly_the_bytes_asked_for() {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 253) as u8).collect();
        for (offset, length) in
            [(0, 0), (5, 0), (0, 7), (999_999, 1_000_002), (2_999_999, 5), (3_000_000, 1), (9_000_000, 0)]
        {
            let pieces: Vec<_> = bytes.chunks(1_000_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
            let chunks: Vec<_> = window(stream::iter(pieces).boxed(), offset, length).collect().await;
            let chunks: Vec<Vec<u8>> = chunks.into_iter().map(|chunk| chunk.unwrap().data.to_vec()).collect();
            assert!(chunks.iter().all(|chunk| chunk.len() <= PIECE_BYTES));
            let from = (offset as usize).min(bytes.len());
            let to = if length == 0 { bytes.len() } else { (from + length as usize).min(bytes.len()) };
            assert!(chunks.concat() == bytes[from..to], "{offset} {length}");
        }
    }
}
