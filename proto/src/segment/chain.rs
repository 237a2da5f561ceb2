//! Whether segments continue one another.

use super::error::MergeError;
use super::summary::SegmentSummary;
use crate::position::Txid;

/// A chain of segments: the first one's beginning and the last one's end.
#[derive(Default)]
pub(super) struct Chain {
    /// The first and the last segment.
    ends: Option<(SegmentSummary, SegmentSummary)>,
    length: usize,
}

impl Chain {
    /// Adds a segment.
    pub(super) fn push(&mut self, next: &SegmentSummary) -> Result<(), MergeError> {
        self.length += 1;
        let Some((_, last)) = &mut self.ends else {
            self.ends = Some((*next, *next));
            return Ok(());
        };
        let (before, header) = (&last.header, &next.header);
        let first = header.first;
        if before.lineage != header.lineage {
            return Err(MergeError::Lineage { expected: before.lineage, found: header.lineage });
        }
        if before.last.next() != first {
            return Err(MergeError::NotAdjacent { last: before.last, first });
        }
        if last.checksum_after != header.checksum_before {
            let (txid, expected, found) = (before.last, last.checksum_after, header.checksum_before);
            return Err(MergeError::Checksum { txid, expected, found });
        }
        if before.page_size != header.page_size {
            let (expected, found) = (before.page_size, header.page_size);
            return Err(MergeError::PageSizeChanges { expected, found, first });
        }
        if last.last_commit_time_ms > next.first_commit_time_ms {
            return Err(MergeError::CommitTimeDecreases { last: before.last, first });
        }
        *last = *next;
        Ok(())
    }

    /// Segments so far.
    pub(super) const fn length(&self) -> usize {
        self.length
    }

    /// The last transaction so far; 0 before the first segment.
    pub(super) fn last(&self) -> Txid {
        self.ends.map_or(Txid::NONE, |(_, last)| last.header.last)
    }

    /// The first and the last segment.
    pub(super) fn ends(&self) -> Result<(SegmentSummary, SegmentSummary), MergeError> {
        self.ends.ok_or(MergeError::NoSegments)
    }
}
