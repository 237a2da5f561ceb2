//! The position log: per database and lineage, which segments were accepted, in order.
//!
//! The newest records are in memory; the map on disk gets them later, when the log entries that made them are both
//! committed and synced here. So the map is never ahead of the log file and nothing in it is ever taken back. It rests
//! on nothing: after an unclean stop it is deleted and built again from the last snapshot and the log file.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use seawall_host::probe::{mutant, sometimes};
use seawall_host::{disk, process, time};
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, Txid};
use seawall_proto::v1;

use super::kv::{KvError, OpenKv, OrderedKv, Pair};
use crate::replica::SegmentRecord;
use crate::state::{decode_record, encode_record};

/// Records written in one batch: more at once holds the map up for seconds.
const BATCH: usize = 1000;
/// How long the last life of this process may take to let go of the map.
const HELD_LIMIT: Duration = Duration::from_secs(10);
const DIRECTORY: &str = "positions";
/// Holds the log index that the map was complete up to at the last orderly stop.
const CLEAN_MARKER: &str = "positions.clean";
/// Under this key the map says the same, so that the marker is not believed of another map. No name is empty.
const CLEAN_KEY: &[u8] = &[0];

/// Why the position log could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum PositionLogError {
    /// The map failed.
    #[error("the position log cannot be used: {0}")]
    Kv(#[from] KvError),
    /// The data directory failed.
    #[error("the position log cannot be used: {0}")]
    Io(#[from] io::Error),
}

/// The position log of a node. Clones share it.
#[derive(Clone)]
pub struct PositionLog {
    kv: Arc<dyn OrderedKv>,
    tail: Arc<Mutex<Tail>>,
    data_dir: Arc<Path>,
}

/// What the map on disk does not have yet.
#[derive(Default)]
struct Tail {
    records: BTreeMap<Bytes, SegmentRecord>,
    /// The keys, by the log index that made them.
    by_index: BTreeMap<u64, Bytes>,
    /// The map has everything up to this index.
    written: u64,
}

impl PositionLog {
    /// Opens the position log of a data directory. What an unclean stop left is deleted; then, and at first,
    /// [`PositionLog::written`] is 0 and the log has to be fed from the last snapshot on.
    ///
    /// # Errors
    /// [`PositionLogError`]. A map that cannot be read is no error: it is deleted.
    pub async fn open(data_dir: &Path, open: &OpenKv) -> Result<Self, PositionLogError> {
        let directory = data_dir.join(DIRECTORY);
        let mut written = take_marker(data_dir).await?;
        if written.is_none() && disk::exists(&directory).await? && !mutant("position-log-not-rebuilt") {
            sometimes("position log rebuilt after an unclean stop");
            tracing::info!(path = %directory.display(), "no orderly stop: building the position log again");
            disk::remove_directory(&directory).await?;
        }
        let kv = match open_unheld(&directory, open).await {
            Err(error @ KvError::Damaged { .. }) => {
                tracing::warn!(%error, "building the position log again");
                written = None;
                disk::remove_directory(&directory).await?;
                open_unheld(&directory, open).await?
            }
            opened => opened?,
        };
        if let Some(index) = written
            && kv.get(CLEAN_KEY)?.as_deref() != Some(&index.to_le_bytes()[..])
        {
            tracing::warn!(path = %directory.display(), "not what the last stop left: building the position log again");
            written = None;
        }
        let tail = Tail { written: written.unwrap_or(0), ..Tail::default() };
        Ok(Self { kv, tail: Arc::new(Mutex::new(tail)), data_dir: data_dir.into() })
    }

    /// The map on disk has everything up to this log index.
    pub fn written(&self) -> u64 {
        self.tail().written
    }

    /// The deliberate defect: takes it on trust that the map has everything up to `index`.
    pub(crate) fn trust_up_to(&self, index: u64) {
        let mut tail = self.tail();
        tail.written = tail.written.max(index);
    }

    /// Takes in the record that the log entry `index` made.
    pub fn insert(&self, database: &DatabaseName, record: SegmentRecord, index: u64) {
        let key = key(database, record.lineage, record.first);
        let mut tail = self.tail();
        if index > tail.written {
            tail.by_index.insert(index, key.clone());
            tail.records.insert(key, record);
        }
    }

    /// Records of whole segments with `last > after`, ascending, at most `limit` of them.
    pub fn segments(&self, database: &DatabaseName, lineage: Lineage, after: Txid, limit: usize) -> Vec<SegmentRecord> {
        // The tail first: a record leaves it only when it is in the map.
        let (lowest, highest) = (key(database, lineage, Txid(0)), key(database, lineage, Txid(u64::MAX)));
        let wanted = key(database, lineage, Txid(after.0.saturating_add(1)));
        let mut found: BTreeMap<Bytes, SegmentRecord> = {
            let tail = self.tail();
            let covering = tail.records.range(lowest.clone()..=wanted.clone()).next_back();
            let later = tail.records.range((Bound::Excluded(wanted.clone()), Bound::Included(highest.clone())));
            covering.into_iter().chain(later.take(limit)).map(|(key, record)| (key.clone(), record.clone())).collect()
        };
        let stored = || -> Result<Vec<Pair>, KvError> {
            let mut pairs: Vec<Pair> = self.kv.last(&lowest, &wanted)?.into_iter().collect();
            pairs.extend(self.kv.scan(Bound::Excluded(&wanted), Bound::Included(&highest), limit)?);
            Ok(pairs)
        };
        for (key, value) in survive(stored()) {
            found.entry(key).or_insert_with(|| decode(&value));
        }
        found.into_values().filter(|record| record.last > after).take(limit).collect()
    }

    /// Writes to the map what log entries up to `index` made; they must be committed, and synced on this node.
    ///
    /// # Errors
    /// [`PositionLogError::Kv`]; nothing is lost then, and a later call writes it.
    pub async fn write_up_to(&self, index: u64) -> Result<(), PositionLogError> {
        loop {
            let (batch, last) = {
                let tail = self.tail();
                let due: Vec<(u64, Bytes)> =
                    tail.by_index.range(..=index).take(BATCH).map(|(index, key)| (*index, key.clone())).collect();
                let last = due.last().map(|(index, _)| *index);
                let put = |key: Bytes| {
                    let value = tail.records.get(&key).map(encode);
                    (key, value)
                };
                (due.into_iter().map(|(_, key)| put(key)).collect::<Vec<_>>(), last)
            };
            let Some(last) = last else {
                let mut tail = self.tail();
                tail.written = tail.written.max(index);
                return Ok(());
            };
            self.kv.apply(batch).await?;
            let mut tail = self.tail();
            let rest = tail.by_index.split_off(&(last + 1));
            for key in std::mem::replace(&mut tail.by_index, rest).into_values() {
                tail.records.remove(&key);
            }
            tail.written = tail.written.max(last);
        }
    }

    /// Forgets the oldest records that end below `floor` and whose entries the log has no longer, since it begins at
    /// `held_from`; a batch of them at most. Answers whether there may be more.
    ///
    /// # Errors
    /// [`PositionLogError::Kv`].
    pub async fn forget(
        &self,
        database: &DatabaseName,
        lineage: Lineage,
        floor: Txid,
        held_from: u64,
    ) -> Result<bool, PositionLogError> {
        let (lowest, end) = (key(database, lineage, Txid(0)), key(database, lineage, floor));
        let oldest = self.kv.scan(Bound::Included(&lowest), Bound::Excluded(&end), BATCH)?;
        let is_over =
            |record: &SegmentRecord| record.last < floor && record.entries.iter().all(|entry| *entry < held_from);
        let over = oldest.into_iter().take_while(|(_, value)| is_over(&decode(value)));
        let over: Vec<_> = over.map(|(key, _)| (key, None)).collect();
        let more = over.len() == BATCH;
        if !over.is_empty() {
            sometimes("records of the position log forgotten");
            self.kv.apply(over).await?;
        }
        Ok(more)
    }

    /// Takes in everything a snapshot says of the log up to `index`.
    ///
    /// # Errors
    /// [`PositionLogError::Kv`].
    pub async fn load(
        &self,
        index: u64,
        records: impl IntoIterator<Item = (DatabaseName, SegmentRecord)> + Send,
    ) -> Result<(), PositionLogError> {
        if index <= self.written() {
            return Ok(());
        }
        let records: Vec<_> = records.into_iter().collect();
        for batch in records.chunks(BATCH) {
            let put = |(database, record): &(DatabaseName, SegmentRecord)| {
                (key(database, record.lineage, record.first), Some(encode(record)))
            };
            self.kv.apply(batch.iter().map(put).collect()).await?;
        }
        let mut tail = self.tail();
        let rest = tail.by_index.split_off(&(index + 1));
        for key in std::mem::replace(&mut tail.by_index, rest).into_values() {
            tail.records.remove(&key);
        }
        tail.written = tail.written.max(index);
        Ok(())
    }

    /// Ends an orderly stop: everything up to `index` is made durable, so that the next start need not build it again.
    ///
    /// # Errors
    /// [`PositionLogError`]; the next start builds it again then.
    pub async fn close(&self, index: u64) -> Result<(), PositionLogError> {
        self.write_up_to(index).await?;
        let marker = Bytes::copy_from_slice(&index.to_le_bytes());
        self.kv.apply(vec![(Bytes::from_static(CLEAN_KEY), Some(marker.clone()))]).await?;
        self.kv.checkpoint().await?;
        Ok(disk::replace_file(&self.data_dir.join(CLEAN_MARKER), marker).await?)
    }

    fn tail(&self) -> std::sync::MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the clean marker and takes it away: from here on, only an orderly stop brings it back.
async fn take_marker(data_dir: &Path) -> io::Result<Option<u64>> {
    let path: PathBuf = data_dir.join(CLEAN_MARKER);
    if !disk::exists(&path).await? {
        return Ok(None);
    }
    let bytes = disk::read_file(&path, 64).await?;
    disk::remove_file(&path).await?;
    disk::sync_directory(data_dir).await?;
    Ok(<[u8; 8]>::try_from(&bytes[..]).ok().map(u64::from_le_bytes))
}

async fn open_unheld(directory: &Path, open: &OpenKv) -> Result<Arc<dyn OrderedKv>, KvError> {
    let deadline = time::Instant::now() + HELD_LIMIT;
    loop {
        match open(directory.to_owned()).await {
            Err(KvError::Held { .. }) if time::Instant::now() < deadline => {
                time::sleep(Duration::from_millis(50)).await;
            }
            opened => return opened,
        }
    }
}

/// Names hold no zero byte, so keys of one database's lineage lie together, in the order of txids.
fn key(database: &DatabaseName, lineage: Lineage, first: Txid) -> Bytes {
    let mut key = Vec::with_capacity(database.as_str().len() + 17);
    key.extend_from_slice(database.as_str().as_bytes());
    key.push(0);
    key.extend_from_slice(&lineage.0.to_be_bytes());
    key.extend_from_slice(&first.0.to_be_bytes());
    key.into()
}

fn encode(record: &SegmentRecord) -> Bytes {
    encode_record(record, 0).encode_to_vec().into()
}

fn decode(value: &Bytes) -> SegmentRecord {
    let decoded = v1::SegmentEntry::decode(value.clone()).map_err(|error| error.to_string());
    match decoded.and_then(|entry| decode_record(entry).map_err(|error| error.to_string())) {
        Ok(record) => record,
        Err(error) => process::halt(&format!("the position log is damaged ({error}); a restart builds it again")),
    }
}

/// The map is rebuilt by a start after an unclean stop, so the way out of damage is to stop.
fn survive<T>(read: Result<T, KvError>) -> T {
    match read {
        Ok(value) => value,
        Err(error) => process::halt(&format!("the position log cannot be read ({error}); a restart builds it again")),
    }
}

#[cfg(test)]
#[path = "position_log_tests.rs"]
mod tests;
