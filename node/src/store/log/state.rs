//! What the log file knows beside its entries.

use bytes::Bytes;

use super::entry::LogId;

/// Who this data directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's uuid; all zero until this node belongs to one.
    pub cluster: [u8; 16],
    /// The node's Raft id: random, never 0, born with the log file.
    pub raft_id: u64,
}

/// A look at the log file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogState {
    /// Who this data directory is.
    pub identity: Identity,
    /// The last vote that is durable; opaque.
    pub vote: Option<Bytes>,
    /// The last committed entry as far as it was saved; never after `last`.
    pub committed: Option<LogId>,
    /// The last entry that Raft purged.
    pub purged: Option<LogId>,
    /// The last entry; the purged one if there is none after it.
    pub last: Option<LogId>,
    /// Whether the program before this one ended by [`LogFile::close`](super::LogFile::close).
    pub was_clean: bool,
    /// Whether this log file was created when it was opened.
    pub was_created: bool,
}

impl LogState {
    /// The index of the first entry that is not purged, or where it would be.
    pub fn first_index(&self) -> u64 {
        self.purged.map_or(0, |id| id.index + 1)
    }
}
