//! The pages of the database that is being put together, in the temporary file.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;
use futures::future::try_join;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt, stream};
use seawall_host::disk::File;
use seawall_host::task::{self, JoinError, JoinHandle};
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{PageNumber, PageSize};

/// Pages gathered before they are written, in bytes.
const CACHE_BYTES: usize = 16 << 20;

/// So much is written before the disk is asked to make it durable while the next is gathered, in bytes.
const SYNC_BYTES: usize = 32 << 20;

/// The length of a read when pages are proven, in bytes.
const READ_BYTES: usize = 4 << 20;

/// Such reads under way at a time.
const READS_AT_ONCE: usize = 4;

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
    /// Pages that the file holds in another state than `hashes` says, left by an interrupted restore.
    owed: BTreeSet<u32>,
    /// Pages on their way into the file, meanwhile the next are gathered.
    writing: Option<JoinHandle<io::Result<()>>>,
    /// What was written being made durable ahead of the end.
    syncing: Option<JoinHandle<io::Result<()>>>,
    written_since_sync: usize,
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
            owed: BTreeSet::new(),
            writing: None,
            syncing: None,
            written_since_sync: 0,
        }
    }

    pub(super) fn file(&self) -> File {
        self.file.clone()
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

    /// The hash of each page from 1 on; 0 for the lock page.
    pub(super) fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// Whether the file differs from what the hashes say, but for what is yet to be written.
    pub(super) fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Takes over the pages with these hashes from the file, which another program's run left; those that it holds in
    /// another state are owed. False if it holds none of them.
    pub(super) async fn adopt(&mut self, page_size: PageSize, hashes: Vec<u64>) -> io::Result<bool> {
        self.page_size = Some(page_size);
        self.checksum = Checksum(hashes.iter().fold(0, |sum, hash| sum ^ hash));
        self.hashes = hashes;
        let held = (self.file.len().await? / u64::from(page_size.bytes())).min(u64::from(self.page_count())) as u32;
        let found: Vec<Vec<u64>> = self.hashes_in_file(page_size, held).try_collect().await?;
        let differing = found.iter().flatten().chain(std::iter::repeat(&0)).zip(&self.hashes);
        let differing = (1..)
            .zip(differing)
            .filter(|(page, (found, hash))| found != hash || (*page > held && *page != page_size.lock_page().0));
        self.owed = differing.map(|(page, _)| page).collect();
        Ok(self.owed.len() < self.hashes.len())
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
        self.owed.clear();
        self.written().await?;
        self.file.set_len(0).await
    }

    /// Sets one page. `bytes` has the page size and this hash; the lock page is never set.
    pub(super) async fn put(&mut self, page: PageNumber, hash: Checksum, bytes: &[u8]) -> io::Result<()> {
        let before = self.set_hash(page.0, hash.0);
        self.owed.remove(&page.0);
        self.checksum ^= hash ^ Checksum(before);
        // A copy, so that no page keeps the whole frame alive it was decompressed in.
        if self.cache.insert(page.0, Bytes::copy_from_slice(bytes)).is_none() {
            self.cached_bytes += bytes.len();
        }
        if self.cached_bytes >= CACHE_BYTES {
            self.begin_flush().await?;
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
        self.owed.split_off(&page_count.saturating_add(1));
        let dropped = self.cache.split_off(&page_count.saturating_add(1));
        self.cached_bytes -= dropped.values().map(Bytes::len).sum::<usize>();
        // A database may end with its lock page, which nobody ships.
        if self.page_size.is_some_and(|size| size.lock_page().0 == page_count) && self.page_count() + 1 == page_count {
            self.hashes.push(0);
        }
        self.ahead.is_empty() && self.page_count() == page_count
    }

    /// Begins to write what is gathered, once what was gathered before is in the file.
    async fn begin_flush(&mut self) -> io::Result<()> {
        self.written().await?;
        let Some(page_size) = self.page_size.filter(|_| !self.cache.is_empty()) else { return Ok(()) };
        self.sync_ahead().await?;
        let mut runs: Vec<(u64, Vec<Bytes>)> = Vec::new();
        let mut next = None;
        for (page, bytes) in std::mem::take(&mut self.cache) {
            match runs.last_mut() {
                Some((_, run)) if next == Some(page) => run.push(bytes),
                _ => runs.push((page_size.offset_of(PageNumber(page)), vec![bytes])),
            }
            next = page.checked_add(1);
        }
        self.written_since_sync += std::mem::take(&mut self.cached_bytes);
        let file = self.file.clone();
        self.writing = Some(task::spawn(async move { file.write_scattered(runs).await }));
        Ok(())
    }

    /// Lets the disk begin on what is written, so that little is left for the end. One that is slow is not asked again
    /// before it is done: it would write pages twice that change twice.
    async fn sync_ahead(&mut self) -> io::Result<()> {
        if self.written_since_sync < SYNC_BYTES {
            return Ok(());
        }
        if let Some(syncing) = &mut self.syncing {
            let Some(synced) = syncing.now_or_never() else { return Ok(()) };
            self.syncing = None;
            joined(synced)?;
        }
        self.written_since_sync = 0;
        let file = self.file.clone();
        self.syncing = Some(task::spawn(async move { file.sync().await }));
        Ok(())
    }

    /// Waits until the disk is done with what it was asked to make durable. Its errors are told once: none may be missed.
    async fn synced_ahead(&mut self) -> io::Result<()> {
        let Some(syncing) = &mut self.syncing else { return Ok(()) };
        let synced = syncing.await;
        self.syncing = None;
        joined(synced)
    }

    /// Waits until what is being written is in the file.
    async fn written(&mut self) -> io::Result<()> {
        let Some(writing) = &mut self.writing else { return Ok(()) };
        let written = writing.await;
        self.writing = None;
        joined(written)
    }

    /// Writes what is gathered.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.begin_flush().await?;
        self.written().await
    }

    /// Waits until the disk has nothing more to do for this image.
    pub(super) async fn settle(&mut self) -> io::Result<()> {
        self.flush().await?;
        self.synced_ahead().await
    }

    /// Brings the file to its exact length, makes it durable, and meanwhile reads all of it back; answers the checksum
    /// of what was read.
    pub(super) async fn finish(&mut self) -> io::Result<Checksum> {
        self.settle().await?;
        let page_size = self.page_size.map_or(0, PageSize::bytes);
        self.file.set_len(u64::from(page_size) * u64::from(self.page_count())).await?;
        let ((), found) = try_join(self.file.sync(), self.read_back()).await?;
        Ok(found)
    }

    async fn read_back(&self) -> io::Result<Checksum> {
        let Some(page_size) = self.page_size else { return Ok(Checksum::EMPTY) };
        let hashes = self.hashes_in_file(page_size, self.page_count());
        hashes
            .try_fold(Checksum::EMPTY, |sum, hashes| {
                let part = hashes.iter().fold(0, |sum, hash| sum ^ hash);
                futures::future::ready(Ok(sum ^ Checksum(part)))
            })
            .await
    }

    /// The hash of each of the first `page_count` pages as the file holds them, 0 for the lock page; some at a time.
    fn hashes_in_file(
        &self,
        page_size: PageSize,
        page_count: u32,
    ) -> impl Stream<Item = io::Result<Vec<u64>>> + Send + use<> {
        let size = page_size.bytes() as usize;
        let lock_page = page_size.lock_page();
        let pages_at_once = (READ_BYTES / size) as u32;
        let file = self.file.clone();
        let reads = (1..=page_count).step_by(pages_at_once as usize).map(move |first| {
            let count = pages_at_once.min(page_count - first + 1) as usize;
            let file = file.clone();
            async move {
                let bytes = file.read_exact_at(page_size.offset_of(PageNumber(first)), count * size).await?;
                // A job of its own each, so that several are hashed at a time.
                let hashed = task::blocking(move || {
                    let pages = (first..).map(PageNumber).zip(bytes.chunks(size));
                    let hash = |(page, bytes)| if page == lock_page { 0 } else { Checksum::of_page(page, bytes).0 };
                    pages.map(hash).collect()
                });
                hashed.await.map_err(io::Error::other)
            }
        });
        stream::iter(reads).buffered(READS_AT_ONCE)
    }
}

fn joined(outcome: Result<io::Result<()>, JoinError>) -> io::Result<()> {
    outcome.unwrap_or_else(|error| Err(io::Error::other(error)))
}
