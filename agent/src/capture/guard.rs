//! The guard and the pin, and how they take turns.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use seawall_host::local::{self, Identity};
use seawall_host::probe::{mutant, sometimes};
use seawall_host::time::UnixMillis;
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{PageNumber, PageSize};
use seawall_proto::segment::EncodeError;
use seawall_proto::v1::WalPosition;

use super::error::{CaptureError, OpenError, Surprise};
use super::frames::{Chain, Frames};
use super::policy::Upkeep;
use super::vector::PageVector;
use crate::cluster_clock::ClusterClock;
use crate::sqlite::{Connection, Snapshot};
use crate::wal::{FRAME_HEADER_BYTES, WalFile};

/// Where captured transactions go.
pub trait Sink {
    /// `transactions` transactions follow that belong into one segment.
    ///
    /// # Errors
    /// The encoder's.
    fn begin(&mut self, transactions: u32) -> Result<(), EncodeError>;
    /// A page of the open transaction; the last of several versions counts.
    ///
    /// # Errors
    /// The encoder's.
    fn page(&mut self, page: PageNumber, bytes: &[u8]) -> Result<(), EncodeError>;
    /// The open transaction ends; `time` is an upper bound of when it was committed.
    ///
    /// # Errors
    /// The encoder's.
    fn commit(&mut self, page_count: u32, time: UnixMillis, checksum_after: Checksum) -> Result<(), EncodeError>;
    /// All transactions that [`Sink::begin`] announced have ended; the last one's commit frame stands at `wal`.
    ///
    /// # Errors
    /// The encoder's.
    fn end(&mut self, wal: Option<WalPosition>) -> Result<(), EncodeError>;
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing was committed since the last look.
    Nothing,
    /// Something was: it is pinned, and [`Capture::advance`] captures it.
    Found,
}

/// How far capturing what a look found has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Call again.
    More,
    /// All that the last look found is captured.
    CaughtUp,
}

/// What [`Capture::resume`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// The WAL went on from the recorded frame: nothing is missing.
    Continued,
    /// The WAL is another one by now: compare.
    OtherWal,
    /// The same WAL, but without the recorded frame: the source lost its tail, as after a power cut with
    /// `synchronous=NORMAL`. Compare.
    LostTail,
}

/// The capture of one database.
pub struct Capture {
    pub(super) path: PathBuf,
    pub(super) wal_path: PathBuf,
    pub(super) identity: Identity,
    /// Holds a read transaction at all times: on a read mark at or behind what is captured, or on mark 0.
    pub(super) guard: Connection,
    /// Takes the next pin, checkpoints.
    pub(super) spare: Connection,
    /// Whether the guard sits on read mark 0: that keeps the WAL from being backfilled, but not from restarting once.
    pub(super) on_mark_zero: bool,
    /// Whether the guard's snapshot is exactly what is captured.
    pub(super) exact: bool,
    pub(super) frames: Option<Frames>,
    pub(super) vector: PageVector,
    /// Where commit times come from.
    pub(super) clock: Arc<ClusterClock>,
    /// The spare's pin while it is being captured, and when it was taken.
    pub(super) target: Option<(Snapshot, UnixMillis)>,
    pub(super) last_commit_time: UnixMillis,
    pub(super) upkeep: Upkeep,
}

fn cannot_look(path: &Path, cause: std::io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), cause }
}

impl Capture {
    /// Opens the database at `path`. Nothing is guarded yet. Commit times come from `clock`.
    ///
    /// # Errors
    /// [`OpenError`]: no such file, not in WAL mode, locked exclusively.
    pub fn open(path: &Path, clock: Arc<ClusterClock>) -> Result<Self, OpenError> {
        let look = || local::stat(path).map_err(|cause| cannot_look(path, cause));
        let before = look()?;
        let (guard, spare) = (Connection::open(path)?, Connection::open(path)?);
        let mode = guard.journal_mode()?;
        if mode != "wal" {
            return Err(OpenError::NotWal { path: path.to_owned(), mode });
        }
        let page_size = guard.page_size()?;
        let missing = || crate::sqlite::SqliteError::Missing { path: path.to_owned() };
        let identity = look()?.ok_or_else(missing)?.identity;
        if before.map(|stat| stat.identity) != Some(identity) {
            // Both connections must have opened this very file.
            return Err(cannot_look(path, std::io::Error::other("it was replaced just now")));
        }
        // SQLite puts the WAL beside the file that symbolic links lead to.
        let mut wal_path = guard.file().unwrap_or(path).as_os_str().to_owned();
        wal_path.push("-wal");
        Ok(Self {
            path: path.to_owned(),
            wal_path: wal_path.into(),
            identity,
            guard,
            spare,
            on_mark_zero: false,
            exact: false,
            frames: None,
            vector: PageVector::empty(page_size),
            clock,
            target: None,
            last_commit_time: UnixMillis(i64::MIN),
            upkeep: Upkeep::default(),
        })
    }

    /// The database's page size.
    pub fn page_size(&self) -> PageSize {
        self.vector.page_size()
    }

    /// The path of the WAL.
    pub fn wal_path(&self) -> &Path {
        &self.wal_path
    }

    /// The hashes of what is captured.
    pub fn vector(&self) -> &PageVector {
        &self.vector
    }

    /// Whether what the last look found is still being captured.
    pub fn is_advancing(&self) -> bool {
        self.target.is_some()
    }

    /// Which file the database is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether the application could restart the WAL right now.
    pub fn gives_way(&self) -> bool {
        self.on_mark_zero
    }

    /// Takes the guard: from here on nothing is committed unnoticed. What is captured so far is what the guard sees,
    /// but no page of it is known yet: [`Capture::resume`] or resync.
    ///
    /// # Errors
    /// [`CaptureError`].
    pub fn attach(&mut self) -> Result<(), CaptureError> {
        self.guard.rollback();
        let snapshot = self.guard.pin()?;
        self.check_identity()?;
        let wal = WalFile::open(&self.wal_path).map_err(|cause| self.unreadable(cause))?;
        let page_size = self.page_size();
        let mut frames = Frames::new(wal, page_size);
        let mut page_count = None;
        self.on_mark_zero = true;
        if let Some(snapshot) = snapshot {
            let mut chain = Chain::before_first_frame(snapshot.salts);
            if snapshot.max_frame > 0 {
                self.on_mark_zero = false;
                page_count = Some(snapshot.page_count);
                chain = frames.chain_at(&snapshot, &self.wal_path)?;
            }
            frames.chain = Some(chain);
        }
        let page_count = match page_count {
            Some(count) => count,
            None => self.guard.page_count()?,
        };
        self.frames = Some(frames);
        self.vector = PageVector::unknown(page_size, page_count);
        self.exact = true;
        self.target = None;
        Ok(())
    }

    /// Goes on from where an earlier life of the agent ended, if the WAL proves that nothing is missing: the same
    /// salts, and the very frame recorded, bytes for bytes. `vector` is the state recorded there.
    ///
    /// If it can't, resync.
    ///
    /// # Errors
    /// [`CaptureError`].
    pub fn resume(&mut self, recorded: &WalPosition, vector: &PageVector) -> Result<Resumption, CaptureError> {
        let page_size = self.page_size();
        let (Some(frames), true) = (&mut self.frames, vector.page_size() == page_size) else {
            return Ok(Resumption::OtherWal);
        };
        let Some(chain) = &mut frames.chain else { return Ok(Resumption::OtherWal) };
        let mut salts = [0; 8];
        salts[..4].copy_from_slice(&recorded.salt1.to_be_bytes());
        salts[4..].copy_from_slice(&recorded.salt2.to_be_bytes());
        if chain.salts != salts {
            if mutant("resume-on-changed-salts") {
                self.vector = vector.clone();
                return Ok(Resumption::Continued);
            }
            return Ok(Resumption::OtherWal);
        }
        if recorded.frame > chain.frame {
            if mutant("lost-tail-not-noticed") {
                self.vector = vector.clone();
                return Ok(Resumption::Continued);
            }
            return Ok(Resumption::LostTail);
        }
        if recorded.frame == 0 {
            if recorded.frame < chain.frame {
                *chain = Chain::before_first_frame(salts);
                self.exact = false;
            }
        } else {
            let Ok(header) = <[u8; FRAME_HEADER_BYTES]>::try_from(&recorded.frame_header[..]) else {
                return Ok(Resumption::OtherWal);
            };
            let found = frames.wal.frame_header_bytes(page_size, recorded.frame);
            let found =
                found.map_err(|cause| CaptureError::Unusable(OpenError::Io { path: self.wal_path.clone(), cause }))?;
            if found != Some(header) {
                return Ok(Resumption::LostTail);
            }
            self.exact = recorded.frame == chain.frame;
            frames.rewind_to(recorded.frame, header);
        }
        self.vector = vector.clone();
        Ok(Resumption::Continued)
    }

    /// Where in the WAL the last captured commit stands; `None` if the WAL was never written.
    pub fn position(&self) -> Option<WalPosition> {
        Some(self.frames.as_ref()?.chain.as_ref()?.position())
    }

    /// Commit times never go below this one.
    pub fn floor_commit_time(&mut self, time: UnixMillis) {
        self.last_commit_time = self.last_commit_time.max(time);
    }

    /// Looks whether anything was committed, and if so pins it. Only when caught up.
    ///
    /// # Errors
    /// [`CaptureError`]; with `Busy` nothing changed.
    pub fn look(&mut self) -> Result<Look, CaptureError> {
        if self.target.is_some() {
            return Ok(Look::Found);
        }
        self.check_identity()?;
        let snapshot = self.spare.pin()?;
        let found = self.place(snapshot);
        match found {
            Ok(Some(snapshot)) => {
                // Read after the pin: an upper bound of when any of it was committed.
                self.target = Some((snapshot, self.clock.now()));
                if self.on_mark_zero {
                    // The pin guards better: behind a reader on mark 0 nothing can be backfilled.
                    self.guard.rollback();
                    self.on_mark_zero = false;
                    self.exact = false;
                }
                Ok(Look::Found)
            }
            Ok(None) => {
                self.spare.rollback();
                Ok(Look::Nothing)
            }
            Err(surprise) => {
                self.spare.rollback();
                Err(surprise.into())
            }
        }
    }

    /// Holds a new pin against what is captured: the pin if there is something new in it.
    fn place(&mut self, snapshot: Option<Snapshot>) -> Result<Option<Snapshot>, Surprise> {
        let frames = self.frames.as_mut().ok_or(Surprise::LostGuard)?;
        // Nothing is committed in the WAL: it restarted under a guard on mark 0, or was never written.
        let Some(snapshot) = snapshot.filter(|snapshot| snapshot.max_frame > 0) else {
            return if self.on_mark_zero { Ok(None) } else { Err(Surprise::LostGuard) };
        };
        match &frames.chain {
            Some(chain) if chain.salts == snapshot.salts => match snapshot.max_frame.cmp(&chain.frame) {
                std::cmp::Ordering::Less => Err(Surprise::LostGuard),
                // A WAL that was recovered short of what is captured may have grown to the same length again.
                std::cmp::Ordering::Equal if !chain.ends_as(&snapshot) => Err(Surprise::LostGuard),
                std::cmp::Ordering::Equal => Ok(None),
                std::cmp::Ordering::Greater => Ok(Some(snapshot)),
            },
            // A guard on mark 0 allows one restart; all that was before it is captured.
            _ if self.on_mark_zero => {
                sometimes("WAL restarted by the application");
                frames.restart(snapshot.salts);
                Ok(Some(snapshot))
            }
            _ => Err(Surprise::LostGuard),
        }
    }

    /// Leaves read mark 0, because nothing will be captured for a while: behind a reader there the application's
    /// checkpoints get nowhere, each of its commits tries one, and all become slow.
    ///
    /// # Errors
    /// [`CaptureError`]; with `Busy` nothing changed.
    pub fn stand_guard(&mut self) -> Result<(), CaptureError> {
        if !self.on_mark_zero || self.look()? == Look::Found {
            return Ok(());
        }
        // A WAL without frames has no other mark: the first commit is the next occasion.
        let snapshot = self.spare.pin()?;
        if snapshot.is_some_and(|snapshot| snapshot.max_frame > 0) && self.is_captured(snapshot) {
            self.guard.rollback();
            std::mem::swap(&mut self.guard, &mut self.spare);
            self.on_mark_zero = false;
        } else {
            self.spare.rollback();
        }
        Ok(())
    }

    /// Captures the next frames of what the last look found, about `budget` bytes of them. Once caught up, the pin has
    /// become the guard.
    ///
    /// # Errors
    /// [`CaptureError`], never `Busy`.
    pub fn advance(&mut self, sink: &mut dyn Sink, budget: usize) -> Result<Progress, CaptureError> {
        let Some((snapshot, time)) = self.target else { return Ok(Progress::CaughtUp) };
        if !self.capture_to(&snapshot, time, sink, budget)? {
            return Ok(Progress::More);
        }
        self.guard.rollback();
        std::mem::swap(&mut self.guard, &mut self.spare);
        self.target = None;
        self.on_mark_zero = false;
        self.exact = true;
        Ok(Progress::CaughtUp)
    }

    /// Captures up to `snapshot`, which one of the connections holds; answers whether all of it is done.
    pub(super) fn capture_to(
        &mut self,
        snapshot: &Snapshot,
        time: UnixMillis,
        sink: &mut dyn Sink,
        budget: usize,
    ) -> Result<bool, CaptureError> {
        self.last_commit_time = self.last_commit_time.max(time);
        let frames = self.frames.as_mut().ok_or(Surprise::LostGuard)?;
        frames.capture_to(snapshot, &self.wal_path, &mut self.vector, self.last_commit_time, sink, budget)
    }

    /// Whether frames follow in the WAL that are not committed (yet): a commit may be about to show.
    pub fn frames_pending(&self) -> bool {
        let Some(frames) = &self.frames else { return false };
        let Some(chain) = &frames.chain else { return false };
        // Under a guard on mark 0 a writer may have restarted the WAL.
        let restarted = match frames.wal.header() {
            Ok(Ok(header)) if header.salts != chain.salts => Some(header.salts),
            _ => None,
        };
        let next = restarted.map_or(chain.frame.saturating_add(1), |_| 1);
        let salts = restarted.unwrap_or(chain.salts);
        let found = frames.wal.frame_header(self.page_size(), next);
        matches!(found, Ok(Some(header)) if header.salts == salts)
    }

    /// Gives `visit` the pages from `first` on, as they are in the state that is captured, until it answers false or
    /// the database ends; answers whether that was possible (it is whenever capture has caught up once). The lock page
    /// is left out.
    ///
    /// # Errors
    /// [`CaptureError`].
    pub fn read_pages(
        &self,
        first: PageNumber,
        visit: impl FnMut(PageNumber, &[u8]) -> bool,
    ) -> Result<bool, CaptureError> {
        if !self.exact {
            return Ok(false);
        }
        let lock_page = self.page_size().lock_page();
        let pages = (first.0.max(1)..=self.vector.page_count()).map(PageNumber).filter(|page| *page != lock_page);
        self.guard.pages(pages, visit)?;
        Ok(true)
    }

    /// The SQLite version that wrote the database last (bytes 96 to 99 of its first page); `None` if not known now.
    ///
    /// # Errors
    /// [`CaptureError`].
    pub fn last_writer(&self) -> Result<Option<u32>, CaptureError> {
        let mut version = None;
        self.read_pages(PageNumber(1), |_, bytes| {
            version = bytes.get(96..).and_then(|bytes| bytes.first_chunk()).map(|bytes| u32::from_be_bytes(*bytes));
            false
        })?;
        Ok(version)
    }

    /// Compares the next `count` pages from `first` on with what was captured; answers where to go on, `None` at the
    /// end. Catches what bypassed the WAL.
    ///
    /// # Errors
    /// [`Surprise::PageDiffers`], or [`CaptureError`].
    pub fn scrub(&self, first: PageNumber, count: u32) -> Result<Option<PageNumber>, CaptureError> {
        let mut differs = None;
        let mut next = None;
        let mut left = count;
        let read = self.read_pages(first, |page, bytes| {
            if left == 0 {
                next = Some(page);
                return false;
            }
            left -= 1;
            if Checksum::of_page(page, bytes).0 != self.vector.get(page) {
                differs = Some(page);
            }
            differs.is_none()
        })?;
        match differs {
            Some(page) => Err(Surprise::PageDiffers(page).into()),
            None if read => Ok(next),
            None => Ok(Some(first)),
        }
    }

    /// That the files at the paths are still those that were opened.
    fn check_identity(&self) -> Result<(), CaptureError> {
        if mutant("replaced-database-not-noticed") {
            return Ok(());
        }
        let unreadable = |path: &Path, cause| CaptureError::Unusable(cannot_look(path, cause));
        let stat = local::stat(&self.path).map_err(|cause| unreadable(&self.path, cause))?;
        if stat.map(|stat| stat.identity) != Some(self.identity) {
            return Err(Surprise::DatabaseReplaced.into());
        }
        if let Some(frames) = &self.frames {
            let stat = local::stat(&self.wal_path).map_err(|cause| unreadable(&self.wal_path, cause))?;
            let open = frames.wal.identity().map_err(|cause| unreadable(&self.wal_path, cause))?;
            if stat.map(|stat| stat.identity) != Some(open) {
                return Err(Surprise::WalReplaced.into());
            }
        }
        Ok(())
    }

    fn unreadable(&self, cause: std::io::Error) -> CaptureError {
        CaptureError::Unusable(cannot_look(&self.wal_path, cause))
    }
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture").field("path", &self.path).field("on_mark_zero", &self.on_mark_zero).finish()
    }
}
