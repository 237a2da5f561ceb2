//! The pages of the database that is being put together, in the temporary file.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use seawall_host::disk::File;
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{PageNumber, PageSize};

/// Pages gathered before they are written, in bytes.
const CACHE_BYTES: usize = 32 << 20;

/// The longest single write, in bytes.
const WRITE_BYTES: usize = 4 << 20;

/// A database under construction: its pages in a file, the hash of each and the checksum of all in memory.
pub(super) struct ImageFile {
    file: File,
    page_size: Option<PageSize>,
    /// The hash of each page from 1 on without gaps; 0 for the lock page.
    hashes: Vec<u64>,
    /// Hashes of pages behind the first gap.
    ahead: BTreeMap<u32, u64>,
    checksum: Checksum,
    /// Pages that are not in the file yet.
    cache: BTreeMap<u32, Bytes>,
    cached_bytes: usize,
}

impl ImageFile {
    /// An empty database in `file`, which is empty.
    pub(super) fn new(file: File) -> Self {
        Self {
            file,
            page_size: None,
            hashes: Vec::new(),
            ahead: BTreeMap::new(),
            checksum: Checksum::EMPTY,
            cache: BTreeMap::new(),
            cached_bytes: 0,
        }
    }

    pub(super) fn page_size(&self) -> Option<PageSize> {
        self.page_size
    }

    pub(super) fn page_count(&self) -> u32 {
        self.hashes.len() as u32
    }

    pub(super) fn checksum(&self) -> Checksum {
        self.checksum
    }

    /// The hash of a page; 0 if it is not there.
    pub(super) fn hash_of(&self, page: PageNumber) -> Checksum {
        Checksum(self.hashes.get(page.0 as usize - 1).copied().unwrap_or_default())
    }

    /// XOR of the hashes of all pages beyond `page_count`.
    pub(super) fn checksum_beyond(&self, page_count: u32) -> Checksum {
        let beyond = self.hashes.get(page_count as usize..).unwrap_or_default();
        Checksum(beyond.iter().fold(0, |sum, hash| sum ^ hash))
    }

    /// Makes it the empty database of the given page size.
    pub(super) async fn clear(&mut self, page_size: PageSize) -> io::Result<()> {
        self.page_size = Some(page_size);
        self.hashes.clear();
        self.ahead.clear();
        self.checksum = Checksum::EMPTY;
        self.cache.clear();
        self.cached_bytes = 0;
        self.file.set_len(0).await
    }

    /// Sets one page. `bytes` has the page size; the lock page is never set.
    pub(super) async fn put(&mut self, page: PageNumber, bytes: &[u8]) -> io::Result<()> {
        let hash = Checksum::of_page(page, bytes);
        let before = self.set_hash(page.0, hash.0);
        self.checksum ^= hash ^ Checksum(before);
        // A copy, so that no page keeps the whole frame alive it was decompressed in.
        if self.cache.insert(page.0, Bytes::copy_from_slice(bytes)).is_none() {
            self.cached_bytes += bytes.len();
        }
        if self.cached_bytes >= CACHE_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    /// Sets the hash of a page and answers the one before.
    fn set_hash(&mut self, page: u32, hash: u64) -> u64 {
        let lock_page = self.page_size.map_or(0, |size| size.lock_page().0);
        let next = self.hashes.len() as u32 + 1;
        if page < next {
            return std::mem::replace(&mut self.hashes[page as usize - 1], hash);
        }
        if page > next && !(next == lock_page && page == next + 1) {
            return self.ahead.insert(page, hash).unwrap_or_default();
        }
        if page > next {
            self.hashes.push(0);
        }
        self.hashes.push(hash);
        loop {
            let next = self.hashes.len() as u32 + 1;
            if let Some(hash) = self.ahead.remove(&next) {
                self.hashes.push(hash);
            } else if next == lock_page && self.ahead.contains_key(&(next + 1)) {
                self.hashes.push(0);
            } else {
                return 0;
            }
        }
    }

    /// Drops every page beyond `page_count`. False if pages are missing below it.
    pub(super) fn resize(&mut self, page_count: u32) -> bool {
        self.checksum ^= self.checksum_beyond(page_count);
        self.hashes.truncate(page_count as usize);
        let beyond = self.ahead.split_off(&page_count.saturating_add(1));
        self.checksum ^= Checksum(beyond.values().fold(0, |sum, hash| sum ^ hash));
        let dropped = self.cache.split_off(&page_count.saturating_add(1));
        self.cached_bytes -= dropped.values().map(Bytes::len).sum::<usize>();
        // A database may end with its lock page, which nobody ships.
        if self.page_size.is_some_and(|size| size.lock_page().0 == page_count) && self.page_count() + 1 == page_count {
            self.hashes.push(0);
        }
        self.ahead.is_empty() && self.page_count() == page_count
    }

    /// Writes what is gathered.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        let Some(page_size) = self.page_size else { return Ok(()) };
        let mut run: Vec<Bytes> = Vec::new();
        let mut run_start = 0;
        for (page, bytes) in std::mem::take(&mut self.cache) {
            let full = run.len() * page_size.bytes() as usize >= WRITE_BYTES;
            if full || run_start + run.len() as u32 != page {
                self.write_run(page_size, run_start, std::mem::take(&mut run)).await?;
                run_start = page;
            }
            run.push(bytes);
        }
        self.cached_bytes = 0;
        self.write_run(page_size, run_start, run).await
    }

    async fn write_run(&self, page_size: PageSize, first: u32, run: Vec<Bytes>) -> io::Result<()> {
        if run.is_empty() { Ok(()) } else { self.file.write_at(page_size.offset_of(PageNumber(first)), run).await }
    }

    /// Brings the file to its exact length and makes it durable.
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        self.flush().await?;
        let page_size = self.page_size.map_or(0, PageSize::bytes);
        self.file.set_len(u64::from(page_size) * u64::from(self.page_count())).await?;
        self.file.sync().await
    }

    /// Reads the whole file back and answers its checksum.
    pub(super) async fn read_back(&self) -> io::Result<Checksum> {
        let Some(page_size) = self.page_size else { return Ok(Checksum::EMPTY) };
        let size = page_size.bytes() as usize;
        let lock_page = page_size.lock_page();
        let pages_at_once = (WRITE_BYTES / size) as u32;
        let mut checksum = Checksum::EMPTY;
        let mut first = 1;
        while first <= self.page_count() {
            let count = pages_at_once.min(self.page_count() - first + 1);
            let bytes = self.file.read_exact_at(page_size.offset_of(PageNumber(first)), count as usize * size).await?;
            for (page, bytes) in (first..).map(PageNumber).zip(bytes.chunks(size)) {
                if page != lock_page {
                    checksum ^= Checksum::of_page(page, bytes);
                }
            }
            first += count;
        }
        Ok(checksum)
    }
}
