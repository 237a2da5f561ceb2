//! How much an agent gathers before it acts.

use seawall_proto::MAX_PART_BYTES;

/// How much an agent gathers before it acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSizes {
    /// Encoded bytes in one part of a segment; more than [`MAX_PART_BYTES`] counts as that, 0 as 1.
    pub part_bytes: usize,
    /// A segment of more encoded bytes is not kept for being sent again: if its stream breaks, the database is claimed
    /// anew and compared, which ships its outcome. That keeps memory bounded whatever an application commits in one
    /// transaction.
    pub kept_bytes: usize,
    /// Encoded bytes that may wait for their acknowledgement; beyond them the WAL keeps what is committed.
    pub in_flight_bytes: usize,
    /// Segments that may wait for theirs: while they do, what is committed gathers into larger ones, each of which
    /// costs the cluster about the same.
    pub in_flight_segments: usize,
    /// Bytes of pages read in one step; a page at least.
    pub step_bytes: usize,
}

impl Default for AgentSizes {
    fn default() -> Self {
        Self {
            part_bytes: MAX_PART_BYTES,
            kept_bytes: 4 << 20,
            in_flight_bytes: 16 << 20,
            in_flight_segments: 64,
            step_bytes: 1 << 20,
        }
    }
}
