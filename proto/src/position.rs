//! Positions: which exact state of a database is meant.

use std::fmt;

use crate::checksum::Checksum;

/// The number of a captured commit: 1, 2, 3 …; 0 stands for "none yet", the empty database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Txid(pub u64);

impl Txid {
    /// The empty database, before the first transaction.
    pub const NONE: Self = Self(0);

    /// The txid after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Txid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One history of a database, numbered by the cluster from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lineage(pub u64);

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The writer's fencing token; it grows by one with each claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one exact database state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// The history it belongs to.
    pub lineage: Lineage,
    /// The last transaction it includes.
    pub txid: Txid,
    /// The checksum of the whole database there.
    pub checksum: Checksum,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}/{}/{}", self.lineage, self.txid, self.checksum)
    }
}

/// A page of a database, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageNumber(pub u32);

/// The size of a page: a power of two from 512 to 65536 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize(u32);

/// A number that is no page size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a page size: SQLite's are powers of two from 512 to 65536")]
pub struct InvalidPageSize(pub u32);

impl PageSize {
    /// The page size of `bytes` bytes.
    ///
    /// # Errors
    /// [`InvalidPageSize`] unless it is a power of two from 512 to 65536.
    pub const fn new(bytes: u32) -> Result<Self, InvalidPageSize> {
        if bytes.is_power_of_two() && bytes >= 512 && bytes <= 65536 {
            Ok(Self(bytes))
        } else {
            Err(InvalidPageSize(bytes))
        }
    }

    /// In bytes.
    pub const fn bytes(self) -> u32 {
        self.0
    }

    /// The page that holds byte 2^30, where SQLite keeps its locks: never shipped, never hashed, zeros on restore
    /// (SQLite file format, section 1.7).
    pub const fn lock_page(self) -> PageNumber {
        PageNumber(0x4000_0000 / self.0 + 1)
    }

    /// Where a page begins in the database file.
    pub const fn offset_of(self, page: PageNumber) -> u64 {
        (page.0 as u64 - 1) * self.0 as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_page_holds_byte_two_to_the_thirty() {
        for shift in 9..=16 {
            let size = PageSize::new(1 << shift).unwrap();
            let start = size.offset_of(size.lock_page());
            assert!(start <= 1 << 30 && 1 << 30 < start + u64::from(size.bytes()));
        }
    }

    #[test]
    fn refuses_numbers_that_are_no_page_size() {
        for bytes in [0, 1, 256, 513, 4095, 65537, 131_072] {
            assert_eq!(PageSize::new(bytes), Err(InvalidPageSize(bytes)));
        }
    }
}
