//! Keeping only the last version of each page.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::chain::Chain;
use super::decoder::{SegmentDecoder, SegmentEvent};
use super::encoder::SegmentEncoder;
use super::error::{MergeError, SegmentError};
use super::header::{SegmentHeader, SegmentKind};
use super::summary::SegmentSummary;
use crate::position::PageNumber;

/// Merges adjacent segments of any kind into a squashed one: the last version of each page, ascending. Pages beyond the
/// size of a commit are dropped there and then. Each segment is given as its pieces, in order.
///
/// Memory: the distinct pages, and one segment at a time.
///
/// # Errors
/// [`MergeError`] if a segment is damaged or does not continue the one before.
pub fn squash(segments: impl IntoIterator<Item = Vec<Bytes>>) -> Result<(Vec<Bytes>, SegmentSummary), MergeError> {
    let mut chain = Chain::default();
    let mut pages = BTreeMap::new();
    for pieces in segments {
        let (number, after) = (chain.length(), chain.last());
        let summary = collect(pieces, &mut pages).map_err(|cause| MergeError::Segment { number, after, cause })?;
        chain.push(&summary)?;
    }
    let (first, end) = chain.ends()?;
    let header = SegmentHeader { kind: SegmentKind::Squashed, last: end.header.last, ..first.header };
    let mut encoder = SegmentEncoder::new(header);
    for (page, bytes) in pages {
        encoder.page(page, &bytes)?;
    }
    encoder.commit(end.page_count, end.last_commit_time_ms, end.checksum_after)?;
    Ok(encoder.finish()?)
}

fn collect(pieces: Vec<Bytes>, pages: &mut BTreeMap<PageNumber, Box<[u8]>>) -> Result<SegmentSummary, SegmentError> {
    let mut decoder = SegmentDecoder::new();
    for piece in pieces {
        decoder.push(piece);
        while let Some(event) = decoder.next()? {
            match event {
                SegmentEvent::Page { page, bytes, .. } => {
                    pages.insert(page, Box::from(&bytes[..]));
                }
                SegmentEvent::Commit(transaction) => {
                    if let Some(beyond) = transaction.page_count.checked_add(1) {
                        pages.split_off(&PageNumber(beyond));
                    }
                }
                SegmentEvent::Header(_) | SegmentEvent::End(_) => {}
            }
        }
    }
    decoder.finish()
}
