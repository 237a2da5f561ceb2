//! The ordered map in sled.
//!
//! sled's `flush` is no fsync (it calls `sync_file_range`), its start-up may panic on files it does not understand,
//! and its own timer thread is not wanted: so it is opened under `catch_unwind`, written by one task at a time, and
//! its file is synced here.

use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use seawall_host::disk::{self, File, OpenMode};
use seawall_host::task;
use tokio::sync::Mutex;

use super::kv::{KvError, OpenKv, OrderedKv, Pair};

/// Bytes of pages that sled keeps in memory. What it is asked for is its newest records, and now and then all of them in order.
const CACHE_BYTES: u64 = 4 << 20;

/// A sled database.
pub struct SledKv {
    db: sled::Db,
    directory: PathBuf,
    /// Held by whoever writes.
    writer: Mutex<()>,
}

impl SledKv {
    /// Opens sled in `directory`, created if need be.
    ///
    /// # Errors
    /// [`KvError::Held`] if another process has it open, [`KvError::Damaged`] if sled cannot read it.
    pub async fn open(directory: PathBuf) -> Result<Self, KvError> {
        let path = directory.clone();
        let opened = task::blocking(move || {
            guard(&path, || sled::Config::new().path(&path).flush_every_ms(None).cache_capacity(CACHE_BYTES).open())
        });
        let db = opened.await.unwrap_or_else(|error| Err(io_error(&directory, &error)))?;
        Ok(Self { db, directory, writer: Mutex::new(()) })
    }

    /// A function that opens sled, for those that want any ordered map.
    pub fn opener() -> OpenKv {
        Arc::new(|directory| async move { Ok(Arc::new(Self::open(directory).await?) as Arc<dyn OrderedKv>) }.boxed())
    }
}

impl OrderedKv for SledKv {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        guard(&self.directory, || Ok(self.db.get(key)?.map(|value| Bytes::copy_from_slice(&value))))
    }

    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Pair>, KvError> {
        guard(&self.directory, || {
            self.db.range::<&[u8], _>((from, to)).take(limit).map(|pair| pair.map(copy)).collect()
        })
    }

    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Pair>, KvError> {
        guard(&self.directory, || self.db.range(from..=to).next_back().transpose().map(|pair| pair.map(copy)))
    }

    fn apply(&self, batch: Vec<(Bytes, Option<Bytes>)>) -> BoxFuture<'_, Result<(), KvError>> {
        async move {
            let _writing = self.writer.lock().await;
            let (db, directory) = (self.db.clone(), self.directory.clone());
            let applied = task::blocking(move || {
                guard(&directory, || {
                    let mut sled_batch = sled::Batch::default();
                    for (key, value) in &batch {
                        match value {
                            Some(value) => sled_batch.insert(&key[..], &value[..]),
                            None => sled_batch.remove(&key[..]),
                        }
                    }
                    db.apply_batch(sled_batch)
                })
            });
            applied.await.unwrap_or_else(|error| Err(io_error(&self.directory, &error)))
        }
        .boxed()
    }

    fn checkpoint(&self) -> BoxFuture<'_, Result<(), KvError>> {
        async move {
            let _writing = self.writer.lock().await;
            let (db, directory) = (self.db.clone(), self.directory.clone());
            let flushed = task::blocking(move || guard(&directory, || db.flush().map(|_bytes| ())));
            flushed.await.unwrap_or_else(|error| Err(io_error(&self.directory, &error)))?;
            let synced = async {
                File::open(&self.directory.join("db"), OpenMode::ReadWrite).await?.sync().await?;
                disk::sync_directory(&self.directory).await
            };
            synced.await.map_err(|error| io_error(&self.directory, &error))
        }
        .boxed()
    }
}

fn copy((key, value): (sled::IVec, sled::IVec)) -> Pair {
    (Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value))
}

fn io_error(directory: &Path, error: &dyn std::fmt::Display) -> KvError {
    KvError::Io { path: directory.to_owned(), cause: error.to_string() }
}

/// Runs a call of sled's, which may panic where its files are damaged.
fn guard<T>(directory: &Path, call: impl FnOnce() -> sled::Result<T>) -> Result<T, KvError> {
    let path = directory.to_owned();
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) if error.to_string().contains("could not acquire lock") => {
            Err(KvError::Held { path, cause: error.to_string() })
        }
        Ok(Err(sled::Error::Io(error))) => Err(KvError::Io { path, cause: error.to_string() }),
        Ok(Err(error)) => Err(KvError::Damaged { path, cause: error.to_string() }),
        Err(_panic) => Err(KvError::Damaged { path, cause: "sled panicked".to_owned() }),
    }
}
