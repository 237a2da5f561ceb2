//! Joining segments without looking into their frames.

use bytes::Bytes;

use super::byte_queue::ByteQueue;
use super::chain::Chain;
use super::error::{MergeError, SegmentError};
use super::footer::SegmentFooter;
use super::header::{SegmentHeader, SegmentKind};
use super::index::SegmentIndex;
use super::record::Commit;
use super::section::{self, SectionKind};
use super::summary::SegmentSummary;
use super::transaction_table::TransactionTableWriter;

/// Joins adjacent segments into one that keeps every transaction. Each segment is given as its pieces, in order.
///
/// The frames of the result are slices of the pieces given, so it costs no memory beside them; they are checked by CRC32C
/// but not decompressed. The result is of kind [`SegmentKind::Log`] unless it is a single resync.
///
/// # Errors
/// [`MergeError`] if a segment is damaged, is squashed, or does not continue the one before.
pub fn concat(segments: impl IntoIterator<Item = Vec<Bytes>>) -> Result<(Vec<Bytes>, SegmentSummary), MergeError> {
    let mut chain = Chain::default();
    let mut parts = vec![Bytes::new()];
    let mut table = TransactionTableWriter::default();
    let mut index = Vec::new();
    let (mut crc, mut frames_len, mut frames, mut transactions, mut pages) = (0, 0, 0, 0, 0);
    for pieces in segments {
        let (number, after) = (chain.length(), chain.last());
        let opened = open(pieces).map_err(|cause| MergeError::Segment { number, after, cause })?;
        let summary = opened.index.summary();
        chain.push(summary)?;
        let SegmentHeader { kind, first, last, .. } = summary.header;
        if kind == SegmentKind::Squashed {
            return Err(MergeError::Squashed { first, last });
        }
        for piece in opened.frames {
            crc = crc32c::crc32c_append(crc, &piece);
            frames_len += piece.len() as u64;
            parts.push(piece);
        }
        for transaction in opened.index.transactions() {
            table.push(&Commit::from(transaction));
        }
        index.extend_from_slice(&opened.page_index);
        frames += summary.frames;
        transactions += summary.transactions;
        pages += summary.pages;
    }
    let (first, end) = chain.ends()?;
    let kind = if chain.length() == 1 { first.header.kind } else { SegmentKind::Log };
    let header = SegmentHeader { kind, last: end.header.last, ..first.header };
    let head = header.encode();

    let mut tail = Vec::new();
    section::write(&mut tail, SectionKind::TransactionTable, &table.take());
    let table_offset = SegmentHeader::LEN as u64 + frames_len;
    let index_offset = table_offset + tail.len() as u64;
    section::write(&mut tail, SectionKind::PageIndex, &index);
    let crc_of_frames = crc32c::crc32c_combine(crc32c::crc32c(&head), crc, frames_len as usize);
    let crc_before = crc32c::crc32c_append(crc_of_frames, &tail);
    let bytes = table_offset + tail.len() as u64 + SegmentFooter::LEN as u64;
    let first_commit_time_ms = first.first_commit_time_ms;
    let summary = SegmentSummary { header, first_commit_time_ms, transactions, pages, frames, bytes, ..end };
    tail.extend_from_slice(&SegmentFooter { summary, crc_before, table_offset, index_offset }.encode());
    parts[0] = Bytes::copy_from_slice(&head);
    parts.push(tail.into());
    Ok((parts, summary))
}

/// A segment whose bytes are proven intact, taken apart.
struct Opened {
    frames: Vec<Bytes>,
    index: SegmentIndex,
    page_index: Bytes,
}

fn open(pieces: Vec<Bytes>) -> Result<Opened, SegmentError> {
    let mut queue = ByteQueue::default();
    pieces.into_iter().for_each(|piece| queue.push(piece));
    let length = queue.len();
    let truncated = SegmentError::Truncated { bytes: length as u64 };
    let header = SegmentHeader::parse(&queue.peek().ok_or(truncated.clone())?)?;

    let mut rest = queue.clone();
    rest.take_pieces(length.saturating_sub(SegmentFooter::LEN));
    let footer = SegmentFooter::parse(&rest.peek().ok_or(truncated.clone())?)?;
    if footer.summary.bytes > length as u64 {
        return Err(truncated);
    }
    if footer.summary.bytes < length as u64 {
        return Err(SegmentError::TrailingBytes { bytes: footer.summary.bytes });
    }
    let before_footer = queue.clone().take_pieces(length - SegmentFooter::LEN);
    let crc = before_footer.iter().fold(0, |crc, piece| crc32c::crc32c_append(crc, piece));
    if crc != footer.crc_before {
        return Err(SegmentError::Damaged { offset: 0, what: "the CRC32C over the whole segment does not match" });
    }
    if header != footer.summary.header {
        let what = "header and footer state different things";
        return Err(SegmentError::Inconsistent { offset: footer.offset(), what });
    }

    queue.take_pieces(SegmentHeader::LEN);
    let frames = queue.take_pieces((footer.table_offset - SegmentHeader::LEN as u64) as usize);
    let tail = queue.take(queue.len()).unwrap_or_default();
    let index = SegmentIndex::parse(&tail)?;
    let index_start = (index.footer().index_offset - index.footer().table_offset) as usize + section::PREFIX_LEN;
    let page_index = tail.slice(index_start..tail.len() - SegmentFooter::LEN - section::CRC_LEN);
    Ok(Opened { frames, index, page_index })
}
