//! Reading an image at exactly one position while folding waits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use seawall_host::probe::sometimes;
use seawall_host::time::{self, Instant};
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{PageNumber, Position, Txid};
use tokio::sync::{MutexGuard, SemaphorePermit};

use super::holds::Terms;
use super::image::{Image, Shared, State, lock};
use super::snapshot::{self, SegmentStream};
use super::{ImageError, ImageManifest};

/// Bytes of pages that are read at once.
const BATCH_BYTES: usize = 1 << 20;
/// Entries of the vector that are looked at in one turn.
const SCAN_ENTRIES: usize = 1 << 16;

/// Keeps an image at one position until it is dropped or its limit has passed.
pub struct Hold {
    shared: Arc<Shared>,
    id: u64,
    manifest: ImageManifest,
}

/// Pages of an image on their way out.
pub(super) struct Batch {
    pub(super) pages: Vec<(PageNumber, Checksum, Bytes)>,
    /// Where to go on; `None` at the end of the database.
    pub(super) next: Option<PageNumber>,
}

impl Image {
    /// Pauses folding, for `limit` at most, so that the image can be read at exactly one position.
    ///
    /// # Errors
    /// [`ImageError::Quarantined`], [`ImageError::Recovering`], [`ImageError::Empty`], [`ImageError::Io`].
    pub async fn hold(&self, limit: Duration) -> Result<Hold, ImageError> {
        Hold::acquire(&self.shared, limit, Terms::InTurn).await
    }

    /// As [`Image::hold`], but at once if the image is at `position`, whoever waits to fold: for those who were told
    /// of that position under a hold that still lasts. `limit` counts from when the fold began to wait, so that it is
    /// not put off without end.
    ///
    /// # Errors
    /// As [`Image::hold`].
    pub async fn hold_at(&self, position: Position, limit: Duration) -> Result<Hold, ImageError> {
        Hold::acquire(&self.shared, limit, Terms::At(position)).await
    }

    /// As [`Image::hold`], but at once where others hold the image: while a fold waits for them, no longer than they
    /// do. For those whose need is short, and who would otherwise wait for holds like their own.
    ///
    /// # Errors
    /// As [`Image::hold`].
    pub async fn hold_alongside(&self, limit: Duration) -> Result<Hold, ImageError> {
        Hold::acquire(&self.shared, limit, Terms::Alongside).await
    }
}

impl Hold {
    /// Waits for folds where `terms` ask for it.
    pub(super) async fn acquire(shared: &Arc<Shared>, limit: Duration, terms: Terms) -> Result<Self, ImageError> {
        loop {
            let mut changed = std::pin::pin!(shared.changed.notified());
            changed.as_mut().enable();
            let mut state = shared.state.lock().await;
            let working = &shared.load(&mut state).await?.working;
            let position = working.position;
            let Some(until) = lock(&shared.holds).grant(Instant::now(), limit, terms, position) else {
                drop(state);
                changed.await;
                continue;
            };
            if !working.is_exact() && !working.is_consistent() {
                sometimes("image asked for while an interrupted fold is repeated");
                let until = working.until();
                return Err(ImageError::Recovering { image: shared.name(), folded: position.txid, until });
            }
            let manifest = working.manifest().ok_or_else(|| ImageError::Empty { image: shared.name() })?;
            let id = lock(&shared.holds).begin(until);
            return Ok(Self { shared: Arc::clone(shared), id, manifest });
        }
    }

    /// What is held.
    pub fn manifest(&self) -> ImageManifest {
        self.manifest
    }

    /// The hashes of `count` pages from `first` on, fewer at the end of the database; the lock page's is 0.
    ///
    /// # Errors
    /// [`ImageError::HoldExpired`], [`ImageError::Io`].
    pub async fn page_hashes(&self, first: PageNumber, count: usize) -> Result<Vec<u64>, ImageError> {
        let mut state = self.shared.state.lock().await;
        self.check()?;
        let working = &self.shared.load(&mut state).await?.working;
        self.check_position(working.position)?;
        let entries = working.entries().iter().skip((first.0 as usize).saturating_sub(1)).take(count);
        Ok(entries.map(|entry| entry.hash.0).collect())
    }

    /// The whole database as a snapshot segment (squashed, from txid 1, from the empty database). Every page is hashed
    /// again on its way out. The hold lasts as long as the stream.
    ///
    /// The stream's errors: [`ImageError::Quarantined`] where a page is not what its hash says (the image is
    /// quarantined then), [`ImageError::HoldExpired`], [`ImageError::Io`].
    pub fn snapshot(self) -> SegmentStream {
        let lineage = self.manifest.position.lineage;
        snapshot::stream(self, Position { lineage, ..Position::default() })
    }

    /// The last version of every page changed after `after`, as a squashed segment that continues `after`.
    /// Otherwise as [`Hold::snapshot`].
    ///
    /// The stream gives [`ImageError::Segment`] if `after` is not an earlier position of the same lineage.
    pub fn changes_since(self, after: Position) -> SegmentStream {
        snapshot::stream(self, after)
    }

    /// The next pages from `from` on that changed after `after`, with the hashes they must have.
    pub(super) async fn read_batch(&self, from: PageNumber, after: Txid) -> Result<Batch, ImageError> {
        let mut state = self.shared.state.lock().await;
        self.check()?;
        let loaded = self.shared.load_written(&mut state).await?;
        self.check_position(loaded.working.position)?;
        let page_size = self.manifest.page_size;
        let bytes = page_size.bytes() as usize;
        let entries = loaded.working.entries();
        let mut chosen: Vec<(PageNumber, Checksum)> = Vec::new();
        let mut page = from.0;
        let end = self.manifest.page_count.min(from.0.saturating_add(SCAN_ENTRIES as u32 - 1));
        while page <= end && chosen.len() * bytes < BATCH_BYTES {
            let entry = entries.get(page as usize - 1).copied().unwrap_or_default();
            if PageNumber(page) != page_size.lock_page() && entry.changed > after {
                chosen.push((PageNumber(page), entry.hash));
            }
            page += 1;
        }
        let next = (page <= self.manifest.page_count).then_some(PageNumber(page));
        let mut pages = Vec::with_capacity(chosen.len());
        for run in chosen.chunk_by(|a, b| a.0.0 + 1 == b.0.0) {
            let read = loaded.files.read_pages(page_size, run[0].0, run.len()).await;
            let read = self.shared.io(read)?;
            for (index, &(page, hash)) in run.iter().enumerate() {
                let piece = read.slice((index * bytes).min(read.len())..((index + 1) * bytes).min(read.len()));
                pages.push((page, hash, piece));
            }
        }
        Ok(Batch { pages, next })
    }

    /// A page was read that is not what its hash says.
    pub(super) async fn report_damage(&self, page: PageNumber) -> ImageError {
        let mut state = self.shared.state.lock().await;
        let image = self.shared.name();
        if let Err(error) = self.check() {
            return error;
        }
        let loaded = match self.shared.load_written(&mut state).await {
            Ok(loaded) => loaded,
            Err(error) => return error,
        };
        // A fold that a crash interrupted left a later version of the page; folding on mends it.
        if !loaded.working.is_exact() {
            let (folded, until) = (loaded.working.position.txid, loaded.working.until());
            return ImageError::Recovering { image, folded, until };
        }
        // Damage to hashes that leaves their sum as it was is noticed only here.
        match self.shared.mend(&loaded.files, &mut loaded.working).await {
            Err(error) => error,
            Ok(true) => self.expired(),
            Ok(false) => {
                let reason = format!("page {} on disk is not what its hash says", page.0);
                self.shared.quarantine(&mut state, reason).await
            }
        }
    }

    pub(super) fn segment_error(&self, cause: impl ToString) -> ImageError {
        ImageError::Segment { image: self.shared.name(), cause: cause.to_string() }
    }

    fn check(&self) -> Result<(), ImageError> {
        if lock(&self.shared.holds).lasts(self.id) { Ok(()) } else { Err(self.expired()) }
    }

    /// After an error on the disk the image goes back to what is durable, holds or not.
    fn check_position(&self, position: Position) -> Result<(), ImageError> {
        if position == self.manifest.position { Ok(()) } else { Err(self.expired()) }
    }

    fn expired(&self) -> ImageError {
        ImageError::HoldExpired { image: self.shared.name() }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        lock(&self.shared.holds).end(self.id);
        self.shared.changed.notify_waiters();
    }
}

/// Counts a fold that waits.
struct Waiting<'a>(&'a Shared);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.0.holds).fold_goes_on();
        self.0.changed.notify_waiters();
    }
}

impl Shared {
    /// Waits until nobody holds the image any more, or the limits of all holds have passed, and until the node may
    /// fold one image more. Readers of this image don't wait for the folding of others, nor others for its holds.
    pub(super) async fn wait_to_fold(&self) -> (MutexGuard<'_, State>, Option<SemaphorePermit<'_>>) {
        let mut waiting = None;
        loop {
            // Never closed.
            let permit = self.folds.acquire().await.ok();
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let state = self.state.lock().await;
            let last_limit = {
                let mut holds = lock(&self.holds);
                holds.expire(Instant::now());
                holds.last_limit()
            };
            let Some(last_limit) = last_limit else { return (state, permit) };
            drop((state, permit));
            if waiting.is_none() {
                lock(&self.holds).fold_waits(Instant::now());
                waiting = Some(Waiting(self));
            }
            let _ = time::timeout_at(last_limit, changed).await;
        }
    }
}
