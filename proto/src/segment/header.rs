//! What a segment says of itself before its pages.

use super::error::SegmentError;
use crate::checksum::Checksum;
use crate::position::{Lineage, PageSize, Position, Txid};

const MAGIC: [u8; 8] = *b"SEAWSEG\0";
pub(super) const VERSION: u16 = 1;

/// How a segment came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SegmentKind {
    /// Every transaction, from the WAL; or several segments of the kinds `Log` and `Resync`, joined.
    Log,
    /// One transaction without history inside: collected by comparison, not read from the WAL.
    Resync,
    /// One merged transaction: the last version of each page. A snapshot if it starts from the empty database.
    Squashed,
}

impl SegmentKind {
    const fn code(self) -> u8 {
        match self {
            Self::Log => 0,
            Self::Resync => 1,
            Self::Squashed => 2,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Log, Self::Resync, Self::Squashed].into_iter().find(|kind| kind.code() == code)
    }
}

/// The fixed-size header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The database's page size throughout the segment.
    pub page_size: PageSize,
    /// The history it belongs to; at least 1.
    pub lineage: Lineage,
    /// The first transaction inside; at least 1.
    pub first: Txid,
    /// The last transaction inside; not below `first`.
    pub last: Txid,
    /// The database's checksum before the first transaction.
    pub checksum_before: Checksum,
    /// How it came to be.
    pub kind: SegmentKind,
}

/// A header that no segment may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// Lineages count from 1.
    #[error("lineage 0 does not exist: lineages count from 1")]
    LineageZero,
    /// Transactions count from 1, upwards.
    #[error("transactions {first} to {last} are no range: txids count from 1, upwards")]
    Transactions {
        /// The claimed first.
        first: Txid,
        /// The claimed last.
        last: Txid,
    },
    /// A resync is one transaction.
    #[error("a resync is one transaction, not {first} to {last}")]
    ResyncOfSeveral {
        /// The claimed first.
        first: Txid,
        /// The claimed last.
        last: Txid,
    },
}

/// Bytes of the description that the header and the footer share.
pub(super) const DESCRIPTION_LEN: usize = 40;

impl SegmentHeader {
    /// Its length in bytes.
    pub const LEN: usize = MAGIC.len() + DESCRIPTION_LEN + 4;

    /// Whether it holds every page as of its last transaction.
    pub fn is_snapshot(&self) -> bool {
        self.kind == SegmentKind::Squashed && self.first == Txid::NONE.next()
    }

    /// The state that the segment continues.
    pub fn position_before(&self) -> Position {
        Position { lineage: self.lineage, txid: Txid(self.first.0.saturating_sub(1)), checksum: self.checksum_before }
    }

    /// Checks what the field types leave open.
    ///
    /// # Errors
    /// [`InvalidHeader`] names the field and the rule.
    pub fn validate(&self) -> Result<(), InvalidHeader> {
        let Self { first, last, .. } = *self;
        if self.lineage.0 == 0 {
            return Err(InvalidHeader::LineageZero);
        }
        // The greatest number is left out so that there is always a next txid.
        if first.0 == 0 || first > last || last.0 == u64::MAX {
            return Err(InvalidHeader::Transactions { first, last });
        }
        if self.kind == SegmentKind::Resync && first != last {
            return Err(InvalidHeader::ResyncOfSeveral { first, last });
        }
        Ok(())
    }

    /// Version, kind, flags and the fields: what the footer repeats.
    pub(super) fn description(&self) -> [u8; DESCRIPTION_LEN] {
        let mut out = [0; DESCRIPTION_LEN];
        out[0..2].copy_from_slice(&VERSION.to_le_bytes());
        out[2] = self.kind.code();
        out[4..8].copy_from_slice(&self.page_size.bytes().to_le_bytes());
        out[8..16].copy_from_slice(&self.lineage.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.last.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.checksum_before.0.to_le_bytes());
        out
    }

    /// Reads a description whose checksum was found right, at `offset` of the segment.
    pub(super) fn from_description(bytes: &[u8; DESCRIPTION_LEN], offset: u64) -> Result<Self, SegmentError> {
        let inconsistent = |what| SegmentError::Inconsistent { offset, what };
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let page_size = u32::from_le_bytes(std::array::from_fn(|i| bytes[4 + i]));
        let header = Self {
            kind: SegmentKind::from_code(bytes[2]).ok_or(inconsistent("the kind is unknown"))?,
            page_size: PageSize::new(page_size).map_err(|_| inconsistent("the page size is not one of SQLite's"))?,
            lineage: Lineage(u64_at(8)),
            first: Txid(u64_at(16)),
            last: Txid(u64_at(24)),
            checksum_before: Checksum(u64_at(32)),
        };
        if bytes[3] != 0 {
            return Err(inconsistent("there are unknown flags"));
        }
        header.validate()?;
        Ok(header)
    }

    /// As it stands at the beginning of a segment.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let (checked, crc) = out.split_at_mut(Self::LEN - 4);
        checked[..MAGIC.len()].copy_from_slice(&MAGIC);
        checked[MAGIC.len()..].copy_from_slice(&self.description());
        crc.copy_from_slice(&crc32c::crc32c(checked).to_le_bytes());
        out
    }

    /// Reads the header from the first bytes of a segment.
    ///
    /// # Errors
    /// [`SegmentError`] unless these are the first bytes of an intact segment of a known version.
    pub fn parse(bytes: &[u8; Self::LEN]) -> Result<Self, SegmentError> {
        let (checked, crc) = bytes.split_at(Self::LEN - 4);
        let description = checked.strip_prefix(&MAGIC).ok_or(SegmentError::NotASegment)?;
        let version = u16::from_le_bytes([description[0], description[1]]);
        if version != VERSION {
            return Err(SegmentError::UnknownVersion { found: version });
        }
        if crc32c::crc32c(checked).to_le_bytes() != crc {
            return Err(SegmentError::Damaged { offset: 0, what: "the header's CRC32C does not match" });
        }
        let description = description.first_chunk().ok_or(SegmentError::NotASegment)?;
        Self::from_description(description, 0)
    }
}
