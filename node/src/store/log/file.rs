//! The handle of the log file.

use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;

use super::entry::{EntryHead, LogEntry, LogId};
use super::error::OpenLogError;
use super::pins::{LogFilePin, PinView};
use super::state::LogState;

/// Sizes of the log file.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// A piece that has reached this many bytes is sealed.
    pub piece_bytes: u64,
    /// Written payloads of at most this many bytes stay in memory.
    pub cache_bytes: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { piece_bytes: 64 << 20, cache_bytes: 32 << 20 }
    }
}

/// The log file. Clones share it; dropping the last one stops its writer.
#[derive(Clone)]
pub struct LogFile {}

#[allow(unused_variables, clippy::unimplemented, clippy::unused_async)]
impl LogFile {
    /// Opens the log file in `dir`, or creates it. No piece is deleted before [`LogFile::start_deleting`].
    ///
    /// # Errors
    /// [`OpenLogError`].
    pub async fn open(dir: &Path, options: LogOptions) -> Result<Self, OpenLogError> {
        unimplemented!()
    }
    /// What the log file knows beside its entries.
    pub fn state(&self) -> LogState {
        unimplemented!()
    }
    /// Appends entries that continue the last. They are readable when this returns; `done` is called once they are
    /// durable, in the order of the calls.
    pub fn append(&self, entries: Vec<LogEntry>, done: Box<dyn FnOnce(io::Result<()>) + Send>) {
        unimplemented!()
    }
    /// Saves the vote; durable when this returns.
    pub async fn save_vote(&self, vote: Bytes) -> io::Result<()> {
        unimplemented!()
    }
    /// Saves the cluster this node belongs to; durable when this returns.
    pub async fn save_cluster(&self, cluster: [u8; 16]) -> io::Result<()> {
        unimplemented!()
    }
    /// Remembers what is committed; it goes to the disk with the next batch.
    pub fn save_committed(&self, id: Option<LogId>) {
        unimplemented!()
    }
    /// Removes the entries after `id` (all of them if `None`); durable when this returns.
    pub async fn truncate_after(&self, id: Option<LogId>) -> io::Result<()> {
        unimplemented!()
    }
    /// Raft no longer needs entries up to `id`; durable when this returns. Their payloads stay while a pin wants them.
    pub async fn purge(&self, id: LogId) -> io::Result<()> {
        unimplemented!()
    }
    /// The unpurged entries of `range`, without payloads.
    pub fn heads(&self, range: Range<u64>) -> Vec<EntryHead> {
        unimplemented!()
    }
    /// The first unpurged entries of `range`, at most `max_bytes` of them but at least one.
    pub async fn entries(&self, range: Range<u64>, max_bytes: usize) -> io::Result<Vec<LogEntry>> {
        unimplemented!()
    }
    /// The payload of an entry, even one that Raft purged; `None` if it is gone.
    pub async fn payload(&self, index: u64) -> io::Result<Option<Bytes>> {
        unimplemented!()
    }
    /// Keeps payloads from `from_index` on.
    pub fn pin(&self, from_index: u64, reason: &'static str) -> LogFilePin {
        unimplemented!()
    }
    /// Every pin, the lowest first.
    pub fn pins(&self) -> Vec<PinView> {
        unimplemented!()
    }
    /// Lets pieces go from now on: call it once everyone who needs old entries has pinned them again.
    pub fn start_deleting(&self) {
        unimplemented!()
    }
    /// The last entry that is durable.
    pub fn synced(&self) -> Option<LogId> {
        unimplemented!()
    }
    /// Bytes of all pieces.
    pub fn bytes_on_disk(&self) -> u64 {
        unimplemented!()
    }
    /// Bytes of the pieces that a pin at `index` keeps.
    pub fn bytes_from(&self, index: u64) -> u64 {
        unimplemented!()
    }
    /// Bytes that are queued and not yet written.
    pub fn bytes_queued(&self) -> u64 {
        unimplemented!()
    }
    /// Writes what is queued and a mark that says that nothing is missing, and stops. Later writes fail.
    pub async fn close(&self) -> io::Result<()> {
        unimplemented!()
    }
}
