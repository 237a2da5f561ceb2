//! What a segment says of itself before its pages.

use crate::checksum::Checksum;
use crate::position::{Lineage, PageSize, Position, Txid};

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

impl SegmentHeader {
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
}
