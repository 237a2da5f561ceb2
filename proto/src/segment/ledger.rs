//! The rules that hold from transaction to transaction, the same for writing and for reading.

use super::error::EncodeError;
use super::header::{SegmentHeader, SegmentKind};
use super::record::Commit;
use super::summary::SegmentSummary;
use super::transaction::Transaction;
use crate::position::{PageNumber, Txid};

/// Counts what a segment holds and refuses what breaks its rules.
pub(super) struct Ledger {
    header: SegmentHeader,
    /// The transaction that takes pages now; `None` after the last.
    open: Option<Txid>,
    open_pages: u32,
    highest_page: u32,
    first_commit_time_ms: i64,
    last: Option<Commit>,
    transactions: u64,
    pages: u64,
}

impl Ledger {
    pub(super) const fn new(header: SegmentHeader) -> Self {
        let open = match header.kind {
            SegmentKind::Squashed => header.last,
            SegmentKind::Log | SegmentKind::Resync => header.first,
        };
        Self {
            header,
            open: Some(open),
            open_pages: 0,
            highest_page: 0,
            first_commit_time_ms: 0,
            last: None,
            transactions: 0,
            pages: 0,
        }
    }

    pub(super) const fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// Pages of the open transaction so far.
    pub(super) const fn open_pages(&self) -> u32 {
        self.open_pages
    }

    fn open(&self) -> Result<Txid, EncodeError> {
        self.open.ok_or(EncodeError::TooManyTransactions { last: self.header.last })
    }

    /// `len` pages from `first` on, which all have numbers; answers the transaction they belong to.
    pub(super) fn pages(&mut self, first: PageNumber, len: u32) -> Result<Txid, EncodeError> {
        let txid = self.open()?;
        if first.0 == 0 {
            return Err(EncodeError::PageZero { txid });
        }
        let lock_page = self.header.page_size.lock_page();
        if first <= lock_page && lock_page.0 - first.0 < len {
            return Err(EncodeError::LockPage { txid, page: lock_page });
        }
        self.open_pages = self.open_pages.checked_add(len).ok_or(EncodeError::TooManyPages { txid })?;
        self.pages += u64::from(len);
        self.highest_page = self.highest_page.max(first.0 + (len - 1));
        Ok(txid)
    }

    /// The end of the open transaction.
    pub(super) fn commit(&mut self, commit: &Commit) -> Result<Transaction, EncodeError> {
        let txid = self.open()?;
        let &Commit { page_count, commit_time_ms, checksum_after, pages, resync } = commit;
        if self.highest_page > page_count {
            return Err(EncodeError::PageBeyondEnd { txid, page: PageNumber(self.highest_page), page_count });
        }
        if pages != self.open_pages {
            return Err(EncodeError::PagesMiscounted { txid, stated: pages, found: self.open_pages });
        }
        match self.header.kind {
            SegmentKind::Log => {}
            SegmentKind::Resync if resync => {}
            SegmentKind::Squashed if !resync => {}
            kind => return Err(EncodeError::Kind { txid, kind }),
        }
        match &self.last {
            None => self.first_commit_time_ms = commit_time_ms,
            Some(Commit { commit_time_ms: previous_ms, .. }) if *previous_ms > commit_time_ms => {
                let previous_ms = *previous_ms;
                return Err(EncodeError::CommitTimeDecreases { txid, time_ms: commit_time_ms, previous_ms });
            }
            Some(_) => {}
        }
        self.last = Some(*commit);
        self.open = (txid < self.header.last).then(|| txid.next());
        self.transactions += 1;
        (self.open_pages, self.highest_page) = (0, 0);
        Ok(Transaction { txid, page_count, commit_time_ms, checksum_after, pages, resync })
    }

    /// What the whole segment holds, given its frames and bytes.
    pub(super) fn summary(&self, frames: u64, bytes: u64) -> Result<SegmentSummary, EncodeError> {
        let header = self.header;
        let (Some(last), None) = (self.last, self.open) else {
            return Err(EncodeError::MissingTransactions {
                next: self.open.unwrap_or(header.first),
                last: header.last,
            });
        };
        Ok(SegmentSummary {
            header,
            checksum_after: last.checksum_after,
            page_count: last.page_count,
            first_commit_time_ms: self.first_commit_time_ms,
            last_commit_time_ms: last.commit_time_ms,
            transactions: self.transactions,
            pages: self.pages,
            frames,
            bytes,
        })
    }
}
