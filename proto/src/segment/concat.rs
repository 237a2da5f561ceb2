//! Merging segments.

use bytes::Bytes;

use super::error::MergeError;
use super::summary::SegmentSummary;

/// Merges adjacent segments.
#[allow(unused_variables, missing_docs, clippy::unimplemented)]
pub fn concat(segments: impl IntoIterator<Item = Vec<Bytes>>) -> Result<(Vec<Bytes>, SegmentSummary), MergeError> {
    unimplemented!()
}
