//! Writing segments.

use bytes::Bytes;

use super::error::EncodeError;
use super::header::SegmentHeader;
use super::summary::SegmentSummary;
use crate::checksum::Checksum;
use crate::position::PageNumber;

/// Encodes one segment as a stream: memory is bounded by one frame plus the tables, as long as the output is taken.
pub struct SegmentEncoder {}

#[allow(unused_variables, missing_docs, clippy::unimplemented)]
impl SegmentEncoder {
    /// Begins a segment. A header that breaks a rule is reported by the next call.
    pub fn new(header: SegmentHeader) -> Self {
        unimplemented!()
    }

    /// Adds a page to the open transaction. Any order; of a page added twice the last version counts.
    pub fn page(&mut self, page: PageNumber, bytes: &[u8]) -> Result<(), EncodeError> {
        unimplemented!()
    }

    /// Ends the open transaction (which may carry no page at all).
    pub fn commit(
        &mut self,
        page_count: u32,
        commit_time_ms: i64,
        checksum_after: Checksum,
    ) -> Result<(), EncodeError> {
        unimplemented!()
    }

    /// The output that is complete so far and was not taken yet.
    pub fn take(&mut self) -> Vec<Bytes> {
        unimplemented!()
    }

    /// Ends the segment: the rest of the output.
    pub fn finish(self) -> Result<(Vec<Bytes>, SegmentSummary), EncodeError> {
        unimplemented!()
    }
}
