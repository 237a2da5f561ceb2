//! Telling whether two byte strings are equal without keeping either.

use xxhash_rust::xxh3::Xxh3Default;

/// Length and XXH3 (128 bits) of a byte string that comes in pieces.
#[derive(Default)]
pub(super) struct Fingerprint {
    len: u64,
    hash: Xxh3Default,
}

impl Fingerprint {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        self.hash.update(bytes);
    }

    /// Bytes so far.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn matches(&self, other: &Self) -> bool {
        self.len == other.len && self.hash.digest128() == other.hash.digest128()
    }
}
