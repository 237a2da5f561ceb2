//! What a piece holds: kept in memory while it is written, and the last thing written into it when it is sealed.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::entry::LogId;
use super::record::{Kind, PayloadPlace, Record, get_log_id, put_log_id};

/// Bytes of a row: term, node, offset of the payload, its length and CRC32C, length of the meta, and the CRC32C of
/// salt, index and all these.
pub(super) const ROW_BYTES: usize = 40;
/// Bytes of an index record's meta.
pub(super) const INDEX_META: usize = 8 + 4 + 1 + 24;

const TRUNCATES: u8 = 1;
const TRUNCATES_TO_ID: u8 = 2;

/// An entry that lies in a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: LogId,
    pub(super) meta: Bytes,
    pub(super) payload: PayloadPlace,
}

/// What a piece does to the log: it first cuts what older pieces hold, then adds its rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PieceIndex {
    /// Entries of older pieces after this id are gone.
    pub(super) truncates: Option<Option<LogId>>,
    /// Consecutive.
    rows: VecDeque<Row>,
    meta_bytes: usize,
}

impl PieceIndex {
    pub(super) fn first(&self) -> Option<u64> {
        self.rows.front().map(|row| row.id.index)
    }

    pub(super) fn last(&self) -> Option<LogId> {
        self.rows.back().map(|row| row.id)
    }

    /// Its first and last index.
    pub(super) fn range(&self) -> Option<(u64, u64)> {
        self.first().zip(self.last().map(|id| id.index))
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter()
    }

    pub(super) fn get(&self, index: u64) -> Option<&Row> {
        let at = index.checked_sub(self.first()?)?;
        self.rows.get(usize::try_from(at).ok()?)
    }

    /// Adds a row, which continues the last; false if it does not.
    #[must_use]
    pub(super) fn push(&mut self, row: Row) -> bool {
        if self.last().is_some_and(|last| last.index + 1 != row.id.index) {
            return false;
        }
        self.meta_bytes += row.meta.len();
        self.rows.push_back(row);
        true
    }

    pub(super) fn truncate_after(&mut self, id: Option<LogId>) {
        let keep_below = id.map_or(0, |id| id.index.saturating_add(1));
        while let Some(row) = self.rows.back().filter(|row| row.id.index >= keep_below) {
            self.meta_bytes -= row.meta.len();
            self.rows.pop_back();
        }
        if self.rows.is_empty() {
            self.truncates = Some(id);
        }
    }

    /// Bytes of its encoding, about.
    pub(super) fn encoded_len(&self) -> u64 {
        (self.rows.len() * ROW_BYTES + self.meta_bytes) as u64
    }

    /// The record that seals the piece.
    pub(super) fn encode(&self, salt: u64) -> Record {
        let mut meta = BytesMut::with_capacity(INDEX_META);
        meta.put_u64_le(self.first().unwrap_or(0));
        meta.put_u32_le(self.rows.len() as u32);
        let to = self.truncates.flatten();
        let to_id = if to.is_some() { TRUNCATES_TO_ID } else { 0 };
        meta.put_u8(if self.truncates.is_some() { TRUNCATES | to_id } else { 0 });
        put_log_id(&mut meta, to.unwrap_or(LogId { term: 0, node: 0, index: 0 }));
        let mut payload = BytesMut::with_capacity(self.rows.len() * ROW_BYTES + self.meta_bytes);
        for row in &self.rows {
            let start = payload.len();
            payload.put_u64_le(row.id.term);
            payload.put_u64_le(row.id.node);
            payload.put_u64_le(row.payload.offset);
            payload.put_u32_le(row.payload.len);
            payload.put_u32_le(row.payload.crc);
            payload.put_u32_le(row.meta.len() as u32);
            let crc = row_crc(salt, row.id.index, &payload[start..]);
            payload.put_u32_le(crc);
        }
        for row in &self.rows {
            payload.put_slice(&row.meta);
        }
        Record { kind: Kind::Index, id: None, meta: meta.freeze(), payload: payload.freeze() }
    }

    /// The whole of a sealed piece's index, from its record's payload.
    pub(super) fn decode(summary: &IndexSummary, salt: u64, payload: &Bytes) -> Option<Self> {
        let mut metas = payload.slice(summary.rows_len()?.min(payload.len())..);
        let mut index = Self { truncates: summary.truncates, ..Self::default() };
        for at in 0..summary.count {
            let start = at as usize * ROW_BYTES;
            let bytes = payload.get(start..start + ROW_BYTES)?;
            let (id, payload, meta_len) = decode_row(bytes, salt, summary.first.checked_add(u64::from(at))?)?;
            if meta_len as usize > metas.len() {
                return None;
            }
            // A copy, so that one entry does not keep the whole index in memory.
            let meta = Bytes::copy_from_slice(&metas.split_to(meta_len as usize));
            if !index.push(Row { id, meta, payload }) {
                return None;
            }
        }
        metas.is_empty().then_some(index)
    }
}

/// What the meta of an index record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexSummary {
    pub(super) first: u64,
    pub(super) count: u32,
    pub(super) truncates: Option<Option<LogId>>,
}

impl IndexSummary {
    pub(super) fn decode(mut meta: Bytes) -> Option<Self> {
        if meta.len() != INDEX_META {
            return None;
        }
        let first = meta.get_u64_le();
        let count = meta.get_u32_le();
        let flags = meta.get_u8();
        let id = get_log_id(&mut meta);
        first.checked_add(u64::from(count))?;
        let truncates = match flags {
            0 => None,
            TRUNCATES => Some(None),
            flags if flags == TRUNCATES | TRUNCATES_TO_ID => Some(Some(id)),
            _ => return None,
        };
        Some(Self { first, count, truncates })
    }

    /// Bytes of all rows.
    fn rows_len(&self) -> Option<usize> {
        (self.count as usize).checked_mul(ROW_BYTES)
    }

    /// The last index, if there is any.
    pub(super) fn last(&self) -> Option<u64> {
        (self.count > 0).then(|| self.first + u64::from(self.count) - 1)
    }
}

/// Decodes one row: the id, where its payload lies, the length of its meta.
pub(super) fn decode_row(bytes: &[u8], salt: u64, index: u64) -> Option<(LogId, PayloadPlace, u32)> {
    let (mut fields, mut crc) = bytes.get(..ROW_BYTES)?.split_at(ROW_BYTES - 4);
    if row_crc(salt, index, fields) != crc.get_u32_le() {
        return None;
    }
    let id = LogId { term: fields.get_u64_le(), node: fields.get_u64_le(), index };
    let payload = PayloadPlace { offset: fields.get_u64_le(), len: fields.get_u32_le(), crc: fields.get_u32_le() };
    Some((id, payload, fields.get_u32_le()))
}

fn row_crc(salt: u64, index: u64, fields: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &index.to_le_bytes());
    crc32c::crc32c_append(crc, fields)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn index() -> impl Strategy<Value = PieceIndex> {
        let row = (any::<[u64; 3]>(), any::<[u32; 2]>(), prop::collection::vec(any::<u8>(), 0..30));
        let truncates = prop::option::of(prop::option::of(any::<[u64; 3]>()));
        (0..1_u64 << 40, prop::collection::vec(row, 0..8), truncates).prop_map(|(first, rows, truncates)| {
            let truncates = truncates.map(|to| to.map(|[term, node, index]| LogId { term, node, index }));
            let mut index = PieceIndex { truncates, ..PieceIndex::default() };
            for (at, ([term, node, offset], [len, crc], meta)) in (first..).zip(rows) {
                let id = LogId { term, node, index: at };
                assert!(index.push(Row { id, meta: meta.into(), payload: PayloadPlace { offset, len, crc } }));
            }
            index
        })
    }

    proptest! {
        #[test]
        fn an_index_reads_back_as_it_was_written(index in index(), salt: u64) {
            let record = index.encode(salt);
            prop_assert_eq!(record.payload.len() as u64, index.encoded_len());
            let summary = IndexSummary::decode(record.meta).unwrap();
            prop_assert_eq!(summary.last(), index.last().map(|id| id.index));
            for (at, row) in index.rows().enumerate() {
                let found = decode_row(&record.payload[at * ROW_BYTES..], salt, row.id.index);
                prop_assert_eq!(found, Some((row.id, row.payload, row.meta.len() as u32)));
            }
            prop_assert_eq!(PieceIndex::decode(&summary, salt, &record.payload), Some(index));
        }

        #[test]
        fn any_bytes_decode_without_a_panic(count: u32, bytes in prop::collection::vec(any::<u8>(), 0..200), salt: u64) {
            let _ = IndexSummary::decode(Bytes::copy_from_slice(&bytes[..bytes.len().min(INDEX_META)]));
            let summary = IndexSummary { first: 3, count, truncates: None };
            let _ = PieceIndex::decode(&summary, salt, &bytes.into());
        }
    }

    fn row(index: u64) -> Row {
        let payload = PayloadPlace { offset: 0, len: 0, crc: 0 };
        Row { id: LogId { term: 1, node: 1, index }, meta: Bytes::new(), payload }
    }

    #[test]
    fn a_truncation_reaches_older_pieces_only_if_nothing_is_left_here() {
        let mut index = PieceIndex::default();
        assert!(index.push(row(5)) && index.push(row(6)) && !index.push(row(8)));
        index.truncate_after(Some(row(5).id));
        assert_eq!((index.truncates, index.last()), (None, Some(row(5).id)));
        index.truncate_after(Some(row(4).id));
        assert_eq!((index.truncates, index.last()), (Some(Some(row(4).id)), None));
        assert!(index.push(row(5)));
        assert_eq!(index.get(5), Some(&row(5)));
        assert_eq!((index.get(4), index.get(6)), (None, None));
    }
}
