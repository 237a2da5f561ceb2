//! How batches and records are laid out in a piece.
//!
//! A piece is a run of batches. A batch is written and synced in one turn and counts as a whole or not at all. All
//! numbers are little-endian:
//!
//! ```text
//! batch header, 48 bytes          record, 44 bytes + meta + payload
//!   8 magic "SWLOGBAT"              1 kind
//!   8 salt of the piece             1 flags: 1 if it has a log id
//!   8 number of the piece           2 zero
//!   8 offset of this header         4 length of meta
//!   8 length of the records         4 length of payload
//!   4 number of records             4 CRC32C of payload
//!   4 CRC32C of the above          24 log id: term, node, index
//!                                   4 CRC32C of salt, offset of the record, the above, meta
//! ```
//!
//! A batch is only started once all before it is synced. So a valid batch header says that everything below its
//! offset had reached the disk: what is damaged there is rot, not a torn write.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use seawall_host::probe::mutant;

use super::entry::LogId;

pub(super) const BATCH_HEADER: usize = 48;
pub(super) const RECORD_HEADER: usize = 44;
pub(super) const MAGIC: [u8; 8] = *b"SWLOGBAT";

/// Metas are small: a longer one is refused when written and taken for damage when read.
pub(super) const MAX_META: usize = 1 << 20;

/// What is said of a payload that is not what was written.
pub(super) const PAYLOAD_DAMAGED: &str = "the checksum of a payload is wrong";

const HAS_ID: u8 = 1;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Opens a piece. Meta: [`Marks`](super::marks::Marks).
    Opening = 1,
    /// An entry.
    Entry = 2,
    /// A vote. Meta: the vote.
    Vote = 3,
    /// The log id is committed.
    Committed = 4,
    /// Entries after the log id (all, if it has none) are gone.
    Truncate = 5,
    /// Raft no longer needs entries up to the log id.
    Purge = 6,
    /// The cluster this node belongs to. Meta: its uuid.
    Cluster = 7,
    /// A program opened the log file.
    Opened = 8,
    /// A program closed the log file: nothing is missing.
    Closed = 9,
    /// The index of the piece. Meta and payload: [`PieceIndex`](super::index::PieceIndex).
    Index = 10,
    /// Behind the index of a sealed piece. Meta: the marks at its end, as the next piece opens with.
    Closing = 11,
    /// The last record of a sealed piece. Meta: the offsets of the index and the closing marks, 8 bytes each.
    Seal = 12,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        use Kind::*;
        [Opening, Entry, Vote, Committed, Truncate, Purge, Cluster, Opened, Closed, Index, Closing, Seal]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) id: Option<LogId>,
    pub(super) meta: Bytes,
    pub(super) payload: Bytes,
}

impl Record {
    pub(super) fn new(kind: Kind, id: Option<LogId>, meta: Bytes) -> Self {
        Self { kind, id, meta, payload: Bytes::new() }
    }
}

/// A record without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RecordHead {
    pub(super) kind: Kind,
    pub(super) id: Option<LogId>,
    pub(super) meta: Bytes,
    pub(super) payload: PayloadPlace,
}

/// Where a payload lies in its piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PayloadPlace {
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) crc: u32,
}

impl PayloadPlace {
    pub(super) fn end(&self) -> u64 {
        self.offset + u64::from(self.len)
    }
}

/// What opens a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub(super) salt: u64,
    pub(super) piece: u64,
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) records: u32,
}

impl BatchHeader {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(BATCH_HEADER);
        out.put_slice(&MAGIC);
        out.put_u64_le(self.salt);
        out.put_u64_le(self.piece);
        out.put_u64_le(self.offset);
        out.put_u64_le(self.length);
        out.put_u32_le(self.records);
        let crc = crc32c::crc32c(&out);
        out.put_u32_le(crc);
        out.freeze()
    }

    /// The header at the start of `bytes`, if it is valid.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (fields, mut crc) = bytes.get(..BATCH_HEADER)?.split_at(BATCH_HEADER - 4);
        if fields[..8] != MAGIC || crc32c::crc32c(fields) != crc.get_u32_le() {
            return None;
        }
        let mut fields = &fields[8..];
        Some(Self {
            salt: fields.get_u64_le(),
            piece: fields.get_u64_le(),
            offset: fields.get_u64_le(),
            length: fields.get_u64_le(),
            records: fields.get_u32_le(),
        })
    }
}

/// Puts a batch together.
pub(super) struct BatchBuilder {
    salt: u64,
    piece: u64,
    offset: u64,
    length: u64,
    records: u32,
    parts: Vec<Bytes>,
}

impl BatchBuilder {
    /// A batch that will lie at `offset` of a piece.
    pub(super) fn new(salt: u64, piece: u64, offset: u64) -> Self {
        Self { salt, piece, offset, length: 0, records: 0, parts: vec![Bytes::new()] }
    }

    /// Adds a record; answers where it and its payload will lie.
    pub(super) fn push(&mut self, record: &Record) -> (u64, PayloadPlace) {
        let offset = self.offset + BATCH_HEADER as u64 + self.length;
        let payload_crc = crc32c::crc32c(&record.payload);
        let mut head = BytesMut::with_capacity(RECORD_HEADER + record.meta.len());
        let id = record.id.unwrap_or(LogId { term: 0, node: 0, index: 0 });
        head.put_u8(record.kind as u8);
        head.put_u8(if record.id.is_some() { HAS_ID } else { 0 });
        head.put_u16_le(0);
        head.put_u32_le(record.meta.len() as u32);
        head.put_u32_le(record.payload.len() as u32);
        head.put_u32_le(payload_crc);
        put_log_id(&mut head, id);
        let crc = head_crc(self.salt, offset, &head, &record.meta);
        head.put_u32_le(crc);
        head.put_slice(&record.meta);
        let payload_offset = offset + head.len() as u64;
        self.length += head.len() as u64 + record.payload.len() as u64;
        self.records += 1;
        self.parts.push(head.freeze());
        if !record.payload.is_empty() {
            self.parts.push(record.payload.clone());
        }
        let place = PayloadPlace { offset: payload_offset, len: record.payload.len() as u32, crc: payload_crc };
        (offset, place)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Bytes of the whole batch so far.
    pub(super) fn len(&self) -> u64 {
        BATCH_HEADER as u64 + self.length
    }

    /// The bytes to write.
    pub(super) fn finish(mut self) -> Vec<Bytes> {
        let header = BatchHeader {
            salt: self.salt,
            piece: self.piece,
            offset: self.offset,
            length: self.length,
            records: self.records,
        };
        self.parts[0] = header.encode();
        self.parts
    }
}

/// Decodes the record at the start of `bytes`, which lies at `offset` of its piece. Checks all but the payload,
/// which need not be there.
pub(super) fn decode_head(bytes: &Bytes, salt: u64, offset: u64) -> Result<RecordHead, &'static str> {
    if bytes.len() < RECORD_HEADER {
        return Err("a record is cut off");
    }
    let mut fields = &bytes[..RECORD_HEADER];
    let kind = fields.get_u8();
    let flags = fields.get_u8();
    let reserved = fields.get_u16_le();
    let meta_len = fields.get_u32_le() as usize;
    let len = fields.get_u32_le();
    let crc = fields.get_u32_le();
    let id = get_log_id(&mut fields);
    let head_crc_found = fields.get_u32_le();
    if meta_len > MAX_META || bytes.len() - RECORD_HEADER < meta_len {
        return Err("a record is cut off or its length is damaged");
    }
    let meta = bytes.slice(RECORD_HEADER..RECORD_HEADER + meta_len);
    if head_crc(salt, offset, &bytes[..RECORD_HEADER - 4], &meta) != head_crc_found {
        return Err("the checksum of a record is wrong");
    }
    let kind = Kind::from_byte(kind).ok_or("a record is of an unknown kind")?;
    if flags & !HAS_ID != 0 || reserved != 0 {
        return Err("a record has unknown flags");
    }
    let id = (flags & HAS_ID != 0).then_some(id);
    let payload = PayloadPlace { offset: offset + (RECORD_HEADER + meta_len) as u64, len, crc };
    Ok(RecordHead { kind, id, meta, payload })
}

/// The records of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BatchRecords {
    pub(super) heads: Vec<RecordHead>,
    /// How many entries' payloads are not what was written. Everything else is.
    pub(super) damaged: u32,
}

/// Decodes the records of a batch, checking everything. `bytes` is what follows the batch's header.
pub(super) fn decode_records(header: &BatchHeader, bytes: &Bytes) -> Result<BatchRecords, &'static str> {
    let start = header.offset + BATCH_HEADER as u64;
    let mut records = Vec::new();
    let mut damaged = 0;
    let mut at = 0;
    while at < bytes.len() {
        let head = decode_head(&bytes.slice(at..), header.salt, start + at as u64)?;
        let payload_at = at + RECORD_HEADER + head.meta.len();
        let end = payload_at.checked_add(head.payload.len as usize).filter(|end| *end <= bytes.len());
        let end = end.ok_or("a payload is cut off")?;
        if crc32c::crc32c(&bytes[payload_at..end]) != head.payload.crc && !mutant("log-crc-ignored") {
            if head.kind != Kind::Entry {
                return Err(PAYLOAD_DAMAGED);
            }
            damaged += 1;
        }
        records.push(head);
        at = end;
    }
    if records.len() != header.records as usize {
        return Err("a batch has another number of records than it says");
    }
    Ok(BatchRecords { heads: records, damaged })
}

fn head_crc(salt: u64, offset: u64, header: &[u8], meta: &[u8]) -> u32 {
    let mut crc = crc32c::crc32c(&salt.to_le_bytes());
    for part in [&offset.to_le_bytes()[..], header, meta] {
        crc = crc32c::crc32c_append(crc, part);
    }
    crc
}

pub(super) fn put_log_id(out: &mut BytesMut, id: LogId) {
    out.put_u64_le(id.term);
    out.put_u64_le(id.node);
    out.put_u64_le(id.index);
}

/// Reads the 24 bytes of a log id; the caller has checked that they are there.
pub(super) fn get_log_id(bytes: &mut impl Buf) -> LogId {
    LogId { term: bytes.get_u64_le(), node: bytes.get_u64_le(), index: bytes.get_u64_le() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds() -> impl Strategy<Value = Kind> {
        (1_u8..=12).prop_map(|byte| Kind::from_byte(byte).unwrap())
    }

    fn records() -> impl Strategy<Value = Vec<Record>> {
        let bytes = |max| prop::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from);
        let id = prop::option::of(any::<(u64, u64, u64)>().prop_map(|(term, node, index)| LogId { term, node, index }));
        let record = (kinds(), id, bytes(60), bytes(200));
        let record = record.prop_map(|(kind, id, meta, payload)| Record { kind, id, meta, payload });
        prop::collection::vec(record, 0..6)
    }

    fn encode(salt: u64, piece: u64, offset: u64, records: &[Record]) -> Bytes {
        let mut builder = BatchBuilder::new(salt, piece, offset);
        for record in records {
            builder.push(record);
        }
        let length = builder.len();
        let bytes = Bytes::from(builder.finish().concat());
        assert_eq!(bytes.len() as u64, length);
        bytes
    }

    fn decode(bytes: &Bytes) -> Option<Vec<Record>> {
        let header = BatchHeader::decode(bytes)?;
        let rest = bytes.slice(BATCH_HEADER..);
        if header.length != rest.len() as u64 {
            return None;
        }
        let records = decode_records(&header, &rest).ok().filter(|records| records.damaged == 0)?.heads.into_iter();
        let record = |head: RecordHead| {
            let at = (head.payload.offset - header.offset) as usize;
            let payload = bytes.slice(at..at + head.payload.len as usize);
            Record { kind: head.kind, id: head.id, meta: head.meta, payload }
        };
        Some(records.map(record).collect())
    }

    proptest! {
        #[test]
        fn a_batch_reads_back_as_it_was_written(salt: u64, piece: u64, offset in 0_u64..1 << 40, records in records()) {
            prop_assert_eq!(decode(&encode(salt, piece, offset, &records)), Some(records));
        }

        #[test]
        fn a_batch_with_one_changed_bit_is_not_valid(salt: u64, records in records(), at: prop::sample::Index, bit in 0..8) {
            let mut bytes = encode(salt, 1, 0, &records).to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert_eq!(decode(&bytes.into()), None);
        }

        #[test]
        fn any_bytes_decode_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), salt: u64) {
            let bytes = Bytes::from(bytes);
            let _ = decode(&bytes);
            let _ = decode_head(&bytes, salt, 0);
            let header = BatchHeader { salt, piece: 1, offset: 0, length: bytes.len() as u64, records: 1 };
            let _ = decode_records(&header, &bytes);
        }
    }

    #[test]
    fn a_record_is_not_valid_at_another_place_or_in_another_piece() {
        let bytes = encode(7, 1, 0, &[Record::new(Kind::Opened, None, Bytes::new())]).slice(BATCH_HEADER..);
        assert!(decode_head(&bytes, 7, BATCH_HEADER as u64).is_ok());
        assert!(decode_head(&bytes, 8, BATCH_HEADER as u64).is_err());
        assert!(decode_head(&bytes, 7, BATCH_HEADER as u64 + 1).is_err());
    }
}
