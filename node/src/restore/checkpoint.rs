//! What an interrupted restore leaves beside its temporary file, so that the next one goes on from there.
//!
//! It holds the hash of every page at one proven state. The temporary file may be further, or behind where a power cut
//! took what was not durable: pages that differ are owed, and the restore proves nothing until they are written again.

use std::io;
use std::path::Path;

use bytes::Bytes;
use seawall_host::disk;
use seawall_host::time::UnixMillis;
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{Lineage, PageSize, Position, Txid};

const MAGIC: [u8; 8] = *b"SEAWRST\x01";
/// Magic, lineage, txid, checksum, commit time, page size, page count.
const FIXED_LEN: usize = 8 + 4 * 8 + 2 * 4;
/// The hash of every page that SQLite knows, and the rest.
const MAX_LEN: usize = FIXED_LEN + 8 * u32::MAX as usize + 4;

/// A proven state of a database under construction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) position: Position,
    pub(super) time: UnixMillis,
    pub(super) page_size: PageSize,
    /// The hash of each page from 1 on; 0 for the lock page.
    pub(super) hashes: Vec<u64>,
}

impl Checkpoint {
    fn encode(&self) -> Bytes {
        let Self { position: Position { lineage, txid, checksum }, time, page_size, hashes } = self;
        let mut out = Vec::with_capacity(FIXED_LEN + 8 * hashes.len() + 4);
        out.extend_from_slice(&MAGIC);
        for number in [lineage.0, txid.0, checksum.0, time.0 as u64] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&page_size.bytes().to_le_bytes());
        out.extend_from_slice(&(hashes.len() as u32).to_le_bytes());
        hashes.iter().for_each(|hash| out.extend_from_slice(&hash.to_le_bytes()));
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.into()
    }

    /// `None` unless the bytes are those of a whole checkpoint whose hashes give its checksum.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (checked, crc) = bytes.split_last_chunk()?;
        let rest = checked.strip_prefix(&MAGIC)?;
        if crc32c::crc32c(checked) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (numbers, rest) = rest.split_first_chunk::<32>()?;
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| numbers[at * 8 + i]));
        let (page_size, rest) = rest.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (hashes, []) = rest.as_chunks::<8>() else { return None };
        let checkpoint = Self {
            position: Position { lineage: Lineage(number(0)), txid: Txid(number(1)), checksum: Checksum(number(2)) },
            time: UnixMillis(number(3) as i64),
            page_size: PageSize::new(u32::from_le_bytes(*page_size)).ok()?,
            hashes: hashes.iter().map(|hash| u64::from_le_bytes(*hash)).collect(),
        };
        let sum = checkpoint.hashes.iter().fold(0, |sum, hash| sum ^ hash);
        let sound = hashes.len() == u32::from_le_bytes(*count) as usize
            && sum == checkpoint.position.checksum.0
            && checkpoint.position.txid > Txid::NONE;
        sound.then_some(checkpoint)
    }

    /// Puts it at `path`, whole and durably.
    pub(super) async fn save(&self, path: &Path) -> io::Result<()> {
        disk::replace_file(path, self.encode()).await
    }

    /// What is at `path`; `None` if there is nothing or nothing sound.
    pub(super) async fn load(path: &Path) -> Option<Self> {
        let bytes = disk::read_file(path, MAX_LEN).await.ok()?;
        Self::parse(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn checkpoint(hashes: Vec<u64>, lineage: u64, time: i64) -> Checkpoint {
        let checksum = Checksum(hashes.iter().fold(0, |sum, hash| sum ^ hash));
        Checkpoint {
            position: Position { lineage: Lineage(lineage), txid: Txid(7), checksum },
            time: UnixMillis(time),
            page_size: PageSize::new(4096).unwrap(),
            hashes,
        }
    }

    proptest! {
        #[test]
        fn comes_back_as_it_was(hashes: Vec<u64>, lineage: u64, time: i64) {
            let checkpoint = checkpoint(hashes, lineage, time);
            prop_assert_eq!(Checkpoint::parse(&checkpoint.encode()), Some(checkpoint));
        }

        #[test]
        fn anything_else_is_none(hashes: Vec<u64>, at: prop::sample::Index, bit in 0..8_u32, noise: Vec<u8>) {
            let whole = checkpoint(hashes, 1, 0).encode();
            let mut damaged = whole.to_vec();
            damaged[at.index(whole.len())] ^= 1 << bit;
            prop_assert_eq!(Checkpoint::parse(&damaged), None);
            prop_assert_eq!(Checkpoint::parse(&whole[..at.index(whole.len())]), None);
            prop_assert_eq!(Checkpoint::parse(&noise), None);
        }

        #[test]
        fn hashes_that_do_not_give_the_checksum_are_no_proof(hashes: Vec<u64>, other in 1..u64::MAX) {
            let mut lying = checkpoint(hashes, 1, 0);
            lying.position.checksum.0 ^= other;
            prop_assert_eq!(Checkpoint::parse(&lying.encode()), None);
        }
    }
}
