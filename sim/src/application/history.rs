//! The true sequence of states of one database.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::Connection;
use seawall_proto::checksum::Checksum;
use seawall_proto::position::PageSize;
use xxhash_rust::xxh3::Xxh3;

use super::sqlite::{self, SourceError};

/// What a state is, told in two ways that have nothing in common but the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// The size of its pages.
    pub page_size: PageSize,
    /// How many there are.
    pub page_count: u32,
    /// Seawall's checksum of the database.
    pub checksum: Checksum,
    /// XXH3 (128 bits) over number (4 bytes, little-endian) and bytes of every page but the lock page, in order.
    pub hash: u128,
}

/// Computes a [`Content`] from pages given in order.
pub struct ContentHasher {
    page_size: PageSize,
    page_count: u32,
    checksum: Checksum,
    hash: Xxh3,
}

impl ContentHasher {
    /// No pages yet.
    pub fn new(page_size: PageSize) -> Self {
        Self { page_size, page_count: 0, checksum: Checksum::EMPTY, hash: Xxh3::new() }
    }

    /// The next page.
    pub fn page(&mut self, bytes: &[u8]) {
        self.page_count += 1;
        let page = seawall_proto::position::PageNumber(self.page_count);
        if page != self.page_size.lock_page() {
            self.checksum ^= Checksum::of_page(page, bytes);
            self.hash.update(&page.0.to_le_bytes());
            self.hash.update(bytes);
        }
    }

    /// What the pages come to.
    pub fn finish(&self) -> Content {
        Content {
            page_size: self.page_size,
            page_count: self.page_count,
            checksum: self.checksum,
            hash: self.hash.digest128(),
        }
    }
}

impl Content {
    /// What a connection sees as the newest state.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn read(connection: &Connection) -> Result<Self, SourceError> {
        // A page that a transaction has taken from the freelist, written, and given back again is not written to the
        // file: what the connection's cache has of it is nobody else's.
        connection.execute_batch("PRAGMA shrink_memory")?;
        let mut hasher = ContentHasher::new(sqlite::page_size(connection)?);
        sqlite::for_each_page(connection, |_, bytes| hasher.page(bytes))?;
        Ok(hasher.finish())
    }

    /// What a whole database file holds. Bytes behind the last whole page count as one more page.
    pub fn of_image(image: &[u8], page_size: PageSize) -> Self {
        let mut hasher = ContentHasher::new(page_size);
        image.chunks(page_size.bytes() as usize).for_each(|page| hasher.page(page));
        hasher.finish()
    }
}

/// One state that a database truly had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// What it is.
    pub content: Content,
    /// When it began, in true virtual time.
    pub time: Duration,
    /// The first state with the same content, if it is not this one.
    pub again: Option<usize>,
}

/// The states that one database truly had, numbered from 0 in the order of time. A power loss that takes commits away
/// adds an earlier state once more.
#[derive(Clone, Debug, Default)]
pub struct SourceHistory {
    states: Vec<State>,
    by_checksum: BTreeMap<u64, Vec<usize>>,
}

impl SourceHistory {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The database has become `content` at `time`; answers the state's number.
    pub fn record(&mut self, time: Duration, content: Content) -> usize {
        let number = self.states.len();
        let same = self.by_checksum.entry(content.checksum.0).or_default();
        let again = same.iter().copied().find(|earlier| self.states[*earlier].content == content);
        same.push(number);
        self.states.push(State { content, time, again });
        number
    }

    /// As [`SourceHistory::record`], unless `content` is the newest state's already.
    pub fn record_if_new(&mut self, time: Duration, content: Content) -> usize {
        match self.newest() {
            Some((number, state)) if state.content == content => number,
            _ => self.record(time, content),
        }
    }

    /// The states by number.
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// The newest state and its number.
    pub fn newest(&self) -> Option<(usize, &State)> {
        Some((self.states.len().checked_sub(1)?, self.states.last()?))
    }

    /// The numbers of the states with this checksum, in order.
    pub fn find(&self, checksum: Checksum) -> &[usize] {
        self.by_checksum.get(&checksum.0).map_or(&[], Vec::as_slice)
    }

    /// Whether the database was in a state with this checksum when state `number` was its newest, or later.
    pub fn holds_at_or_after(&self, checksum: Checksum, number: usize) -> bool {
        self.find(checksum).last().is_some_and(|last| *last >= number)
    }

    /// Whether the database went through these states in this order; one state may stand several times in a row.
    ///
    /// # Errors
    /// The place in the sequence of the first that no state at or after its predecessor's can be.
    pub fn is_subsequence(&self, checksums: impl IntoIterator<Item = Checksum>) -> Result<(), usize> {
        let mut at = 0;
        for (place, checksum) in checksums.into_iter().enumerate() {
            let numbers = self.find(checksum);
            at = *numbers.get(numbers.partition_point(|number| *number < at)).ok_or(place)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(tag: u8) -> Content {
        Content::of_image(&[tag; 1024], PageSize::new(512).unwrap())
    }

    fn history(tags: &[u8]) -> SourceHistory {
        let mut history = SourceHistory::new();
        for (at, tag) in tags.iter().enumerate() {
            history.record(Duration::from_secs(at as u64), content(*tag));
        }
        history
    }

    fn sequence(tags: &[u8]) -> Vec<Checksum> {
        tags.iter().map(|tag| content(*tag).checksum).collect()
    }

    #[test]
    fn finds_states_by_checksum_and_knows_what_comes_again() {
        let history = history(&[1, 2, 3, 2]);
        assert_eq!(history.find(content(2).checksum), [1, 3]);
        assert_eq!(history.states()[3].again, Some(1));
        assert_eq!(history.states()[2].again, None);
        assert_eq!(history.newest().unwrap().0, 3);
        assert!(history.holds_at_or_after(content(2).checksum, 3));
        assert!(!history.holds_at_or_after(content(3).checksum, 3));
    }

    #[test]
    fn a_subsequence_skips_states_but_never_goes_back() {
        let history = history(&[1, 2, 3, 2, 4]);
        for fine in [&[][..], &[1, 2, 3, 2, 4], &[1, 4], &[3, 2], &[2, 2, 4], &[2, 3, 2]] {
            assert_eq!(history.is_subsequence(sequence(fine)), Ok(()), "{fine:?}");
        }
        assert_eq!(history.is_subsequence(sequence(&[2, 1])), Err(1));
        assert_eq!(history.is_subsequence(sequence(&[3, 2, 3])), Err(2));
        assert_eq!(history.is_subsequence(sequence(&[1, 9])), Err(1));
    }

    #[test]
    fn the_newest_state_is_not_recorded_twice_unless_asked() {
        let mut history = history(&[1, 2]);
        assert_eq!(history.record_if_new(Duration::ZERO, content(2)), 1);
        assert_eq!(history.record_if_new(Duration::ZERO, content(1)), 2);
        assert_eq!(history.states().len(), 3);
    }

    #[test]
    fn a_page_moved_or_cut_is_another_content() {
        let size = PageSize::new(512).unwrap();
        let image: Vec<u8> = [[1; 512], [2; 512]].concat();
        let swapped: Vec<u8> = [[2; 512], [1; 512]].concat();
        let whole = Content::of_image(&image, size);
        assert_eq!(whole.page_count, 2);
        for other in [Content::of_image(&swapped, size), Content::of_image(&image[..512], size)] {
            assert_ne!(other.checksum, whole.checksum);
            assert_ne!(other.hash, whole.hash);
        }
    }
}
