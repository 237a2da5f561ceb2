//! Entries, as the log file sees them.

use std::fmt;
use std::str::FromStr;

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

/// What is not the text of a log id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a log id is a term, a node's Raft id in hexadecimal digits and an index, with dashes between them")]
pub struct InvalidLogId;

impl FromStr for LogId {
    type Err = InvalidLogId;

    fn from_str(text: &str) -> Result<Self, InvalidLogId> {
        let mut parts = text.split('-');
        let (Some(term), Some(node), Some(index), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidLogId);
        };
        Ok(Self {
            term: term.parse().map_err(|_| InvalidLogId)?,
            node: u64::from_str_radix(node, 16).map_err(|_| InvalidLogId)?,
            index: index.parse().map_err(|_| InvalidLogId)?,
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_id_reads_back_as_it_was_written() {
        let id = LogId { term: 7, node: u64::MAX, index: 12 };
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "7-ff", "7-fg-12", "7-ff-12-1", "x-ff-12"] {
            assert_eq!(text.parse::<LogId>(), Err(InvalidLogId), "{text}");
        }
    }
}
