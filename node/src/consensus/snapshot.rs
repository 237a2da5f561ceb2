//! Snapshots of the replicated state: a manifest of what was agreed on and what belongs to it, on disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use bytes::{Buf, Bytes};
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::storage::Snapshot;
use prost::Message;
use seawall_host::disk;
use seawall_host::task;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, Txid};
use seawall_proto::v1;
use tokio::sync::Mutex;

use super::types::TypeConfig;
use super::wire;
use crate::replica::SegmentRecord;
use crate::state::{ClusterState, ManifestError, decode_record, encode_record};
use crate::store::log::LogId;
use crate::store::position_log::PositionLog;

/// The largest manifest that is read: some ten million records of the position log.
pub(super) const MAX_MANIFEST_BYTES: usize = 1 << 30;
const FILE: &str = "snapshot";
const FILE_MAGIC: &[u8; 8] = b"SWSNAP\0\x02";
const CHECKSUM_BYTES: usize = 4;
/// Records of segments whose bytes the log no longer has: when there are more, a manifest has none of them.
const MOST_GONE: usize = if cfg!(test) { 10 } else { 250_000 };
/// Records read from the position log at once.
const RECORDS: usize = 4096;

/// A manifest, understood.
pub(super) struct Manifest {
    pub(super) cluster: ClusterState,
    pub(super) records: Vec<(DatabaseName, SegmentRecord)>,
}

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeManifestError {
    /// They are no such message.
    #[error("the manifest is damaged: {0}")]
    Message(#[from] prost::DecodeError),
    /// The message makes no sense.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A record of the position log belongs to no database.
    #[error("the manifest is damaged: a record belongs to database {0} of its list, which is shorter")]
    Database(u32),
}

/// Writes down the state at `index`, with the records of the position log up to the heads: all of those whose bytes
/// this node's log has, which begins at `held_from`. The others are left out where they are too many: a manifest that
/// grew with the whole history would in the end be too large for every node.
pub(super) async fn encode(
    index: u64,
    cluster: ClusterState,
    positions: PositionLog,
    held_from: u64,
) -> io::Result<Bytes> {
    let encoded = task::blocking(move || {
        let is_held = |record: &SegmentRecord| record.entries.last().is_some_and(|last| *last >= held_from);
        let (mut gone, mut gone_bytes, mut held_bytes) = (0, 0, 0);
        for_each_record(&cluster, &positions, |number, record| {
            let bytes = part(record, number).encoded_len();
            if is_held(record) {
                held_bytes += bytes;
            } else {
                gone += 1;
                gone_bytes += bytes;
            }
        });
        let has_gone = gone <= MOST_GONE;
        // One after the other, for one message is its parts put together, and no more than this is in memory at once.
        let state = v1::StateManifest {
            last_index: index,
            databases: cluster.to_manifest(),
            segments: Vec::new(),
            retired: cluster.retired().iter().copied().collect(),
        };
        let records = held_bytes + if has_gone { gone_bytes } else { 0 };
        let mut encoded = Vec::with_capacity(state.encoded_len() + records);
        append(&state, &mut encoded);
        for_each_record(&cluster, &positions, |number, record| {
            if has_gone || is_held(record) {
                append(&part(record, number), &mut encoded);
            }
        });
        Bytes::from(encoded)
    });
    encoded.await.map_err(io::Error::other)
}

/// Shows every record up to the heads, with the number of its database.
fn for_each_record(cluster: &ClusterState, positions: &PositionLog, mut see: impl FnMut(u32, &SegmentRecord)) {
    for (number, (name, database)) in (0u32..).zip(cluster.databases()) {
        for lineage in 1..=database.head.lineage {
            let limit = if lineage == database.head.lineage { database.head.txid } else { u64::MAX };
            let mut after = Txid::NONE;
            loop {
                let records = positions.segments(name, Lineage(lineage), after, RECORDS);
                records.iter().filter(|record| record.last.0 <= limit).for_each(|record| see(number, record));
                after = records.last().map_or(after, |record| record.last);
                if records.len() < RECORDS || after.0 >= limit {
                    break;
                }
            }
        }
    }
}

/// What a manifest has of one record.
fn part(record: &SegmentRecord, database: u32) -> v1::StateManifest {
    v1::StateManifest { segments: vec![encode_record(record, database)], ..v1::StateManifest::default() }
}

fn append(part: &v1::StateManifest, encoded: &mut Vec<u8>) {
    // Encoding into memory does not fail for want of room.
    let _ = part.encode(encoded);
}

/// Reads a manifest.
pub(super) fn decode(data: Bytes) -> Result<Manifest, DecodeManifestError> {
    let manifest = v1::StateManifest::decode(data)?;
    let mut cluster = ClusterState::from_manifest(manifest.databases.clone())?;
    cluster.retire(manifest.retired);
    let names: Vec<DatabaseName> =
        manifest.databases.iter().map(|one| one.name.parse()).collect::<Result<_, _>>().map_err(ManifestError::Name)?;
    let mut records = Vec::with_capacity(manifest.segments.len());
    for entry in manifest.segments {
        let name = names.get(entry.database as usize).ok_or(DecodeManifestError::Database(entry.database))?;
        records.push((name.clone(), decode_record(entry)?));
    }
    Ok(Manifest { cluster, records })
}

/// The newest snapshot of a node, on disk: magic, length-delimited header, manifest, and the CRC32C of all of that: who
/// votes is in the header.
pub(super) struct SnapshotFile {
    path: PathBuf,
    writing: Mutex<()>,
    /// The last entry that it covers, as far as it was written or read since.
    covered: std::sync::Mutex<Option<LogId>>,
}

impl SnapshotFile {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join(FILE), writing: Mutex::new(()), covered: std::sync::Mutex::default() }
    }

    /// The last entry that the file covers, durably.
    pub(super) fn covered(&self) -> Option<LogId> {
        *self.covered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_covered(&self, meta: &SnapshotMetaOf<TypeConfig>) {
        let mut covered = self.covered.lock().unwrap_or_else(PoisonError::into_inner);
        // Who reads the file while it is replaced may have read the one before.
        *covered = [*covered, meta.last_log_id.map(LogId::from)].into_iter().flatten().max_by_key(|id| id.index);
    }

    /// Makes this the newest snapshot, durable when it returns; false if there is one that is as new, which stays. What is
    /// there is not read: it may have rotted since.
    pub(super) async fn save(&self, meta: &SnapshotMetaOf<TypeConfig>, manifest: &Bytes) -> io::Result<bool> {
        let _writing = self.writing.lock().await;
        if self.covered().map(|id| id.index) >= meta.last_log_id.map(|id| id.index) {
            return Ok(false);
        }
        self.write(meta, manifest).await.map(|()| true)
    }

    /// Writes this in the place of what is there and cannot be read, unless that is newer.
    pub(super) async fn replace(&self, meta: &SnapshotMetaOf<TypeConfig>, manifest: &Bytes) -> io::Result<bool> {
        let _writing = self.writing.lock().await;
        if self.covered().map(|id| id.index) > meta.last_log_id.map(|id| id.index) {
            return Ok(false);
        }
        self.write(meta, manifest).await.map(|()| true)
    }

    async fn write(&self, meta: &SnapshotMetaOf<TypeConfig>, manifest: &Bytes) -> io::Result<()> {
        let header = v1::SnapshotHeader {
            envelope: None,
            vote: None,
            meta: Some(wire::snapshot_meta(meta)),
            length: manifest.len() as u64,
            // All of the file is under one.
            checksum: 0,
        };
        let header = Bytes::from([&FILE_MAGIC[..], &header.encode_length_delimited_to_vec()].concat());
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&header), manifest);
        let checksum = Bytes::copy_from_slice(&checksum.to_le_bytes());
        disk::replace_file_with(&self.path, vec![header, manifest.clone(), checksum]).await?;
        self.set_covered(meta);
        Ok(())
    }

    /// The newest snapshot, if there is any.
    pub(super) async fn load(&self) -> io::Result<Option<SnapshotOf<TypeConfig, Bytes>>> {
        if !disk::exists(&self.path).await? {
            return Ok(None);
        }
        let damaged = |cause: String| {
            let cause = format!("{} is damaged ({cause}): replace this node", self.path.display());
            io::Error::new(io::ErrorKind::InvalidData, cause)
        };
        let mut contents = disk::read_file(&self.path, MAX_MANIFEST_BYTES).await?;
        if !contents.starts_with(FILE_MAGIC) {
            return Err(damaged("it is no snapshot of this version".to_owned()));
        }
        let mut checksum = contents.split_off(contents.len() - CHECKSUM_BYTES.min(contents.len()));
        if checksum.len() < CHECKSUM_BYTES || checksum.get_u32_le() != crc32c::crc32c(&contents) {
            return Err(damaged("its checksum is wrong".to_owned()));
        }
        contents.advance(FILE_MAGIC.len());
        let header =
            v1::SnapshotHeader::decode_length_delimited(&mut contents).map_err(|error| damaged(error.to_string()))?;
        if header.length != contents.len() as u64 {
            return Err(damaged("the manifest in it has another length than its header says".to_owned()));
        }
        let meta = header.meta.ok_or_else(|| damaged("it names no log id".to_owned()))?;
        let meta = wire::read_snapshot_meta(&meta).map_err(|error| damaged(error.to_string()))?;
        self.set_covered(&meta);
        Ok(Some(Snapshot { meta, snapshot: contents }))
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
