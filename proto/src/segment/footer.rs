//! The end of a segment, from which the rest is found.

use super::error::SegmentError;
use super::header::{DESCRIPTION_LEN, SegmentHeader, VERSION};
use super::summary::SegmentSummary;
use crate::checksum::Checksum;

const END_MAGIC: [u8; 4] = *b"SEND";

/// The fixed-size footer of a segment: what it holds, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFooter {
    /// What the segment holds.
    pub summary: SegmentSummary,
    /// CRC32C over every byte before the footer.
    pub(super) crc_before: u32,
    /// Where the transaction table begins, right behind the frames.
    pub(super) table_offset: u64,
    /// Where the page index begins, right behind the transaction table.
    pub(super) index_offset: u64,
}

impl SegmentFooter {
    /// Its length in bytes.
    pub const LEN: usize = 128;

    /// How many bytes at the segment's end [`SegmentIndex::parse`](super::SegmentIndex::parse) needs: the tables and the footer.
    pub fn tail_len(&self) -> u64 {
        self.summary.bytes - self.table_offset
    }

    pub(super) const fn offset(&self) -> u64 {
        self.summary.bytes - Self::LEN as u64
    }

    /// As it stands at the end of a segment.
    pub(super) fn encode(&self) -> [u8; Self::LEN] {
        let summary = &self.summary;
        let mut out = [0; Self::LEN];
        let (checked, end) = out.split_at_mut(Self::LEN - 8);
        checked[..DESCRIPTION_LEN].copy_from_slice(&summary.header.description());
        checked[40..48].copy_from_slice(&summary.checksum_after.0.to_le_bytes());
        checked[48..56].copy_from_slice(&summary.first_commit_time_ms.to_le_bytes());
        checked[56..64].copy_from_slice(&summary.last_commit_time_ms.to_le_bytes());
        checked[64..68].copy_from_slice(&summary.page_count.to_le_bytes());
        checked[68..72].copy_from_slice(&self.crc_before.to_le_bytes());
        checked[72..80].copy_from_slice(&summary.transactions.to_le_bytes());
        checked[80..88].copy_from_slice(&summary.pages.to_le_bytes());
        checked[88..96].copy_from_slice(&summary.frames.to_le_bytes());
        checked[96..104].copy_from_slice(&self.table_offset.to_le_bytes());
        checked[104..112].copy_from_slice(&self.index_offset.to_le_bytes());
        checked[112..120].copy_from_slice(&self.offset().to_le_bytes());
        end[..4].copy_from_slice(&crc32c::crc32c(checked).to_le_bytes());
        end[4..].copy_from_slice(&END_MAGIC);
        out
    }

    /// Reads the footer from the last bytes of a segment. It is proven intact; that what it says is true of the
    /// segment is shown by decoding that.
    ///
    /// # Errors
    /// [`SegmentError`] unless these are the last bytes of a segment of a known version.
    pub fn parse(bytes: &[u8; Self::LEN]) -> Result<Self, SegmentError> {
        // Where the footer stands is known only from itself.
        let offset = u64::from_le_bytes(std::array::from_fn(|i| bytes[112 + i]));
        let damaged = |what| SegmentError::Damaged { offset, what };
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let (checked, end) = bytes.split_at(Self::LEN - 8);
        if end[4..] != END_MAGIC {
            return Err(damaged("the last bytes are not a segment's end"));
        }
        let version = u16::from_le_bytes([bytes[0], bytes[1]]);
        if version != VERSION {
            return Err(SegmentError::UnknownVersion { found: version });
        }
        if crc32c::crc32c(checked).to_le_bytes() != end[..4] {
            return Err(damaged("the footer's CRC32C does not match"));
        }
        let description = bytes.first_chunk().ok_or(damaged("the footer is cut off"))?;
        let (table_offset, index_offset) = (u64_at(96), u64_at(104));
        let end = offset.checked_add(Self::LEN as u64);
        let in_order =
            SegmentHeader::LEN as u64 <= table_offset && table_offset <= index_offset && index_offset <= offset;
        let Some(bytes) = end.filter(|_| in_order) else {
            return Err(SegmentError::Inconsistent { offset, what: "the footer's offsets are out of order" });
        };
        let summary = SegmentSummary {
            header: SegmentHeader::from_description(description, offset)?,
            checksum_after: Checksum(u64_at(40)),
            first_commit_time_ms: u64_at(48) as i64,
            last_commit_time_ms: u64_at(56) as i64,
            page_count: u32_at(64),
            transactions: u64_at(72),
            pages: u64_at(80),
            frames: u64_at(88),
            bytes,
        };
        Ok(Self { summary, crc_before: u32_at(68), table_offset, index_offset })
    }
}
