//! An ordered map on disk, small enough to be replaced: what the position log needs of a storage engine.

use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

/// Why the map did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KvError {
    /// Another process, or the last life of this one, still holds it.
    #[error("{path} is held by another process: {cause}")]
    Held {
        /// Its directory.
        path: PathBuf,
        /// What the engine said.
        cause: String,
    },
    /// It cannot be read; what is in it has to be built again.
    #[error("{path} is damaged: {cause}")]
    Damaged {
        /// Its directory.
        path: PathBuf,
        /// What the engine said.
        cause: String,
    },
    /// The machine refused, for want of space for example; it may work later.
    #[error("{path}: {cause}")]
    Io {
        /// Its directory.
        path: PathBuf,
        /// What the machine said.
        cause: String,
    },
}

/// A key and its value.
pub type Pair = (Bytes, Bytes);

/// An ordered map on disk. What was applied survives an orderly stop only after [`OrderedKv::checkpoint`];
/// after any other stop nothing may be believed of it.
pub trait OrderedKv: Send + Sync + 'static {
    /// The value of `key`.
    ///
    /// # Errors
    /// [`KvError`].
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError>;

    /// The first `limit` pairs between the bounds, ascending.
    ///
    /// # Errors
    /// [`KvError`].
    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Pair>, KvError>;

    /// The last pair whose key is at least `from` and at most `to`.
    ///
    /// # Errors
    /// [`KvError`].
    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Pair>, KvError>;

    /// Puts pairs, and removes the keys that come without a value, all or none. Batches are applied in order.
    fn apply(&self, batch: Vec<(Bytes, Option<Bytes>)>) -> BoxFuture<'_, Result<(), KvError>>;

    /// Makes everything applied so far durable.
    fn checkpoint(&self) -> BoxFuture<'_, Result<(), KvError>>;
}

/// Opens the map in a directory, created if need be.
pub type OpenKv = Arc<dyn Fn(PathBuf) -> BoxFuture<'static, Result<Arc<dyn OrderedKv>, KvError>> + Send + Sync>;
