//! Segments of which some parts have arrived.

use seawall_proto::position::{PageSize, Txid};
use seawall_proto::v1;

/// A segment of which the log holds the first parts and not yet the last. None of it is visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSegment {
    /// The agent's stream that it comes by: a part that came by another is not of this segment.
    pub stream: u64,
    /// Its first transaction.
    pub first: Txid,
    /// Its last transaction.
    pub last: Txid,
    /// Page size after the last.
    pub page_size: PageSize,
    /// Whether it was collected by comparison.
    pub resync: bool,
    /// Bytes of the parts so far.
    pub bytes: u64,
    /// Indexes of the log entries that carry the parts so far; their count is the number of the next part.
    pub entries: Vec<u64>,
}

impl OpenSegment {
    /// Whether `part`, which came by `stream`, is the next one of this segment.
    pub fn continues_with(&self, stream: u64, part: &v1::SegmentPart) -> bool {
        self.stream == stream
            && self.first.0 == part.first
            && self.last.0 == part.last
            && self.page_size.bytes() == part.page_size
            && self.resync == part.resync
            && self.entries.len() as u64 == u64::from(part.part)
    }
}
