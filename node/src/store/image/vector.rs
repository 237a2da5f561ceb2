//! Page vectors: what is remembered of each page of a database, and the checksum that follows from it.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{PageNumber, PageSize, Txid};

/// What a vector remembers of a page.
pub trait PageRecord: Copy + Send + 'static {
    /// Stands for the lock page.
    const ABSENT: Self;
    /// The page's hash, 0 for the lock page.
    fn hash(self) -> Checksum;
}

impl PageRecord for Checksum {
    const ABSENT: Self = Self::EMPTY;

    fn hash(self) -> Checksum {
        self
    }
}

/// A page's hash and the transaction that last changed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PageEntry {
    pub(super) hash: Checksum,
    pub(super) changed: Txid,
}

impl PageEntry {
    /// Hash u64, txid u64, little-endian.
    pub(super) const BYTES: usize = 16;

    pub(super) fn encode_all(entries: &[Self]) -> Bytes {
        let mut out = BytesMut::with_capacity(entries.len() * Self::BYTES);
        for entry in entries {
            out.put_u64_le(entry.hash.0);
            out.put_u64_le(entry.changed.0);
        }
        out.freeze()
    }

    /// As many whole entries as `bytes` holds.
    pub(super) fn decode_all(mut bytes: &[u8]) -> impl Iterator<Item = Self> {
        std::iter::from_fn(move || {
            (bytes.len() >= Self::BYTES)
                .then(|| Self { hash: Checksum(bytes.get_u64_le()), changed: Txid(bytes.get_u64_le()) })
        })
    }
}

impl PageRecord for PageEntry {
    const ABSENT: Self = Self { hash: Checksum::EMPTY, changed: Txid::NONE };

    fn hash(self) -> Checksum {
        self.hash
    }
}

/// Why a transaction does not fit the pages that it replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MisfitError {
    /// Page 0 or the lock page.
    #[error("page {} can't be part of a transaction", .0.0)]
    ImpossiblePage(PageNumber),
    /// It grows the database, but not every new page is in it.
    #[error("the database grows to {page_count} pages, but page {} is missing", missing.0)]
    MissingPage {
        /// The first page that is missing.
        missing: PageNumber,
        /// The size it grows to.
        page_count: u32,
    },
}

/// One record a page. Grows only by pages that are there, so its memory is bounded by what was received.
#[derive(Clone, Debug)]
pub struct PageVector<R> {
    lock_page: PageNumber,
    records: Vec<R>,
    /// Pages of the current transaction that lie behind a gap.
    beyond: BTreeMap<u32, R>,
    sum: Checksum,
}

impl<R: PageRecord> PageVector<R> {
    /// The empty database.
    pub fn new(page_size: PageSize) -> Self {
        Self { lock_page: page_size.lock_page(), records: Vec::new(), beyond: BTreeMap::new(), sum: Checksum::EMPTY }
    }

    /// A vector of these records, from page 1 on.
    pub fn from_records(page_size: PageSize, records: Vec<R>) -> Self {
        let sum = records.iter().fold(Checksum::EMPTY, |sum, record| sum ^ record.hash());
        Self { records, sum, ..Self::new(page_size) }
    }

    /// XOR of all hashes: the database's checksum between transactions.
    pub fn sum(&self) -> Checksum {
        self.sum
    }

    /// From page 1 on, the lock page included.
    pub fn records(&self) -> &[R] {
        &self.records
    }

    /// Whether the open transaction has pages behind one that is missing so far.
    pub(super) fn has_gap(&self) -> bool {
        !self.beyond.is_empty()
    }

    /// The record of a page, if the database has it.
    pub fn get(&self, page: PageNumber) -> Option<R> {
        self.records.get((page.0 as usize).checked_sub(1)?).copied()
    }

    /// Notes a page of the current transaction.
    ///
    /// # Errors
    /// [`MisfitError::ImpossiblePage`].
    pub fn put(&mut self, page: PageNumber, record: R) -> Result<(), MisfitError> {
        if page.0 == 0 || page == self.lock_page {
            return Err(MisfitError::ImpossiblePage(page));
        }
        self.sum ^= record.hash();
        let index = page.0 as usize - 1;
        if let Some(old) = self.records.get_mut(index) {
            self.sum ^= old.hash();
            *old = record;
            return Ok(());
        }
        self.step_over_lock_page();
        if index == self.records.len() {
            self.records.push(record);
            self.close_gaps();
        } else if let Some(old) = self.beyond.insert(page.0, record) {
            self.sum ^= old.hash();
        }
        Ok(())
    }

    /// Ends the current transaction, after which the database has `page_count` pages.
    ///
    /// # Errors
    /// [`MisfitError::MissingPage`].
    pub fn commit(&mut self, page_count: u32) -> Result<(), MisfitError> {
        self.close_gaps();
        for record in std::mem::take(&mut self.beyond).split_off(&page_count.saturating_add(1)).into_values() {
            self.sum ^= record.hash();
        }
        let wanted = page_count as usize;
        if self.records.len() < wanted {
            self.step_over_lock_page();
        }
        if self.records.len() < wanted {
            let missing = PageNumber(self.records.len() as u32 + 1);
            return Err(MisfitError::MissingPage { missing, page_count });
        }
        for record in self.records.drain(wanted..) {
            self.sum ^= record.hash();
        }
        Ok(())
    }

    fn step_over_lock_page(&mut self) {
        if self.records.len() as u32 + 1 == self.lock_page.0 {
            self.records.push(R::ABSENT);
        }
    }

    fn close_gaps(&mut self) {
        while !self.beyond.is_empty() {
            self.step_over_lock_page();
            let Some(record) = self.beyond.remove(&(self.records.len() as u32 + 1)) else { break };
            self.records.push(record);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: u32 = 65536;

    fn vector() -> PageVector<Checksum> {
        PageVector::new(PageSize::new(SIZE).unwrap())
    }

    proptest! {
        /// Against a plain map of pages; the numbers are near the lock page, so that it is crossed both ways.
        #[test]
        fn agrees_with_a_plain_map(
            transactions in proptest::collection::vec(
                (proptest::collection::vec((0..40_u32, any::<u64>()), 0..60), 0..40_u32), 1..8)
        ) {
            let lock = PageSize::new(SIZE).unwrap().lock_page().0;
            let base = lock - 20;
            let mut vector = PageVector::from_records(PageSize::new(SIZE).unwrap(), vec![Checksum(7); base as usize]);
            let mut model: BTreeMap<u32, u64> = (1..=base).map(|page| (page, 7)).collect();
            let mut count = base;
            for (pages, size) in transactions {
                let wanted = base + size;
                for (page, hash) in pages {
                    let page = base + 1 + page;
                    let outcome = vector.put(PageNumber(page), Checksum(hash));
                    prop_assert_eq!(outcome.is_err(), page == lock);
                    if page != lock {
                        model.insert(page, hash);
                    }
                }
                model.split_off(&(wanted + 1));
                let missing = (count + 1..=wanted).find(|page| *page != lock && !model.contains_key(page));
                let outcome = vector.commit(wanted);
                if let Some(missing) = missing {
                    prop_assert_eq!(outcome, Err(MisfitError::MissingPage { missing: PageNumber(missing), page_count: wanted }));
                    break;
                }
                prop_assert_eq!(outcome, Ok(()));
                count = wanted;
                prop_assert_eq!(vector.records().len(), wanted as usize);
                prop_assert_eq!(vector.sum().0, model.values().fold(0, |sum, hash| sum ^ hash));
                for (page, hash) in &model {
                    prop_assert_eq!(vector.get(PageNumber(*page)), Some(Checksum(*hash)));
                }
            }
        }

        #[test]
        fn entries_read_back(numbers in proptest::collection::vec(any::<(u64, u64)>(), 0..20), cut in 0..16_usize) {
            let entries: Vec<_> =
                numbers.iter().map(|(hash, txid)| PageEntry { hash: Checksum(*hash), changed: Txid(*txid) }).collect();
            let bytes = PageEntry::encode_all(&entries);
            prop_assert_eq!(&PageEntry::decode_all(&bytes).collect::<Vec<_>>(), &entries);
            let whole = bytes.len().saturating_sub(cut) / PageEntry::BYTES;
            let read: Vec<_> = PageEntry::decode_all(&bytes[..bytes.len().saturating_sub(cut)]).collect();
            prop_assert_eq!(&read[..], &entries[..whole]);
        }
    }

    #[test]
    fn a_page_far_away_takes_no_memory_for_those_between() {
        let mut vector = vector();
        vector.put(PageNumber(u32::MAX), Checksum(1)).unwrap();
        assert!(vector.records().is_empty());
        assert_eq!(
            vector.commit(u32::MAX),
            Err(MisfitError::MissingPage { missing: PageNumber(1), page_count: u32::MAX })
        );
    }
}
