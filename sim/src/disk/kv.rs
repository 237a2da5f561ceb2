//! The ordered map of a node on a simulated disk, in a storage engine's stead.
//!
//! It lives in memory and writes each batch behind the others to a file, synced by a checkpoint alone. After an
//! unclean stop the batches since the last checkpoint are there, or not, or in part, or the map does not open at all:
//! nothing may be believed of it then, and whoever does is to be found out.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use seawall_host::disk::{Disk, LockGuard, OpenMode, RawFile};
use seawall_node::store::kv::{KvError, OpenKv, OrderedKv, Pair};

use super::sim_disk::SimDisk;

/// Holds the batches; each is framed by its length and a checksum of its body.
const FILE: &str = "db";
const LOCK: &str = "lock";
/// Bytes of a frame's header.
const HEADER: usize = 8;
/// The share of opens that find the map still held by whoever had it last.
const HELD_SHARE: f64 = 0.05;

type Map = BTreeMap<Bytes, Bytes>;
type Batch = Vec<(Bytes, Option<Bytes>)>;

/// An ordered map on a simulated disk.
pub struct SimKv {
    map: Mutex<Map>,
    /// Where the next batch goes; held by whoever writes.
    end: tokio::sync::Mutex<u64>,
    file: Arc<dyn RawFile>,
    disk: SimDisk,
    directory: PathBuf,
    _lock: LockGuard,
}

/// What a file of batches holds.
#[derive(Default)]
struct Replayed {
    map: Map,
    /// Bytes that are whole batches.
    end: u64,
    /// Batches behind the last checkpoint.
    unsynced: Vec<Batch>,
}

impl SimKv {
    /// Opens the maps on `disk`.
    pub fn opener(disk: &SimDisk) -> OpenKv {
        let disk = disk.clone();
        Arc::new(move |directory| {
            let disk = disk.clone();
            async move { Ok(Arc::new(Self::open(disk, directory).await?) as Arc<dyn OrderedKv>) }.boxed()
        })
    }

    async fn open(disk: SimDisk, directory: PathBuf) -> Result<Self, KvError> {
        let failed = |error: std::io::Error| io_error(&directory, &error);
        disk.create_directories(directory.clone()).await.map_err(failed)?;
        let lock = match disk.lock(directory.join(LOCK)).await {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Err(held(&directory)),
            locked => locked.map_err(failed)?,
        };
        if disk.draw(|random| random.chance(HELD_SHARE)) {
            return Err(held(&directory));
        }
        let file = disk.open(directory.join(FILE), OpenMode::OpenOrCreate).await.map_err(failed)?;
        let len = file.len().await.map_err(failed)?;
        let bytes = file.read_at(0, len as usize).await.map_err(failed)?;
        let Replayed { mut map, end, unsynced } = replay(bytes);
        if end < len || !unsynced.is_empty() {
            // No orderly stop, or a damaged disk.
            if end < len && disk.draw(|random| random.chance(0.5)) {
                let cause = format!("no batch at byte {end}");
                return Err(KvError::Damaged { path: directory, cause });
            }
            let share = disk.draw(|random| match random.below(8) {
                0 => None,
                1..4 => Some(1.0),
                4 => Some(0.0),
                _ => Some(random.below(100) as f64 / 100.0),
            });
            let Some(share) = share else {
                return Err(KvError::Damaged { path: directory, cause: "its pages are of different ages".to_owned() });
            };
            for (key, value) in unsynced.into_iter().flatten() {
                if disk.draw(|random| random.chance(share)) {
                    put(&mut map, key, value);
                }
            }
            // From here on the file tells what this life believes.
            let whole = encode(map.iter().map(|(key, value)| (key, Some(value))));
            let end = whole.len() as u64;
            file.set_len(0).await.map_err(failed)?;
            file.write_at(0, vec![whole]).await.map_err(failed)?;
            return Ok(Self::new(map, end, file, disk, directory, lock));
        }
        Ok(Self::new(map, end, file, disk, directory, lock))
    }

    fn new(map: Map, end: u64, file: Arc<dyn RawFile>, disk: SimDisk, directory: PathBuf, lock: LockGuard) -> Self {
        let end = tokio::sync::Mutex::new(end);
        Self { map: Mutex::new(map), end, file, disk, directory, _lock: lock }
    }

    /// The map, unless the disk fails to read it.
    fn map(&self) -> Result<MutexGuard<'_, Map>, KvError> {
        self.disk.check_read().map_err(|error| io_error(&self.directory, &error))?;
        Ok(self.map.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl OrderedKv for SimKv {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        Ok(self.map()?.get(key).cloned())
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Pair>, KvError> {
        let map = self.map()?;
        if is_empty_range(from, to) {
            return Ok(Vec::new());
        }
        let pairs = map.range::<[u8], _>((from, to)).take(limit);
        Ok(pairs.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Pair>, KvError> {
        let map = self.map()?;
        if from > to {
            return Ok(None);
        }
        let pair = map.range::<[u8], _>((Bound::Included(from), Bound::Included(to))).next_back();
        Ok(pair.map(|(key, value)| (key.clone(), value.clone())))
    }

    fn apply(&self, batch: Batch) -> BoxFuture<'_, Result<(), KvError>> {
        async move {
            let mut end = self.end.lock().await;
            let frame = encode(batch.iter().map(|(key, value)| (key, value.as_ref())));
            let len = frame.len() as u64;
            self.file.write_at(*end, vec![frame]).await.map_err(|error| io_error(&self.directory, &error))?;
            *end += len;
            let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
            batch.into_iter().for_each(|(key, value)| put(&mut map, key, value));
            Ok(())
        }
        .boxed()
    }

    fn checkpoint(&self) -> BoxFuture<'_, Result<(), KvError>> {
        async move {
            let mut end = self.end.lock().await;
            let failed = |error: std::io::Error| io_error(&self.directory, &error);
            // What a failed write left behind the batches.
            if self.file.len().await.map_err(failed)? > *end {
                self.file.set_len(*end).await.map_err(failed)?;
            }
            let mark = encode([].into_iter());
            let len = mark.len() as u64;
            self.file.write_and_sync(*end, vec![mark]).await.map_err(failed)?;
            *end += len;
            self.disk.sync_directory(self.directory.clone()).await.map_err(failed)
        }
        .boxed()
    }
}

fn put(map: &mut Map, key: Bytes, value: Option<Bytes>) {
    match value {
        Some(value) => _ = map.insert(key, value),
        None => _ = map.remove(&key),
    }
}

fn is_empty_range(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from >= to,
        _ => false,
    }
}

/// A frame with `pairs`; one without any is a checkpoint.
fn encode<'a>(pairs: impl Iterator<Item = (&'a Bytes, Option<&'a Bytes>)>) -> Bytes {
    let mut frame = BytesMut::zeroed(HEADER);
    for (key, value) in pairs {
        frame.put_u32_le(key.len() as u32);
        frame.put_u32_le(value.map_or(u32::MAX, |value| value.len() as u32));
        frame.put_slice(key);
        frame.put_slice(value.map_or(&[][..], |value| value));
    }
    let (len, checksum) = ((frame.len() - HEADER) as u32, crc32c::crc32c(&frame[HEADER..]));
    frame[..4].copy_from_slice(&len.to_le_bytes());
    // A checkpoint is no run of zeros, as a hole of the file is.
    frame[4..HEADER].copy_from_slice(&(checksum ^ u32::MAX).to_le_bytes());
    frame.freeze()
}

fn decode(mut body: Bytes) -> Option<Batch> {
    let mut batch = Batch::new();
    while !body.is_empty() {
        let (key, value) = (body.try_get_u32_le().ok()? as usize, body.try_get_u32_le().ok()?);
        let value_len = if value == u32::MAX { 0 } else { value as usize };
        if body.len() < key.saturating_add(value_len) {
            return None;
        }
        let key = body.split_to(key);
        let bytes = body.split_to(value_len);
        batch.push((key, (value != u32::MAX).then_some(bytes)));
    }
    Some(batch)
}

fn replay(bytes: Bytes) -> Replayed {
    let mut replayed = Replayed::default();
    let mut rest = bytes.clone();
    while rest.len() >= HEADER {
        let (len, checksum) = (rest.get_u32_le() as usize, rest.get_u32_le() ^ u32::MAX);
        if rest.len() < len || crc32c::crc32c(&rest[..len]) != checksum {
            break;
        }
        let Some(batch) = decode(rest.split_to(len)) else { break };
        replayed.end += (HEADER + len) as u64;
        if len == 0 {
            for (key, value) in std::mem::take(&mut replayed.unsynced).into_iter().flatten() {
                put(&mut replayed.map, key, value);
            }
        } else {
            replayed.unsynced.push(batch);
        }
    }
    replayed
}

fn held(directory: &Path) -> KvError {
    KvError::Held { path: directory.to_owned(), cause: "its lock is taken".to_owned() }
}

fn io_error(directory: &Path, error: &dyn std::fmt::Display) -> KvError {
    KvError::Io { path: directory.to_owned(), cause: error.to_string() }
}
