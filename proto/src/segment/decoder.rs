//! Reading segments.

use bytes::Bytes;

use super::error::SegmentError;
use super::header::SegmentHeader;
use super::summary::SegmentSummary;
use super::transaction::Transaction;
use crate::position::{PageNumber, Txid};

/// What a decoder found next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SegmentEvent {
    /// The header: always the first event.
    Header(SegmentHeader),
    /// A page of the open transaction.
    Page {
        /// The transaction.
        txid: Txid,
        /// The page's number: at most the page count that the transaction's commit will state.
        page: PageNumber,
        /// Its bytes: a slice of a whole frame, which it keeps in memory. Copy it to keep it for long.
        bytes: Bytes,
    },
    /// The open transaction ended.
    Commit(Transaction),
    /// The segment is complete and proven intact.
    End(SegmentSummary),
}

/// Decodes one segment as a stream. Total: any bytes give events or an error; memory is bounded by one frame.
///
/// Until [`SegmentEvent::End`] nothing proves that the segment is whole.
pub struct SegmentDecoder {}

#[allow(
    unused_variables,
    missing_docs,
    clippy::unimplemented,
    clippy::new_without_default,
    clippy::should_implement_trait
)]
impl SegmentDecoder {
    pub fn new() -> Self {
        unimplemented!()
    }

    /// Adds the next bytes of the segment, in pieces of any size.
    pub fn push(&mut self, bytes: Bytes) {
        unimplemented!()
    }

    /// The next event; `None`: push more.
    pub fn next(&mut self) -> Result<Option<SegmentEvent>, SegmentError> {
        unimplemented!()
    }

    /// Checks whatever events were not asked for, and that the segment is complete.
    pub fn finish(self) -> Result<SegmentSummary, SegmentError> {
        unimplemented!()
    }
}
