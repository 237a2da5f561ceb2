//! The coordinates of a read transaction.

/// What a read transaction sees: the last frame, the size and the checksum chain of the WAL at that moment.
///
/// `sqlite3_snapshot` is 48 opaque bytes to its users; they are a copy of the `WalIndexHdr` of `wal.c`, whose layout is
/// fixed by the WAL-index format (WAL-mode file format, section 2.1): `mxFrame` at byte 16, `nPage` at 20,
/// `aFrameCksum` at 24 (all in the machine's byte order), `aSalt` at 32 (as in the WAL file, big-endian).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The last committed frame, from 1; 0 if the WAL has none.
    pub max_frame: u32,
    /// The size of the database in pages.
    pub page_count: u32,
    /// The running checksum at `max_frame`.
    pub frame_checksum: [u32; 2],
    /// Both salts, as the eight bytes that stand in the WAL's header.
    pub salts: [u8; 8],
}

impl Snapshot {
    /// Length of `sqlite3_snapshot.hidden`.
    pub(super) const BYTES: usize = 48;

    /// Reads the fields out of SQLite's bytes.
    pub(super) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut salts = [0; 8];
        salts.copy_from_slice(&bytes[32..40]);
        Self { max_frame: word(16), page_count: word(20), frame_checksum: [word(24), word(28)], salts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_each_field_from_its_place() {
        let mut bytes = [0; Snapshot::BYTES];
        for (at, value) in [(16, 7_u32), (20, 9), (24, 11), (28, 13)] {
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        bytes[32..40].copy_from_slice(b"saltSALT");
        let expected = Snapshot { max_frame: 7, page_count: 9, frame_checksum: [11, 13], salts: *b"saltSALT" };
        assert_eq!(Snapshot::from_bytes(&bytes), expected);
    }
}
