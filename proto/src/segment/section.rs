//! Sections: the tables behind the frames, each with its length and checksum.

use super::error::SegmentError;

pub(super) const CRC_LEN: usize = 4;
/// Bytes before a section's content: tag and length.
pub(super) const PREFIX_LEN: usize = 9;

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SectionKind {
    TransactionTable,
    PageIndex,
}

impl SectionKind {
    pub(super) const fn tag(self) -> u8 {
        match self {
            Self::TransactionTable => 2,
            Self::PageIndex => 3,
        }
    }
}

/// Tag and length.
pub(super) fn prefix(kind: SectionKind, len: u64) -> [u8; PREFIX_LEN] {
    let mut prefix = [kind.tag(); PREFIX_LEN];
    prefix[1..].copy_from_slice(&len.to_le_bytes());
    prefix
}

/// Appends a whole section.
pub(super) fn write(out: &mut Vec<u8>, kind: SectionKind, content: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&prefix(kind, content.len() as u64));
    out.extend_from_slice(content);
    let crc = crc32c::crc32c(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// The content of a whole section that begins at `offset` of the segment.
pub(super) fn read(section: &[u8], kind: SectionKind, offset: u64) -> Result<&[u8], SegmentError> {
    let damaged = |what| SegmentError::Damaged { offset, what };
    let content_len = section.len().checked_sub(PREFIX_LEN + CRC_LEN).ok_or(damaged("a table is cut off"))?;
    let (checked, crc) = section.split_at(PREFIX_LEN + content_len);
    if crc32c::crc32c(checked).to_le_bytes() != crc {
        return Err(damaged("a table's CRC32C does not match"));
    }
    let content = checked.strip_prefix(&prefix(kind, content_len as u64));
    content.ok_or(SegmentError::Inconsistent { offset, what: "this is not the table that the footer says" })
}
