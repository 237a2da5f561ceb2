//! Headers of WAL files and of their frames.

use seawall_proto::position::{PageNumber, PageSize};

use super::checksum::{ByteOrder, RunningChecksum};

/// Bytes of a WAL's header.
pub const HEADER_BYTES: usize = 32;
/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 24;

const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;

/// The header of a WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalHeader {
    /// The size of the pages in its frames.
    pub page_size: PageSize,
    /// Both salts, as they stand in the file.
    pub salts: [u8; 8],
    /// The checksum that the first frame continues.
    pub checksum: RunningChecksum,
}

/// Why some bytes are no WAL header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// Shorter than a header.
    #[error("the WAL is shorter than its header")]
    Short,
    /// Not a WAL.
    #[error("the WAL begins with 0x{0:08x}, which is not a WAL's magic number")]
    Magic(u32),
    /// A format that SQLite has not written yet.
    #[error("the WAL has format version {0}, only {VERSION} is known")]
    Version(u32),
    /// No page size.
    #[error("the WAL's header names {0} bytes as its page size")]
    PageSize(u32),
    /// Damaged.
    #[error("the WAL's header does not match its checksum")]
    Checksum,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |chunk| u32::from_be_bytes(*chunk))
}

impl WalHeader {
    /// Reads a header.
    ///
    /// # Errors
    /// [`InvalidHeader`] says which rule it breaks.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidHeader> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(InvalidHeader::Short)?;
        let order = match word(bytes, 0) {
            MAGIC => ByteOrder::Little,
            magic if magic == MAGIC + 1 => ByteOrder::Big,
            magic => return Err(InvalidHeader::Magic(magic)),
        };
        let version = word(bytes, 4);
        if version != VERSION {
            return Err(InvalidHeader::Version(version));
        }
        let mut checksum = RunningChecksum { order, sums: [0, 0] };
        checksum.update(&bytes[..24]);
        if checksum.sums != [word(bytes, 24), word(bytes, 28)] {
            return Err(InvalidHeader::Checksum);
        }
        let page_size = word(bytes, 8);
        let page_size = PageSize::new(page_size).map_err(|_| InvalidHeader::PageSize(page_size))?;
        let mut salts = [0; 8];
        salts.copy_from_slice(&bytes[16..24]);
        Ok(Self { page_size, salts, checksum })
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The page in the frame.
    pub page: PageNumber,
    /// For the last frame of a transaction, the database's size in pages after it; otherwise 0.
    pub commit_size: u32,
    /// Must be the WAL's.
    pub salts: [u8; 8],
    /// The running checksum up to and including this frame.
    pub sums: [u32; 2],
}

impl FrameHeader {
    /// Reads a frame's header; any bytes are one.
    pub fn parse(bytes: &[u8; FRAME_HEADER_BYTES]) -> Self {
        let mut salts = [0; 8];
        salts.copy_from_slice(&bytes[8..16]);
        Self {
            page: PageNumber(word(bytes, 0)),
            commit_size: word(bytes, 4),
            salts,
            sums: [word(bytes, 16), word(bytes, 20)],
        }
    }
}

/// Where frame `number` (from 1) begins in the file.
pub fn frame_offset(page_size: PageSize, number: u32) -> u64 {
    let frame = FRAME_HEADER_BYTES as u64 + u64::from(page_size.bytes());
    HEADER_BYTES as u64 + u64::from(number.saturating_sub(1)) * frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(order: ByteOrder, page_size: u32, salts: [u8; 8]) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&(MAGIC + u32::from(order == ByteOrder::Big)).to_be_bytes());
        bytes[4..8].copy_from_slice(&VERSION.to_be_bytes());
        bytes[8..12].copy_from_slice(&page_size.to_be_bytes());
        bytes[16..24].copy_from_slice(&salts);
        let mut sum = RunningChecksum { order, sums: [0, 0] };
        sum.update(&bytes[..24]);
        bytes[24..28].copy_from_slice(&sum.sums[0].to_be_bytes());
        bytes[28..].copy_from_slice(&sum.sums[1].to_be_bytes());
        bytes
    }

    proptest! {
        #[test]
        fn headers_read_back(shift in 9_u32..=16, salts: [u8; 8], big: bool) {
            let order = if big { ByteOrder::Big } else { ByteOrder::Little };
            let parsed = WalHeader::parse(&header(order, 1 << shift, salts)).unwrap();
            prop_assert_eq!(parsed.page_size.bytes(), 1 << shift);
            prop_assert_eq!(parsed.salts, salts);
            prop_assert_eq!(parsed.checksum.order, order);
        }

        #[test]
        fn any_bytes_parse_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = WalHeader::parse(&bytes);
        }

        #[test]
        fn a_flipped_bit_is_noticed(salts: [u8; 8], bit in 0_usize..256) {
            let mut bytes = header(ByteOrder::Little, 4096, salts);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(WalHeader::parse(&bytes).is_err());
        }

        #[test]
        fn frames_read_back(page: u32, size: u32, salts: [u8; 8], sums: [u32; 2]) {
            let mut bytes = [0; FRAME_HEADER_BYTES];
            bytes[..4].copy_from_slice(&page.to_be_bytes());
            bytes[4..8].copy_from_slice(&size.to_be_bytes());
            bytes[8..16].copy_from_slice(&salts);
            bytes[16..20].copy_from_slice(&sums[0].to_be_bytes());
            bytes[20..].copy_from_slice(&sums[1].to_be_bytes());
            let expected = FrameHeader { page: PageNumber(page), commit_size: size, salts, sums };
            prop_assert_eq!(FrameHeader::parse(&bytes), expected);
        }
    }

    #[test]
    fn frames_lie_one_behind_the_other() {
        let size = PageSize::new(4096).unwrap();
        assert_eq!(frame_offset(size, 1), 32);
        assert_eq!(frame_offset(size, 3), 32 + 2 * 4120);
        assert_eq!(frame_offset(PageSize::new(65536).unwrap(), u32::MAX), 32 + 65560 * (u64::from(u32::MAX) - 1));
    }
}
