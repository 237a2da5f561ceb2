//! Reading segments.

use bytes::Bytes;

use super::byte_queue::ByteQueue;
use super::error::{EncodeError, SegmentError};
use super::fingerprint::Fingerprint;
use super::footer::SegmentFooter;
use super::frame::{self, FrameLengths};
use super::header::SegmentHeader;
use super::ledger::Ledger;
use super::page_index::PageIndexWriter;
use super::record::{Record, Records};
use super::section::{self, SectionKind};
use super::summary::SegmentSummary;
use super::transaction::Transaction;
use super::transaction_table::TransactionTableWriter;
use crate::position::{PageNumber, Txid};

/// What a decoder found next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SegmentEvent {
    /// The header: always the first event.
    Header(SegmentHeader),
    /// A page of the open transaction.
    Page {
        /// The transaction.
        txid: Txid,
        /// The page's number: at most the page count that the transaction's commit will state.
        page: PageNumber,
        /// Its bytes: a slice of a whole frame, which it keeps in memory. Copy it to keep it for long.
        bytes: Bytes,
    },
    /// The open transaction ended.
    Commit(Transaction),
    /// The segment is complete and proven intact.
    End(SegmentSummary),
}

/// Decodes one segment as a stream. Total: any bytes give events or an error. Memory is bounded by what is pushed and
/// not yet pulled, plus one frame.
///
/// Until [`SegmentEvent::End`] nothing proves that the segment is whole. That its pages have the checksums it states is
/// for the reader to prove, who knows the database they change.
pub struct SegmentDecoder {
    input: ByteQueue,
    /// Bytes of the segment consumed.
    offset: u64,
    /// CRC32C of them.
    crc: u32,
    state: State,
    failed: Option<SegmentError>,
}

enum State {
    Header,
    Parts(Box<Parts>),
    Done(SegmentSummary),
}

/// What is known after the header.
struct Parts {
    ledger: Ledger,
    table: TransactionTableWriter,
    index: PageIndexWriter,
    /// What the transaction table and the page index have to be, going by the frames.
    expected_table: Fingerprint,
    expected_index: Fingerprint,
    frames: u64,
    table_offset: u64,
    index_offset: u64,
    now: Part,
}

/// The part of the segment that is being read.
enum Part {
    /// A frame or the transaction table comes next.
    Next,
    Frame {
        offset: u64,
        lengths: FrameLengths,
        records: Records,
    },
    Section(Box<Section>),
    PageIndex,
    Footer,
}

struct Section {
    kind: SectionKind,
    offset: u64,
    remaining: u64,
    found: Fingerprint,
    crc: u32,
}

impl Default for SegmentDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl SegmentDecoder {
    /// A decoder that awaits the first byte.
    pub fn new() -> Self {
        Self { input: ByteQueue::default(), offset: 0, crc: 0, state: State::Header, failed: None }
    }

    /// Adds the next bytes of the segment, in pieces of any size.
    pub fn push(&mut self, bytes: Bytes) {
        self.input.push(bytes);
    }

    /// The next event; `None`: push more, or call [`finish`](Self::finish) if there is no more.
    ///
    /// # Errors
    /// [`SegmentError`] if the bytes are not those of a segment, and from then on again.
    #[allow(clippy::should_implement_trait, reason = "it is no iterator: None is not the end")]
    pub fn next(&mut self) -> Result<Option<SegmentEvent>, SegmentError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.step();
        self.failed = result.as_ref().err().cloned();
        result
    }

    /// Checks whatever events were not asked for, and that the segment is complete.
    ///
    /// # Errors
    /// [`SegmentError`] unless the bytes pushed are exactly one segment.
    pub fn finish(mut self) -> Result<SegmentSummary, SegmentError> {
        while self.next()?.is_some() {}
        match self.state {
            State::Done(summary) => Ok(summary),
            _ => Err(SegmentError::Truncated { bytes: self.offset + self.input.len() as u64 }),
        }
    }

    fn step(&mut self) -> Result<Option<SegmentEvent>, SegmentError> {
        let Self { input, offset, crc, state, .. } = self;
        let mut source = Source { input, offset, crc };
        match state {
            State::Header => {
                let Some(bytes) = source.take_array() else { return Ok(None) };
                let header = SegmentHeader::parse(&bytes)?;
                *state = State::Parts(Box::new(Parts::new(header)));
                Ok(Some(SegmentEvent::Header(header)))
            }
            State::Parts(parts) => {
                let event = parts.step(&mut source)?;
                if let Some(SegmentEvent::End(summary)) = event {
                    *state = State::Done(summary);
                }
                Ok(event)
            }
            State::Done(_) if source.input.len() > 0 => Err(SegmentError::TrailingBytes { bytes: *source.offset }),
            State::Done(_) => Ok(None),
        }
    }
}

/// The input, counting and checksumming what is consumed.
struct Source<'a> {
    input: &'a mut ByteQueue,
    offset: &'a mut u64,
    crc: &'a mut u32,
}

impl Source<'_> {
    fn take(&mut self, n: usize) -> Option<Bytes> {
        self.input.take(n).inspect(|bytes| self.count(bytes))
    }

    fn take_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = self.input.peek()?;
        self.take(N).map(|_| bytes)
    }

    fn take_some(&mut self, n: u64) -> Bytes {
        let bytes = self.input.take_some(usize::try_from(n).unwrap_or(usize::MAX));
        self.count(&bytes);
        bytes
    }

    fn count(&mut self, bytes: &[u8]) {
        *self.offset += bytes.len() as u64;
        *self.crc = crc32c::crc32c_append(*self.crc, bytes);
    }
}

impl Parts {
    fn new(header: SegmentHeader) -> Self {
        Self {
            ledger: Ledger::new(header),
            table: TransactionTableWriter::default(),
            index: PageIndexWriter::new(),
            expected_table: Fingerprint::default(),
            expected_index: Fingerprint::default(),
            frames: 0,
            table_offset: 0,
            index_offset: 0,
            now: Part::Next,
        }
    }

    fn step(&mut self, source: &mut Source<'_>) -> Result<Option<SegmentEvent>, SegmentError> {
        loop {
            let offset = *source.offset;
            let next = match &mut self.now {
                Part::Next => match source.input.peek() {
                    None => return Ok(None),
                    Some([frame::TAG]) => self.begin_frame(source)?,
                    Some([tag]) if tag != SectionKind::TransactionTable.tag() => {
                        let what = "neither a frame nor the transaction table begins here";
                        return Err(SegmentError::Damaged { offset, what });
                    }
                    Some(_) => {
                        self.ledger.summary(0, 0).map_err(|rule| SegmentError::Rule { offset, rule })?;
                        self.table_offset = offset;
                        Section::begin(SectionKind::TransactionTable, &self.expected_table, source)?
                    }
                },
                Part::Frame { .. } => match self.next_record()? {
                    Some(event) => return Ok(Some(event)),
                    None => Some(Part::Next),
                },
                Part::Section(section) => {
                    let expected = match section.kind {
                        SectionKind::TransactionTable => &self.expected_table,
                        SectionKind::PageIndex => &self.expected_index,
                    };
                    section.proceed(expected, source)?
                }
                Part::PageIndex => {
                    self.index_offset = offset;
                    Section::begin(SectionKind::PageIndex, &self.expected_index, source)?
                }
                Part::Footer => return Ok(self.footer(source)?.map(SegmentEvent::End)),
            };
            let Some(next) = next else { return Ok(None) };
            self.now = next;
        }
    }

    fn begin_frame(&mut self, source: &mut Source<'_>) -> Result<Option<Part>, SegmentError> {
        let offset = *source.offset;
        let damaged = |what| SegmentError::Damaged { offset, what };
        let Some(prefix) = source.input.peek() else { return Ok(None) };
        let lengths = FrameLengths::parse(prefix).ok_or(damaged("a frame's lengths are out of bounds"))?;
        let Some(bytes) = source.take(lengths.frame_len()) else { return Ok(None) };
        let (lengths, content) = frame::read(&bytes).map_err(damaged)?;
        let records = Records::new(content, self.ledger.header().page_size);
        Ok(Some(Part::Frame { offset, lengths, records }))
    }

    /// The next record of the frame; `None` at its end.
    fn next_record(&mut self) -> Result<Option<SegmentEvent>, SegmentError> {
        let Part::Frame { offset, lengths, records } = &mut self.now else { return Ok(None) };
        let offset = *offset;
        let broken = |rule: EncodeError| SegmentError::Rule { offset, rule };
        match records.next().map_err(|what| SegmentError::Inconsistent { offset, what })? {
            Some(Record::Page { page, bytes }) => {
                let txid = self.ledger.pages(page, 1).map_err(broken)?;
                self.index.page(page);
                Ok(Some(SegmentEvent::Page { txid, page, bytes }))
            }
            Some(Record::Commit(commit)) => {
                let transaction = self.ledger.commit(&commit).map_err(broken)?;
                self.table.push(&commit);
                self.table.drain(|bytes| self.expected_table.update(bytes));
                self.index.commit();
                Ok(Some(SegmentEvent::Commit(transaction)))
            }
            None => {
                self.index.end_frame(*lengths);
                self.index.drain(|bytes| self.expected_index.update(bytes));
                self.frames += 1;
                Ok(None)
            }
        }
    }

    fn footer(&self, source: &mut Source<'_>) -> Result<Option<SegmentSummary>, SegmentError> {
        let (offset, crc_before) = (*source.offset, *source.crc);
        let Some(bytes) = source.take_array() else { return Ok(None) };
        let summary =
            self.ledger.summary(self.frames, *source.offset).map_err(|rule| SegmentError::Rule { offset, rule })?;
        let (table_offset, index_offset) = (self.table_offset, self.index_offset);
        let expected = SegmentFooter { summary, crc_before, table_offset, index_offset };
        if bytes == expected.encode() {
            return Ok(Some(summary));
        }
        SegmentFooter::parse(&bytes)?;
        Err(SegmentError::Inconsistent { offset, what: "the footer states something else than the segment holds" })
    }
}

impl Section {
    fn begin(kind: SectionKind, expected: &Fingerprint, source: &mut Source<'_>) -> Result<Option<Part>, SegmentError> {
        let offset = *source.offset;
        let Some(prefix) = source.take_array() else { return Ok(None) };
        let remaining = expected.len();
        if prefix != section::prefix(kind, remaining) {
            let what = "here a table of the length that follows from the frames has to begin";
            return Err(SegmentError::Damaged { offset, what });
        }
        let crc = crc32c::crc32c(&prefix);
        Ok(Some(Part::Section(Box::new(Self { kind, offset, remaining, found: Fingerprint::default(), crc }))))
    }

    fn proceed(&mut self, expected: &Fingerprint, source: &mut Source<'_>) -> Result<Option<Part>, SegmentError> {
        while self.remaining > 0 {
            let bytes = source.take_some(self.remaining);
            if bytes.is_empty() {
                return Ok(None);
            }
            self.remaining -= bytes.len() as u64;
            self.found.update(&bytes);
            self.crc = crc32c::crc32c_append(self.crc, &bytes);
        }
        let Some(crc) = source.take_array() else { return Ok(None) };
        let offset = self.offset;
        if u32::from_le_bytes(crc) != self.crc {
            return Err(SegmentError::Damaged { offset, what: "a table's CRC32C does not match" });
        }
        if !self.found.matches(expected) {
            let what = "a table states something else than the frames hold";
            return Err(SegmentError::Inconsistent { offset, what });
        }
        Ok(Some(match self.kind {
            SectionKind::TransactionTable => Part::PageIndex,
            SectionKind::PageIndex => Part::Footer,
        }))
    }
}
