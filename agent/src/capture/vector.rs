//! The hash of every page of a database.

use seawall_proto::checksum::Checksum;
use seawall_proto::position::{PageNumber, PageSize};

/// The hash of every page, 8 bytes each, and their XOR: the database's checksum, kept up to date as pages change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageVector {
    page_size: PageSize,
    /// By page number minus one; 0 where nothing is known, and for the lock page.
    hashes: Vec<u64>,
    checksum: Checksum,
    /// Pages after the last commit.
    committed: u32,
}

/// A transaction grew the database without writing this page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingPage(pub PageNumber);

impl PageVector {
    /// The vector of the empty database.
    pub const fn empty(page_size: PageSize) -> Self {
        Self { page_size, hashes: Vec::new(), checksum: Checksum::EMPTY, committed: 0 }
    }

    /// A vector from its hashes, ascending by page.
    pub fn from_hashes(page_size: PageSize, hashes: Vec<u64>) -> Self {
        let checksum = Checksum(hashes.iter().fold(0, |sum, hash| sum ^ hash));
        let committed = u32::try_from(hashes.len()).unwrap_or(u32::MAX);
        Self { page_size, hashes, checksum, committed }
    }

    /// A vector of `pages` pages of which nothing is known yet.
    pub fn unknown(page_size: PageSize, pages: u32) -> Self {
        Self { page_size, hashes: vec![0; pages as usize], checksum: Checksum::EMPTY, committed: pages }
    }

    /// The size of the pages.
    pub const fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Pages of the database, after the last [`PageVector::commit`].
    pub const fn page_count(&self) -> u32 {
        self.committed
    }

    /// The checksum of all pages.
    pub const fn checksum(&self) -> Checksum {
        self.checksum
    }

    /// The hash of a page; 0 if it is beyond the end, unknown, or the lock page.
    pub fn get(&self, page: PageNumber) -> u64 {
        let index = (page.0 as usize).wrapping_sub(1);
        self.hashes.get(index).copied().unwrap_or(0)
    }

    /// Sets the hash of a page. The lock page and page 0 are left out.
    pub fn set(&mut self, page: PageNumber, hash: Checksum) {
        if page.0 == 0 || page == self.page_size.lock_page() {
            return;
        }
        let index = page.0 as usize - 1;
        if index >= self.hashes.len() {
            self.hashes.resize(index + 1, 0);
        }
        self.checksum ^= Checksum(self.hashes[index]) ^ hash;
        self.hashes[index] = hash.0;
    }

    /// Ends a transaction after which the database has `pages` pages: what lies beyond is dropped.
    ///
    /// # Errors
    /// [`MissingPage`] if the database grew by a page that was not set.
    pub fn commit(&mut self, pages: u32) -> Result<(), MissingPage> {
        let len = pages as usize;
        if len < self.hashes.len() {
            for hash in self.hashes.drain(len..) {
                self.checksum ^= Checksum(hash);
            }
        }
        let lock_page = self.page_size.lock_page();
        for number in self.committed.saturating_add(1)..=pages {
            let page = PageNumber(number);
            if self.get(page) == 0 && page != lock_page {
                return Err(MissingPage(page));
            }
        }
        // Only the lock page can be what is still short at the end.
        self.hashes.resize(len, 0);
        self.committed = pages;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const SIZE: PageSize = match PageSize::new(65536) {
        Ok(size) => size,
        Err(_) => panic!("a page size"),
    };

    proptest! {
        #[test]
        fn checksum_is_the_xor_of_what_is_there(
            commits in proptest::collection::vec((proptest::collection::vec((1_u32..40, 1_u64..), 0..20), 1_u32..40), 1..20)
        ) {
            let mut vector = PageVector::empty(SIZE);
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            for (pages, size) in commits {
                let before = vector.page_count();
                for number in before + 1..=size {
                    vector.set(PageNumber(number), Checksum(u64::from(number)));
                    model.insert(number, u64::from(number));
                }
                for (number, hash) in pages {
                    vector.set(PageNumber(number), Checksum(hash));
                    model.insert(number, hash);
                }
                vector.commit(size).unwrap();
                model.retain(|number, _| *number <= size);
                prop_assert_eq!(vector.checksum().0, model.values().fold(0, |sum, hash| sum ^ hash));
                prop_assert_eq!(vector.page_count(), size);
                for number in 0..45 {
                    prop_assert_eq!(vector.get(PageNumber(number)), model.get(&number).copied().unwrap_or(0));
                }
            }
        }
    }

    #[test]
    fn growth_without_a_page_is_noticed() {
        let mut vector = PageVector::empty(SIZE);
        vector.set(PageNumber(1), Checksum(1));
        vector.set(PageNumber(3), Checksum(3));
        assert_eq!(vector.commit(3), Err(MissingPage(PageNumber(2))));
        vector.set(PageNumber(2), Checksum(2));
        assert_eq!(vector.commit(3), Ok(()));
        assert_eq!(vector.commit(4), Err(MissingPage(PageNumber(4))));
    }

    #[test]
    fn the_lock_page_is_never_hashed_and_never_missing() {
        let mut vector = PageVector::unknown(SIZE, SIZE.lock_page().0 - 1);
        vector.set(SIZE.lock_page(), Checksum(9));
        assert_eq!(vector.commit(SIZE.lock_page().0), Ok(()));
        assert_eq!(vector.checksum(), Checksum::EMPTY);
        vector.set(PageNumber(SIZE.lock_page().0 + 1), Checksum(7));
        assert_eq!(vector.commit(SIZE.lock_page().0 + 1), Ok(()));
        assert_eq!(vector.checksum(), Checksum(7));
    }
}
