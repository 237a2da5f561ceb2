//! Checksums of whole databases.

use std::fmt;
use std::ops::{BitXor, BitXorAssign};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::position::PageNumber;

/// XOR over all pages of a database, the lock page left out, of a 64-bit hash of each; 0 for the empty database.
///
/// Because it is a XOR, the checksum after a transaction is the one before, XORed with the old and the new hashes of
/// the pages that changed: keeping it up to date costs only what was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Checksum(pub u64);

impl Checksum {
    /// The checksum of the empty database.
    pub const EMPTY: Self = Self(0);

    /// The hash of one page: XXH3 (64 bits) of its bytes, seeded with its number.
    pub fn of_page(page: PageNumber, bytes: &[u8]) -> Self {
        Self(xxh3_64_with_seed(bytes, u64::from(page.0)))
    }
}

impl BitXor for Checksum {
    type Output = Self;

    fn bitxor(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }
}

impl BitXorAssign for Checksum {
    fn bitxor_assign(&mut self, other: Self) {
        self.0 ^= other.0;
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
