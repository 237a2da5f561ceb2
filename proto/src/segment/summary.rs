//! What a whole segment holds.

use super::header::SegmentHeader;
use crate::checksum::Checksum;
use crate::position::Position;

/// What a whole segment holds, known at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSummary {
    /// Its header.
    pub header: SegmentHeader,
    /// The database's checksum after the last transaction.
    pub checksum_after: Checksum,
    /// The database's size in pages after the last transaction, the lock page counted.
    pub page_count: u32,
    /// Commit time of the first transaction inside, milliseconds since 1970.
    pub first_commit_time_ms: i64,
    /// Commit time of the last transaction, milliseconds since 1970.
    pub last_commit_time_ms: i64,
    /// Transactions inside; 1 for a squashed segment, however many it merges.
    pub transactions: u64,
    /// Pages carried; a page carried twice counts twice.
    pub pages: u64,
    /// Frames of compressed records.
    pub frames: u64,
    /// Encoded bytes of the whole segment.
    pub bytes: u64,
}

impl SegmentSummary {
    /// The state after the segment's last transaction.
    pub fn position_after(&self) -> Position {
        Position { lineage: self.header.lineage, txid: self.header.last, checksum: self.checksum_after }
    }
}
