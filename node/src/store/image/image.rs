//! One image.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use seawall_host::probe::{mutant, sometimes};
use seawall_host::task;
use seawall_host::time::{self, Instant};
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, PageSize, Position, Txid};
use seawall_proto::segment::SegmentDecoder;
use tokio::sync::{Notify, Semaphore};

use super::files::{self, Files};
use super::holds::Holds;
use super::meta::Meta;
use super::working::{FoldError, Step, Working};
use super::{ImageError, ImageManifest};

/// How an image stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageStatus {
    /// The exact state it is folded to; txid 0 while it is empty.
    pub position: Position,
    /// Page size there; `None` while it is empty.
    pub page_size: Option<PageSize>,
    /// Pages there, the lock page counted.
    pub page_count: u32,
    /// Commit time of the last transaction folded, milliseconds since 1970.
    pub commit_time_ms: i64,
    /// Everything up to here survives a crash; the log must keep what comes after.
    pub durable: Txid,
    /// What was found wrong with it, if anything.
    pub quarantined: Option<String>,
}

/// One database's materialised copy. Clones share it.
///
/// Folding keeps pages in memory and writes them in place from time to time, last versions only. Before any page of a
/// transaction gets into the files, `meta` names that transaction as its *reach*; after a sync it names it as the
/// position. So what a crash leaves behind is the position's state except for pages that the transactions up to the
/// reach contain whole: folding these once more, without looking at checksums before the reach, gives an exact image
/// again, and there the whole vector has to prove it.
#[derive(Clone)]
pub struct Image {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) database: DatabaseName,
    pub(super) lineage: Lineage,
    directory: PathBuf,
    /// Held while folding, and for single reads.
    pub(super) state: tokio::sync::Mutex<State>,
    pub(super) holds: Mutex<Holds>,
    view: Mutex<View>,
    /// Notified when the view or the holds change.
    pub(super) changed: Notify,
    importing: tokio::sync::Mutex<()>,
    /// Bounds how many images of the node are folded at once.
    pub(super) folds: Arc<Semaphore>,
    fold_bytes: usize,
}

struct View {
    status: ImageStatus,
    pending: Pending,
    used: Instant,
}

/// What is folded and not durable.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pending {
    /// Since when; `None` if there is nothing.
    pub(super) since: Option<Instant>,
    /// Bytes of pages in memory.
    pub(super) bytes: usize,
}

pub(super) struct State {
    meta: Meta,
    /// Dropped after every error: the files and `meta` say what holds.
    loaded: Option<Loaded>,
}

pub(super) struct Loaded {
    pub(super) files: Files,
    pub(super) working: Working,
}

impl Image {
    /// Opens the image in `directory`, which exists.
    pub(super) async fn open(
        database: DatabaseName,
        lineage: Lineage,
        directory: PathBuf,
        folds: Arc<Semaphore>,
        fold_bytes: usize,
    ) -> io::Result<Self> {
        let mut meta = files::read_meta(&directory, lineage).await?;
        if meta.quarantined.is_none() || meta.generation > 0 {
            files::remove_other_generations(&directory, meta.generation).await?;
        } else {
            meta.generation = files::newest_generation(&directory).await?;
        }
        let status = status_of(&meta, None);
        let shared = Shared {
            database,
            lineage,
            directory,
            state: tokio::sync::Mutex::new(State { meta, loaded: None }),
            holds: Mutex::default(),
            view: Mutex::new(View { status, pending: Pending::default(), used: Instant::now() }),
            changed: Notify::new(),
            importing: tokio::sync::Mutex::new(()),
            folds,
            fold_bytes,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Whose it is.
    pub fn database(&self) -> &DatabaseName {
        &self.shared.database
    }

    /// Of which of its histories.
    pub fn lineage(&self) -> Lineage {
        self.shared.lineage
    }

    /// How it stands.
    pub fn status(&self) -> ImageStatus {
        lock(&self.shared.view).status.clone()
    }

    pub(super) fn pending(&self) -> Pending {
        lock(&self.shared.view).pending
    }

    /// Waits until the image is folded to `txid` or beyond.
    ///
    /// # Errors
    /// [`ImageError::Behind`] if `timeout` passed first, [`ImageError::Quarantined`].
    pub async fn wait_folded(&self, txid: Txid, timeout: Duration) -> Result<ImageStatus, ImageError> {
        let deadline = Instant::now() + timeout;
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            let status = self.status();
            if let Some(reason) = status.quarantined {
                return Err(ImageError::Quarantined { image: self.shared.name(), reason });
            }
            if status.position.txid >= txid {
                return Ok(status);
            }
            if time::timeout_at(deadline, changed).await.is_err() {
                return Err(ImageError::Behind {
                    image: self.shared.name(),
                    folded: status.position.txid,
                    wanted: txid,
                });
            }
        }
    }

    /// Folds a whole segment; what is folded already is skipped. Waits for holds first.
    ///
    /// # Errors
    /// [`ImageError::Segment`] if the bytes are damaged or don't continue the image; [`ImageError::Quarantined`] if
    /// they contradict it: it is quarantined then; whatever `bytes` gives.
    pub async fn fold(
        &self,
        bytes: impl Stream<Item = Result<Bytes, ImageError>> + Send + Unpin,
    ) -> Result<ImageStatus, ImageError> {
        let (mut state, _permit) = self.shared.wait_to_fold().await;
        let outcome = self.shared.fold(&mut state, bytes).await;
        self.shared.publish(&state);
        outcome.map(|()| self.status())
    }

    /// Makes everything folded so far durable.
    ///
    /// # Errors
    /// [`ImageError::Io`]; what was folded since the last time is folded again then.
    pub async fn checkpoint(&self) -> Result<ImageStatus, ImageError> {
        let mut state = self.shared.state.lock().await;
        let outcome = self.shared.checkpoint(&mut state).await;
        self.shared.publish(&state);
        outcome.map(|()| self.status())
    }

    /// Lets go of the memory of an image that is durable and was not used for `idle`; it is read again when needed.
    pub(super) fn unload_if_idle(&self, idle: Duration) {
        let Ok(mut state) = self.shared.state.try_lock() else { return };
        if lock(&self.shared.view).used.elapsed() < idle {
            return;
        }
        if state.loaded.as_ref().is_some_and(|it| it.working.position == state.meta.position && !it.working.is_dirty())
        {
            state.loaded = None;
            self.shared.publish(&state);
        }
    }

    /// Begins anew with an empty image, to be folded from the first transaction on; holds end.
    ///
    /// # Errors
    /// [`ImageError::Io`].
    pub async fn reset(&self) -> Result<(), ImageError> {
        let shared = &self.shared;
        let _importing = shared.importing.lock().await;
        let mut state = shared.state.lock().await;
        let generation = shared.next_generation(&state.meta).await?;
        shared.replace(&mut state, Meta { generation, ..Meta::empty(shared.lineage) }, None).await
    }

    /// As [`super::ImageStore::import`].
    pub(super) async fn import(
        &self,
        expected: ImageManifest,
        bytes: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
    ) -> Result<(), ImageError> {
        let shared = &self.shared;
        let _importing = shared.importing.lock().await;
        let generation = shared.next_generation(&shared.state.lock().await.meta).await?;
        let imported = shared.import(generation, expected, bytes).await;
        let mut state = shared.state.lock().await;
        let is_better = state.meta.quarantined.is_some() || self.status().position.txid <= expected.position.txid;
        match imported {
            Ok(loaded) if is_better => shared.replace(&mut state, loaded.working.meta(generation), Some(loaded)).await,
            unused => {
                let removed = files::remove_other_generations(&shared.directory, state.meta.generation).await;
                unused.and(shared.io(removed))
            }
        }
    }
}

/// One step of folding, where it holds up no task; `None` if the machine stops.
async fn step(
    mut decoder: SegmentDecoder,
    mut working: Working,
    limit: usize,
) -> Option<((SegmentDecoder, Working), Result<Step, FoldError>)> {
    let job = move || {
        let result = working.fold(&mut decoder, limit);
        ((decoder, working), result)
    };
    task::blocking(job).await.ok()
}

impl Shared {
    /// For people.
    pub(super) fn name(&self) -> String {
        format!("{}@{}", self.database, self.lineage)
    }

    pub(super) fn io<T>(&self, result: io::Result<T>) -> Result<T, ImageError> {
        result.map_err(|source| ImageError::Io { image: self.name(), source })
    }

    fn cancelled(&self) -> ImageError {
        ImageError::Io { image: self.name(), source: io::Error::other("the work on it was cancelled") }
    }

    fn unusable(&self, cause: String) -> ImageError {
        ImageError::Segment { image: self.name(), cause }
    }

    async fn fold(
        &self,
        state: &mut State,
        mut bytes: impl Stream<Item = Result<Bytes, ImageError>> + Send + Unpin,
    ) -> Result<(), ImageError> {
        self.load(state).await?;
        // Not put back after an error: what is in memory is half a segment then.
        let Some(Loaded { files, mut working }) = state.loaded.take() else { return Err(self.cancelled()) };
        let mut decoder = SegmentDecoder::new();
        loop {
            let (back, result) = step(decoder, working, self.fold_bytes).await.ok_or_else(|| self.cancelled())?;
            (decoder, working) = back;
            match result {
                Ok(Step::NeedBytes) => match bytes.next().await {
                    Some(piece) => decoder.push(piece?),
                    None => return Err(self.unusable("it is cut off".to_owned())),
                },
                Ok(Step::Full) => self.write(&mut state.meta, &files, &mut working).await?,
                Ok(Step::Done) => break,
                Err(FoldError::Segment(cause)) => return Err(self.unusable(cause)),
                Err(FoldError::Mismatch(reason)) => return Err(self.quarantine(state, reason).await),
            }
        }
        state.loaded = Some(Loaded { files, working });
        Ok(())
    }

    async fn import(
        &self,
        generation: u64,
        expected: ImageManifest,
        mut bytes: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
    ) -> Result<Loaded, ImageError> {
        let files = self.io(Files::open(&self.directory, generation).await)?;
        let mut working = Working::new(&Meta::empty(self.lineage), Vec::new());
        let mut decoder = SegmentDecoder::new();
        loop {
            let (back, result) = step(decoder, working, self.fold_bytes).await.ok_or_else(|| self.cancelled())?;
            (decoder, working) = back;
            match result {
                Ok(Step::NeedBytes) => match bytes.next().await {
                    Some(piece) => decoder.push(self.io(piece)?),
                    None => return Err(self.unusable("the snapshot is cut off".to_owned())),
                },
                Ok(Step::Full) => {
                    if let Some(dirty) = working.take_dirty() {
                        self.io(files.write(dirty).await)?;
                    }
                }
                Ok(Step::Done) => break,
                Err(FoldError::Segment(cause) | FoldError::Mismatch(cause)) => return Err(self.unusable(cause)),
            }
        }
        if working.manifest() != Some(expected) {
            let cause = format!("it holds {}, but {} was expected", working.position, expected.position);
            return Err(self.unusable(cause));
        }
        if let Some(dirty) = working.take_dirty() {
            self.io(files.write(dirty).await)?;
        }
        self.io(files.sync(&working).await)?;
        Ok(Loaded { files, working })
    }

    async fn checkpoint(&self, state: &mut State) -> Result<(), ImageError> {
        let State { meta, loaded } = state;
        let Some(Loaded { files, mut working }) = loaded.take() else { return Ok(()) };
        if meta.position != working.position || working.is_dirty() {
            self.write(meta, &files, &mut working).await?;
            if !mutant("image-not-synced") {
                self.io(files.sync(&working).await)?;
            }
            let durable = working.meta(meta.generation);
            self.io(files::write_meta(&self.directory, &durable).await)?;
            *meta = durable;
        }
        *loaded = Some(Loaded { files, working });
        Ok(())
    }

    /// Makes sure that the vector is in memory.
    pub(super) async fn load<'a>(&self, state: &'a mut State) -> Result<&'a mut Loaded, ImageError> {
        if let Some(reason) = &state.meta.quarantined {
            return Err(ImageError::Quarantined { image: self.name(), reason: reason.clone() });
        }
        if state.loaded.is_none() {
            let files = self.io(Files::open(&self.directory, state.meta.generation).await)?;
            let entries = self.io(files.load_vector(&state.meta).await)?;
            let mut working = Working::new(&state.meta, entries);
            if working.is_exact() && !working.is_consistent() && !self.mend(&files, &mut working).await? {
                let reason = "the page vector on disk is damaged: its checksum is not the database's".to_owned();
                return Err(self.quarantine(state, reason).await);
            }
            state.loaded = Some(Loaded { files, working });
            self.publish(state);
        }
        lock(&self.view).used = Instant::now();
        state.loaded.as_mut().ok_or_else(|| self.cancelled())
    }

    /// Makes the vector again from the pages in the files, if these are all right; whether they are.
    pub(super) async fn mend(&self, files: &Files, working: &mut Working) -> Result<bool, ImageError> {
        let Some(page_size) = working.page_size else { return Ok(false) };
        let hashes = self.io(files.hash_pages(page_size, working.page_count).await)?;
        let mended = working.mend(&hashes);
        if mended {
            sometimes("page vector made again from the pages");
            tracing::warn!(image = self.name(), "the page vector was damaged on disk: it is made again from the pages");
        }
        Ok(mended)
    }

    /// As [`Shared::load`], with all of its pages in the files, so that they can be read there.
    pub(super) async fn load_written<'a>(&self, state: &'a mut State) -> Result<&'a mut Loaded, ImageError> {
        self.load(state).await?;
        let State { meta, loaded } = state;
        if let Some(Loaded { files, mut working }) = loaded.take() {
            self.write(meta, &files, &mut working).await?;
            *loaded = Some(Loaded { files, working });
        }
        loaded.as_mut().ok_or_else(|| self.cancelled())
    }

    /// Writes what waits in memory; `meta` says first how far it reaches.
    async fn write(&self, meta: &mut Meta, files: &Files, working: &mut Working) -> Result<(), ImageError> {
        if working.is_dirty() && meta.reach < working.reach() && !mutant("image-reach-not-written") {
            let reaching = Meta { reach: working.reach(), ..meta.clone() };
            self.io(files::write_meta(&self.directory, &reaching).await)?;
            *meta = reaching;
        }
        match working.take_dirty() {
            Some(dirty) => self.io(files.write(dirty).await),
            None => Ok(()),
        }
    }

    /// Marks the image as wrong and gives the error that says so.
    pub(super) async fn quarantine(&self, state: &mut State, reason: String) -> ImageError {
        sometimes("image quarantined");
        tracing::error!(database = %self.database, lineage = %self.lineage, reason, "an image is quarantined");
        metrics::counter!("seawall_image_quarantines_total", "database" => self.database.to_string()).increment(1);
        state.loaded = None;
        state.meta.quarantined = Some(reason.clone());
        if let Err(error) = files::write_meta(&self.directory, &state.meta).await {
            tracing::warn!(%error, "the quarantine of an image is not on disk: it will be found again");
        }
        self.publish(state);
        ImageError::Quarantined { image: self.name(), reason }
    }

    async fn next_generation(&self, meta: &Meta) -> Result<u64, ImageError> {
        Ok(meta.generation.max(self.io(files::newest_generation(&self.directory).await)?) + 1)
    }

    /// Puts another generation of files in place of the current one.
    async fn replace(&self, state: &mut State, meta: Meta, loaded: Option<Loaded>) -> Result<(), ImageError> {
        self.io(files::write_meta(&self.directory, &meta).await)?;
        lock(&self.holds).expire_all();
        *state = State { meta, loaded };
        self.publish(state);
        self.io(files::remove_other_generations(&self.directory, state.meta.generation).await)
    }

    fn publish(&self, state: &State) {
        let working = state.loaded.as_ref().map(|loaded| &loaded.working);
        let mut view = lock(&self.view);
        view.status = status_of(&state.meta, working);
        let is_pending = working.is_some_and(|working| working.position != state.meta.position || working.is_dirty());
        view.pending = Pending {
            since: is_pending.then(|| view.pending.since.unwrap_or_else(Instant::now)),
            bytes: working.map_or(0, Working::dirty_bytes),
        };
        drop(view);
        self.changed.notify_waiters();
    }
}

fn status_of(meta: &Meta, working: Option<&Working>) -> ImageStatus {
    let durable = meta.position.txid;
    let now = working.map_or_else(|| meta.clone(), |working| working.meta(meta.generation));
    ImageStatus {
        position: now.position,
        page_size: now.page_size,
        page_count: now.page_count,
        commit_time_ms: now.commit_time_ms,
        durable,
        quarantined: meta.quarantined.clone(),
    }
}

/// What a mutex guards is whole between any two of our statements, so a panic elsewhere does not spoil it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
