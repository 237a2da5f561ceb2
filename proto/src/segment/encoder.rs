//! Writing segments.

use bytes::Bytes;

use super::error::EncodeError;
use super::footer::SegmentFooter;
use super::frame::{self, MAX_FRAME_BYTES};
use super::header::{InvalidHeader, SegmentHeader, SegmentKind};
use super::ledger::Ledger;
use super::page_index::PageIndexWriter;
use super::record::{self, Commit};
use super::section::{self, SectionKind};
use super::summary::SegmentSummary;
use super::transaction_table::TransactionTableWriter;
use crate::checksum::Checksum;
use crate::position::PageNumber;

/// Pieces of the output are handed out once they are this long, so that a small segment is one piece.
const PIECE_BYTES: usize = 256 << 10;

/// Encodes one segment as a stream: memory is bounded by one frame plus the tables, as long as the output is taken.
///
/// After an error the segment is worthless.
pub struct SegmentEncoder {
    invalid: Option<InvalidHeader>,
    ledger: Ledger,
    /// Records of the frame being collected.
    content: Vec<u8>,
    table: TransactionTableWriter,
    index: PageIndexWriter,
    frames: u64,
    output: Output,
}

#[derive(Default)]
struct Output {
    complete: Vec<Bytes>,
    piece: Vec<u8>,
    bytes: u64,
    crc: u32,
}

impl Output {
    fn write<R>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let start = self.piece.len();
        let result = write(&mut self.piece);
        let written = &self.piece[start..];
        self.crc = crc32c::crc32c_append(self.crc, written);
        self.bytes += written.len() as u64;
        if self.piece.len() >= PIECE_BYTES {
            self.end_piece();
        }
        result
    }

    fn end_piece(&mut self) {
        if !self.piece.is_empty() {
            self.complete.push(std::mem::take(&mut self.piece).into());
        }
    }

    fn take(&mut self) -> Vec<Bytes> {
        self.end_piece();
        std::mem::take(&mut self.complete)
    }
}

impl SegmentEncoder {
    /// Begins a segment. A header that breaks a rule is reported by the next call that can.
    pub fn new(header: SegmentHeader) -> Self {
        let mut output = Output::default();
        output.write(|out| out.extend_from_slice(&header.encode()));
        Self {
            invalid: header.validate().err(),
            ledger: Ledger::new(header),
            content: Vec::new(),
            table: TransactionTableWriter::default(),
            index: PageIndexWriter::new(),
            frames: 0,
            output,
        }
    }

    /// Adds a page to the open transaction. Any order; of a page added twice the last version counts.
    ///
    /// # Errors
    /// [`EncodeError`] if it is the lock page, page 0, not of the page size, or after the last transaction.
    pub fn page(&mut self, page: PageNumber, bytes: &[u8]) -> Result<(), EncodeError> {
        self.check_header()?;
        let txid = self.ledger.pages(page, 1)?;
        let expected = self.ledger.header().page_size.bytes();
        if bytes.len() != expected as usize {
            return Err(EncodeError::PageLength { txid, page, expected, found: bytes.len() });
        }
        self.make_room(record::page_len(self.ledger.header().page_size));
        record::write_page(&mut self.content, page, bytes);
        self.index.page(page);
        Ok(())
    }

    /// Ends the open transaction (which may carry no page at all): the database's size in pages after it, when it was
    /// committed (milliseconds since 1970), and the whole database's checksum after it.
    ///
    /// # Errors
    /// [`EncodeError`] if the transaction carries pages beyond `page_count`, if commit times decrease, or after the
    /// last transaction.
    pub fn commit(
        &mut self,
        page_count: u32,
        commit_time_ms: i64,
        checksum_after: Checksum,
    ) -> Result<(), EncodeError> {
        self.check_header()?;
        let resync = self.ledger.header().kind == SegmentKind::Resync;
        let pages = self.ledger.open_pages();
        let commit = Commit { page_count, pages, commit_time_ms, checksum_after, resync };
        self.ledger.commit(&commit)?;
        self.make_room(record::COMMIT_LEN);
        commit.write(&mut self.content);
        self.table.push(&commit);
        self.index.commit();
        Ok(())
    }

    /// The output that is complete so far and was not taken yet.
    pub fn take(&mut self) -> Vec<Bytes> {
        self.output.take()
    }

    /// Ends the segment: the rest of the output, which a small segment's is in one piece, and what it holds.
    ///
    /// # Errors
    /// [`EncodeError`] unless the last transaction was committed.
    pub fn finish(mut self) -> Result<(Vec<Bytes>, SegmentSummary), EncodeError> {
        self.check_header()?;
        self.end_frame();
        self.ledger.summary(0, 0)?;
        let table_offset = self.output.bytes;
        let table = self.table.take();
        self.output.write(|out| section::write(out, SectionKind::TransactionTable, &table));
        let index_offset = self.output.bytes;
        let index = self.index.take();
        self.output.write(|out| section::write(out, SectionKind::PageIndex, &index));
        let summary = self.ledger.summary(self.frames, self.output.bytes + SegmentFooter::LEN as u64)?;
        let footer = SegmentFooter { summary, crc_before: self.output.crc, table_offset, index_offset };
        self.output.write(|out| out.extend_from_slice(&footer.encode()));
        Ok((self.output.take(), summary))
    }

    fn check_header(&self) -> Result<(), EncodeError> {
        self.invalid.map_or(Ok(()), |invalid| Err(invalid.into()))
    }

    fn make_room(&mut self, record_len: usize) {
        if self.content.len() + record_len > MAX_FRAME_BYTES {
            self.end_frame();
        }
    }

    fn end_frame(&mut self) {
        if self.content.is_empty() {
            return;
        }
        let lengths = self.output.write(|out| frame::write(out, &self.content));
        self.content.clear();
        self.index.end_frame(lengths);
        self.frames += 1;
    }
}
