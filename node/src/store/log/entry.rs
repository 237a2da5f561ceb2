//! Entries, as the log file sees them.

use std::fmt;

use bytes::Bytes;

/// Names one entry for ever: the term and the leader it was proposed under, and its place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The leader's term.
    pub term: u64,
    /// The leader's Raft id.
    pub node: u64,
    /// The place in the log.
    pub index: u64,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}-{}", self.term, self.node, self.index)
    }
}

/// An entry with all its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its id.
    pub id: LogId,
    /// What it says, without its payload; small, and kept in memory until it is purged.
    pub meta: Bytes,
    /// Its payload.
    pub payload: Bytes,
}

/// An entry without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryHead {
    /// Its id.
    pub id: LogId,
    /// What it says.
    pub meta: Bytes,
    /// Bytes of the payload that was left out.
    pub payload_len: u32,
}
