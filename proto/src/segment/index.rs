//! Finding single pages from the end of a segment.

use bytes::Bytes;

use super::error::SegmentError;
use super::footer::SegmentFooter;
use super::frame::{self, FrameLengths};
use super::header::SegmentHeader;
use super::ledger::Ledger;
use super::page_index::{Entry, PageIndexReader, Run};
use super::record::{self, Record, Records};
use super::section::{self, SectionKind};
use super::summary::SegmentSummary;
use super::transaction::Transaction;
use super::transaction_table;
use crate::position::{PageNumber, Txid};

/// The transactions of a segment and the place of every page, read from the segment's tail alone.
pub struct SegmentIndex {
    footer: SegmentFooter,
    transactions: Vec<Transaction>,
    frames: Vec<Frame>,
    runs: Vec<PageRun>,
}

struct Frame {
    offset: u64,
    lengths: FrameLengths,
}

struct PageRun {
    first: PageNumber,
    len: u32,
    /// Into `frames`.
    frame: usize,
    /// Of the first record in the frame's content.
    offset: u32,
    /// Into `transactions`.
    transaction: usize,
}

/// Where a frame lies within its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FrameRange {
    /// From the segment's beginning, in bytes.
    pub offset: u64,
    /// In bytes.
    pub len: u32,
}

/// Where one version of a page lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLocation {
    /// The page.
    pub page: PageNumber,
    /// The transaction that wrote this version.
    pub txid: Txid,
    /// The frame that holds it.
    pub frame: FrameRange,
    record_offset: u32,
    lengths: FrameLengths,
}

impl SegmentIndex {
    /// Reads the index from the last bytes of a segment: at least [`SegmentFooter::tail_len`] of them.
    ///
    /// # Errors
    /// [`SegmentError`] if they are too few ([`SegmentError::Truncated`]), damaged, or break the format's rules.
    pub fn parse(tail: &[u8]) -> Result<Self, SegmentError> {
        let too_short = SegmentError::Truncated { bytes: tail.len() as u64 };
        let (before, footer) = tail.split_last_chunk().ok_or(too_short.clone())?;
        let footer = SegmentFooter::parse(footer)?;
        let table_len = footer.index_offset - footer.table_offset;
        let tables_len = usize::try_from(footer.offset() - footer.table_offset).unwrap_or(usize::MAX);
        let tables = before.len().checked_sub(tables_len).map(|start| &before[start..]).ok_or(too_short)?;
        // Not longer than `tables`, so it fits a usize.
        let (table, index) = tables.split_at(table_len as usize);
        let table = section::read(table, SectionKind::TransactionTable, footer.table_offset)?;
        let index = section::read(index, SectionKind::PageIndex, footer.index_offset)?;
        Self::read(footer, table, index)
    }

    fn read(footer: SegmentFooter, table: &[u8], index: &[u8]) -> Result<Self, SegmentError> {
        let broken = |offset| move |what| SegmentError::Inconsistent { offset, what };
        let (in_table, in_index) = (broken(footer.table_offset), broken(footer.index_offset));
        let rule = |rule| SegmentError::Rule { offset: footer.index_offset, rule };
        let commits = transaction_table::parse(table, footer.summary.first_commit_time_ms)
            .ok_or(in_table("the transaction table is not well-formed"))?;

        let mut ledger = Ledger::new(footer.summary.header);
        let mut commits = commits.iter();
        let mut this =
            Self { footer, transactions: Vec::with_capacity(commits.len()), frames: Vec::new(), runs: Vec::new() };
        let mut end = SegmentHeader::LEN as u64;
        let mut entries = PageIndexReader::new(index, footer.summary.header.page_size);
        while let Some(entry) = entries.next().map_err(|()| in_index("the page index is not well-formed"))? {
            match entry {
                Entry::Frame(lengths) => {
                    this.frames.push(Frame { offset: end, lengths });
                    end += lengths.frame_len() as u64;
                }
                Entry::Run { run: Run::Pages { first, len }, offset } => {
                    ledger.pages(first, len).map_err(rule)?;
                    let (frame, transaction) = (this.frames.len() - 1, this.transactions.len());
                    this.runs.push(PageRun { first, len, frame, offset, transaction });
                }
                Entry::Run { run: Run::Commit, .. } => {
                    let commit = commits.next().ok_or(in_index("it names more transactions than the table"))?;
                    this.transactions.push(ledger.commit(commit).map_err(rule)?);
                }
            }
        }
        if end != footer.table_offset {
            return Err(in_index("the frames it lists do not end where the tables begin"));
        }
        let summary = ledger.summary(this.frames.len() as u64, footer.summary.bytes).map_err(rule)?;
        if commits.next().is_some() || summary != footer.summary {
            return Err(broken(footer.offset())("the footer states something else than the tables"));
        }
        Ok(this)
    }

    /// What the segment holds.
    pub const fn summary(&self) -> &SegmentSummary {
        &self.footer.summary
    }

    pub(super) const fn footer(&self) -> &SegmentFooter {
        &self.footer
    }

    /// Its transactions, in order; a single one for a squashed segment.
    pub fn transactions(&self) -> &[Transaction] {
        &self.transactions
    }

    /// Its frames, in order; they lie one behind the other.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = FrameRange> {
        self.frames.iter().map(Frame::range)
    }

    /// Where the version of a page lies that was current after transaction `as_of` (or after the segment's last, if
    /// that is earlier). `None` if the segment says nothing about it: it is as it was before the segment, or beyond the
    /// end of the database. Takes time in proportion to the number of runs of consecutive pages.
    pub fn locate(&self, page: PageNumber, as_of: Txid) -> Option<PageLocation> {
        let visible = self.transactions.partition_point(|transaction| transaction.txid <= as_of);
        let runs = &self.runs[..self.runs.partition_point(|run| run.transaction < visible)];
        let run = runs.iter().rev().find(|run| run.first <= page && page.0 - run.first.0 < run.len)?;
        // A database that shrank and grew again has lost what the page held.
        if self.transactions[run.transaction..visible].iter().any(|later| later.page_count < page.0) {
            return None;
        }
        let frame = &self.frames[run.frame];
        let record_len = record::page_len(self.footer.summary.header.page_size) as u32;
        Some(PageLocation {
            page,
            txid: self.transactions[run.transaction].txid,
            frame: frame.range(),
            record_offset: run.offset + (page.0 - run.first.0) * record_len,
            lengths: frame.lengths,
        })
    }

    /// Takes a page out of its frame: the bytes of the segment at `location.frame`.
    ///
    /// # Errors
    /// [`SegmentError`] if the frame is damaged or is not what the index says.
    pub fn page(&self, location: &PageLocation, frame: &Bytes) -> Result<Bytes, SegmentError> {
        let offset = location.frame.offset;
        let (lengths, content) = frame::read(frame).map_err(|what| SegmentError::Damaged { offset, what })?;
        let mut records =
            Records::new(content, self.footer.summary.header.page_size).starting_at(location.record_offset as usize);
        match records.next() {
            Ok(Some(Record::Page { page, bytes })) if page == location.page && lengths == location.lengths => Ok(bytes),
            _ => Err(SegmentError::Inconsistent { offset, what: "the frame is not what the page index says" }),
        }
    }
}

impl Frame {
    const fn range(&self) -> FrameRange {
        FrameRange { offset: self.offset, len: self.lengths.frame_len() as u32 }
    }
}
