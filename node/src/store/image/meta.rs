//! What an image's files hold, in a small file of its own that is replaced atomically.
//!
//! Little-endian: magic `SWIMAGE1`, generation u64, lineage u64, txid u64, checksum u64, reach u64, commit time i64,
//! page size u32 (0: none yet), page count u32, length of the quarantine's reason u16 (0: not quarantined), that reason
//! in UTF-8, CRC32C u32 of all before.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{Lineage, PageSize, Position, Txid};

const MAGIC: &[u8; 8] = b"SWIMAGE1";
const FIXED_BYTES: usize = 8 * 7 + 4 * 2 + 2;
const MAX_REASON_BYTES: usize = 1000;

/// The largest `meta` file.
pub(super) const MAX_META_BYTES: usize = FIXED_BYTES + MAX_REASON_BYTES + 4;

/// The state that an image's files are known to hold durably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    /// Which files: `image.<generation>` and `vector.<generation>`.
    pub(super) generation: u64,
    /// Every transaction up to here is durably in the files.
    pub(super) position: Position,
    /// Transactions up to here may be in the files too, in part. Not below the position's txid.
    pub(super) reach: Txid,
    pub(super) commit_time_ms: i64,
    pub(super) page_size: Option<PageSize>,
    pub(super) page_count: u32,
    pub(super) quarantined: Option<String>,
}

impl Meta {
    /// The empty database.
    pub(super) fn empty(lineage: Lineage) -> Self {
        Self {
            generation: 0,
            position: Position { lineage, ..Position::default() },
            reach: Txid::NONE,
            commit_time_ms: 0,
            page_size: None,
            page_count: 0,
            quarantined: None,
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut reason = self.quarantined.as_deref().unwrap_or_default();
        while reason.len() > MAX_REASON_BYTES || !reason.is_char_boundary(reason.len()) {
            reason = &reason[..reason.floor_char_boundary(MAX_REASON_BYTES)];
        }
        let mut out = BytesMut::with_capacity(FIXED_BYTES + reason.len() + 12);
        out.put_slice(MAGIC);
        out.put_u64_le(self.generation);
        out.put_u64_le(self.position.lineage.0);
        out.put_u64_le(self.position.txid.0);
        out.put_u64_le(self.position.checksum.0);
        out.put_u64_le(self.reach.0);
        out.put_i64_le(self.commit_time_ms);
        out.put_u32_le(self.page_size.map_or(0, PageSize::bytes));
        out.put_u32_le(self.page_count);
        out.put_u16_le(reason.len() as u16);
        out.put_slice(reason.as_bytes());
        let crc = crc32c::crc32c(&out);
        out.put_u32_le(crc);
        out.freeze()
    }

    /// Reads what [`Meta::encode`] wrote; in words what is wrong otherwise.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() < FIXED_BYTES + 4 || !bytes.starts_with(MAGIC) {
            return Err("the meta file is cut short or is none");
        }
        let (body, mut crc) = bytes.split_at(bytes.len() - 4);
        if crc32c::crc32c(body) != crc.get_u32_le() {
            return Err("the meta file is damaged (CRC32C)");
        }
        let mut body = &body[MAGIC.len()..];
        let generation = body.get_u64_le();
        let lineage = Lineage(body.get_u64_le());
        let txid = Txid(body.get_u64_le());
        let checksum = Checksum(body.get_u64_le());
        let reach = Txid(body.get_u64_le());
        let commit_time_ms = body.get_i64_le();
        let page_size = match body.get_u32_le() {
            0 => None,
            size => Some(PageSize::new(size).map_err(|_| "the meta file names an impossible page size")?),
        };
        let page_count = body.get_u32_le();
        let reason_len = usize::from(body.get_u16_le());
        if body.len() != reason_len || reach < txid {
            return Err("the meta file contradicts itself");
        }
        let reason = std::str::from_utf8(body).map_err(|_| "the meta file's reason is no text")?;
        Ok(Self {
            generation,
            position: Position { lineage, txid, checksum },
            reach,
            commit_time_ms,
            page_size,
            page_count,
            quarantined: (!reason.is_empty()).then(|| reason.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn meta() -> impl Strategy<Value = Meta> {
        let numbers = (any::<[u64; 4]>(), 0..1000_u64, any::<i64>(), any::<u32>());
        (numbers, proptest::option::of(9..=16_u32), proptest::option::of("[a-zü]{1,40}")).prop_map(
            |(([generation, lineage, txid, checksum], ahead, commit_time_ms, page_count), shift, quarantined)| Meta {
                generation,
                position: Position { lineage: Lineage(lineage), txid: Txid(txid), checksum: Checksum(checksum) },
                reach: Txid(txid.saturating_add(ahead)),
                commit_time_ms,
                page_size: shift.map(|shift| PageSize::new(1 << shift).unwrap()),
                page_count,
                quarantined,
            },
        )
    }

    proptest! {
        #[test]
        fn reads_back_and_refuses_every_flipped_bit(meta in meta(), flip: proptest::sample::Index) {
            let bytes = meta.encode();
            prop_assert_eq!(Meta::decode(&bytes), Ok(meta));
            let mut damaged = bytes.to_vec();
            let bit = flip.index(damaged.len() * 8);
            damaged[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Meta::decode(&damaged).is_err());
            prop_assert!(Meta::decode(&bytes[..bit / 8]).is_err());
        }
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let meta = Meta { quarantined: Some("ü".repeat(600)), ..Meta::empty(Lineage(1)) };
        let bytes = meta.encode();
        assert!(bytes.len() <= MAX_META_BYTES);
        assert_eq!(Meta::decode(&bytes).unwrap().quarantined, Some("ü".repeat(500)));
    }
}
