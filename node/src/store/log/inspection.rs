//! The log file as oracles see it.

use bytes::Bytes;

use super::entry::LogId;

/// An entry as it can be compared between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectedEntry {
    /// Its id.
    pub id: LogId,
    /// Of what it says and of its payload: equal on all nodes that hold the same entry.
    pub hash: u64,
    /// Bytes of its payload.
    pub payload_len: u32,
    /// Whether it is synced on this node.
    pub is_durable: bool,
}

impl InspectedEntry {
    pub(super) fn new(id: LogId, meta: &Bytes, (payload_len, payload_crc): (u32, u32), is_durable: bool) -> Self {
        let hash = u64::from(crc32c::crc32c(meta)) << 32 | u64::from(payload_crc);
        Self { id, hash, payload_len, is_durable }
    }
}

/// A look at the log file at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogInspection {
    /// The vote that is durable; opaque.
    pub vote: Option<Bytes>,
    /// The last entry known to be committed.
    pub committed: Option<LogId>,
    /// The last entry that Raft purged.
    pub purged: Option<LogId>,
    /// The last entry; it may not be durable yet.
    pub last: Option<LogId>,
    /// The last entry that is durable.
    pub synced: Option<LogId>,
    /// Those that were asked for, ascending.
    pub entries: Vec<InspectedEntry>,
    /// Bytes of all pieces.
    pub bytes_on_disk: u64,
    /// Bytes that are queued and not yet written.
    pub bytes_queued: u64,
}
