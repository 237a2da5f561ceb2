//! A naive database in memory that commits transactions and encodes them as an agent would.

use bytes::Bytes;
use proptest::prelude::*;
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{Lineage, PageNumber, PageSize, Position, Txid};
use seawall_proto::segment::{SegmentDecoder, SegmentEncoder, SegmentEvent, SegmentHeader, SegmentKind};
use seawall_proto::v1;

/// One transaction, in terms that fit any database.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// Pages afterwards.
    pub(crate) size: u32,
    /// Which pages are written (modulo the size), and with what.
    pub(crate) writes: Vec<(u32, u8)>,
    /// Write all pages anew in the other of two page sizes.
    pub(crate) other_page_size: bool,
}

pub(crate) fn change() -> impl Strategy<Value = Change> {
    (1..24_u32, proptest::collection::vec((any::<u32>(), any::<u8>()), 0..12), proptest::bool::weighted(0.08))
        .prop_map(|(size, writes, other_page_size)| Change { size, writes, other_page_size })
}

/// The whole state of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) page_size: PageSize,
    pub(crate) pages: Vec<Vec<u8>>,
    pub(crate) txid: Txid,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self { page_size: PageSize::new(1024).unwrap(), pages: Vec::new(), txid: Txid::NONE }
    }

    pub(crate) fn hashes(&self) -> Vec<u64> {
        (1..).zip(&self.pages).map(|(number, page)| Checksum::of_page(PageNumber(number), page).0).collect()
    }

    pub(crate) fn checksum(&self) -> Checksum {
        Checksum(self.hashes().into_iter().fold(0, |sum, hash| sum ^ hash))
    }

    pub(crate) fn position(&self) -> Position {
        Position { lineage: Lineage(1), txid: self.txid, checksum: self.checksum() }
    }

    pub(crate) fn commit_time_ms(&self) -> i64 {
        1000 + self.txid.0 as i64
    }

    pub(crate) fn head(&self) -> v1::Head {
        v1::Head {
            lineage: 1,
            txid: self.txid.0,
            checksum: self.checksum().0,
            page_size: if self.txid == Txid::NONE { 0 } else { self.page_size.bytes() },
            page_count: self.pages.len() as u32,
            commit_time_ms: self.commit_time_ms(),
            wal: None,
        }
    }

    /// Commits one transaction; answers the numbers of the pages it wrote, in the order written.
    pub(crate) fn commit(&mut self, change: &Change) -> Vec<u32> {
        self.txid = self.txid.next();
        let before = if change.other_page_size {
            self.page_size = PageSize::new(512 + 1024 - self.page_size.bytes().min(1024)).unwrap_or(self.page_size);
            0
        } else {
            self.pages.len() as u32
        };
        let bytes = self.page_size.bytes() as usize;
        if change.other_page_size {
            self.pages.clear();
        }
        let fresh = (self.txid.0 as u8).wrapping_mul(7);
        self.pages.resize_with(change.size as usize, || vec![fresh; bytes]);
        let mut written: Vec<u32> = (before + 1..=change.size).rev().collect();
        for (page, fill) in &change.writes {
            let page = page % change.size;
            self.pages[page as usize] = (0..bytes).map(|i| fill.wrapping_add(i as u8).wrapping_add(fresh)).collect();
            written.push(page + 1);
        }
        written
    }

    fn header(&self, first: Txid, last: Txid, page_size: PageSize, kind: SegmentKind) -> SegmentHeader {
        SegmentHeader { page_size, lineage: Lineage(1), first, last, checksum_before: self.checksum(), kind }
    }

    /// Commits transactions and encodes them as one segment. Only the first may change the page size.
    pub(crate) fn segment(&mut self, changes: &[Change]) -> Vec<Bytes> {
        let mut after = self.clone();
        let first = self.txid.next();
        let last = Txid(self.txid.0 + changes.len() as u64);
        after.commit(&changes[0]);
        let mut encoder = SegmentEncoder::new(self.header(first, last, after.page_size, SegmentKind::Log));
        for (number, change) in changes.iter().enumerate() {
            let change = Change { other_page_size: change.other_page_size && number == 0, ..change.clone() };
            for page in self.commit(&change) {
                encoder.page(PageNumber(page), &self.pages[page as usize - 1]).unwrap();
            }
            encoder.commit(self.pages.len() as u32, self.commit_time_ms(), self.checksum()).unwrap();
        }
        encoder.finish().unwrap().0
    }

    /// A segment of one transaction that carries `pages` and claims `page_count` and `checksum_after`, true or not.
    pub(crate) fn claim(&self, pages: &[(u32, u8)], page_count: u32, checksum_after: Checksum) -> Vec<Bytes> {
        let txid = self.txid.next();
        let mut encoder = SegmentEncoder::new(self.header(txid, txid, self.page_size, SegmentKind::Log));
        for (page, fill) in pages {
            encoder.page(PageNumber(*page), &vec![*fill; self.page_size.bytes() as usize]).unwrap();
        }
        encoder.commit(page_count, self.commit_time_ms() + 1, checksum_after).unwrap();
        encoder.finish().unwrap().0
    }

    /// What a snapshot segment gives back.
    pub(crate) fn from_snapshot(parts: impl IntoIterator<Item = Bytes>) -> Self {
        let mut decoder = SegmentDecoder::new();
        let mut this = Self::new();
        for part in parts {
            decoder.push(part);
        }
        loop {
            match decoder.next().unwrap().expect("a whole segment") {
                SegmentEvent::Header(header) => {
                    assert!(header.is_snapshot());
                    assert_eq!(header.checksum_before, Checksum::EMPTY);
                    this.page_size = header.page_size;
                }
                SegmentEvent::Page { page, bytes, .. } => {
                    assert_eq!(page.0 as usize, this.pages.len() + 1);
                    this.pages.push(bytes.to_vec());
                }
                SegmentEvent::Commit(transaction) => {
                    this.txid = transaction.txid;
                    assert_eq!(transaction.page_count as usize, this.pages.len());
                    assert_eq!(transaction.checksum_after, this.checksum());
                    assert_eq!(transaction.commit_time_ms, this.commit_time_ms());
                }
                SegmentEvent::End(_) => return this,
            }
        }
    }
}
