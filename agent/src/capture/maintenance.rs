//! Keeping the WAL short without standing in the application's way.

use std::time::Duration;

use seawall_host::probe::mutant;
use seawall_host::time::Instant;

use super::error::{CaptureError, Surprise};
use super::guard::{Capture, Sink};
use super::policy::{Action, SEAL_BYTES, Situation, decide};
use crate::sqlite::{Checkpoint, Snapshot, SqliteError};
use crate::wal::FRAME_HEADER_BYTES;

/// What [`Capture::maintain`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maintained {
    /// Nothing was due.
    Nothing,
    /// The guard moved to read mark 0: the next writer can restart the WAL.
    GaveWay,
    /// Pages were copied into the database.
    Checkpointed,
    /// The write lock was held, and the WAL is free to restart.
    Sealed,
    /// The write lock was held, but too much came or somebody else kept the WAL.
    NotSealed,
    /// The write lock was not to be had: try again in 0.1 to 1 ms.
    Busy,
}

/// Attempts to get a read transaction while the write lock keeps the WAL from changing.
const PIN_ATTEMPTS: u32 = 1000;

impl Capture {
    /// The application committed just now.
    pub fn note_commit(&mut self, now: Instant) {
        self.upkeep.last_commit = now.as_nanos();
    }

    /// Backfill at the next occasion.
    pub fn note_urgent(&mut self) {
        self.upkeep.urgent = true;
    }

    /// Does the one thing that is due for the WAL, if any. Only when caught up. A barrier may capture up to 4 MiB.
    ///
    /// # Errors
    /// [`CaptureError`]; with `Busy` nothing changed.
    pub fn maintain(&mut self, now: Instant, sink: &mut dyn Sink) -> Result<Maintained, CaptureError> {
        if self.target.is_some() || self.on_mark_zero || !self.exact {
            return Ok(Maintained::Nothing);
        }
        if mutant("wal-released-before-captured") {
            self.guard.rollback();
            self.on_mark_zero = true;
            return Ok(Maintained::GaveWay);
        }
        let captured = self.captured();
        let progress = self.spare.progress()?;
        if progress.frames < captured {
            // The guard makes this impossible; the next look says what happened.
            return Ok(Maintained::Nothing);
        }
        let since = |then: u64| Duration::from_nanos(now.as_nanos().saturating_sub(then));
        let situation = Situation {
            captured,
            committed: progress.frames,
            backfilled: progress.backfilled,
            idle: since(self.upkeep.last_commit),
            since_checkpoint: self.upkeep.last_checkpoint.map_or(Duration::MAX, since),
            failed_checkpoints: self.upkeep.failed_checkpoints,
            since_barrier: self.upkeep.last_barrier.map_or(Duration::MAX, since),
            failed_barriers: self.upkeep.failed_barriers,
            urgent: self.upkeep.urgent,
        };
        match decide(&situation) {
            Action::Nothing => Ok(Maintained::Nothing),
            Action::GiveWay => Ok(if self.give_way(progress)? { Maintained::GaveWay } else { Maintained::Nothing }),
            Action::Checkpoint => {
                self.upkeep.last_checkpoint = Some(now.as_nanos());
                let progress = self.spare.checkpoint_passively()?;
                self.upkeep.urgent &= progress.backfilled < captured;
                // If nothing came meanwhile the next writer restarts the WAL, without anybody having waited.
                let gave_way = self.give_way(progress)?;
                let failed = self.upkeep.failed_checkpoints.saturating_add(1);
                self.upkeep.failed_checkpoints = if gave_way { 0 } else { failed };
                Ok(Maintained::Checkpointed)
            }
            Action::Barrier => {
                self.upkeep.last_barrier = Some(now.as_nanos());
                let sealed = self.barrier(sink);
                self.upkeep.failed_barriers =
                    if matches!(sealed, Ok(true)) { 0 } else { self.upkeep.failed_barriers.saturating_add(1) };
                match sealed {
                    Ok(true) => Ok(Maintained::Sealed),
                    Ok(false) => Ok(Maintained::NotSealed),
                    Err(CaptureError::Busy) => Ok(Maintained::Busy),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// The last barrier was busy: it may be tried again at once.
    pub fn retry_barrier(&mut self) {
        self.upkeep.last_barrier = None;
        self.upkeep.failed_barriers = self.upkeep.failed_barriers.saturating_sub(1);
    }

    pub(super) fn captured(&self) -> u32 {
        self.frames.as_ref().and_then(|frames| frames.chain.as_ref()).map_or(0, |chain| chain.frame)
    }

    fn salts(&self) -> Option<[u8; 8]> {
        self.frames.as_ref().and_then(|frames| frames.chain.as_ref()).map(|chain| chain.salts)
    }

    /// Whether a snapshot is exactly what is captured.
    pub(super) fn is_captured(&self, snapshot: Option<Snapshot>) -> bool {
        snapshot.is_some_and(|snapshot| snapshot.max_frame == self.captured() && Some(snapshot.salts) == self.salts())
    }

    /// Moves the guard to read mark 0, if everything is backfilled and captured and nothing came meanwhile.
    fn give_way(&mut self, progress: Checkpoint) -> Result<bool, CaptureError> {
        let captured = self.captured();
        if progress.frames != captured || progress.backfilled != captured {
            return Ok(false);
        }
        // Backfill never goes back within one life of the WAL, so an ordinary reader that sees nothing new sits on mark
        // 0 (or, if a checkpointer held that for a moment, on another, which guards even better).
        let snapshot = self.spare.read_plainly()?;
        if !self.is_captured(snapshot) {
            self.spare.rollback();
            return Ok(false);
        }
        self.guard.rollback();
        std::mem::swap(&mut self.guard, &mut self.spare);
        self.on_mark_zero = true;
        Ok(true)
    }

    /// Holds the write lock, writing nothing, while the last frames are captured and backfilled; answers whether the
    /// WAL can restart now.
    fn barrier(&mut self, sink: &mut dyn Sink) -> Result<bool, CaptureError> {
        self.spare.begin_immediate()?;
        // From here on nothing can be committed and the WAL can't restart, until the spare lets go.
        let sealed = self.seal(sink);
        self.spare.rollback();
        sealed
    }

    fn seal(&mut self, sink: &mut dyn Sink) -> Result<bool, CaptureError> {
        self.guard.rollback();
        self.exact = false;
        let snapshot = insist(|| self.guard.pin())?.ok_or(Surprise::LostGuard)?;
        if Some(snapshot.salts) != self.salts() || snapshot.max_frame < self.captured() {
            return Err(Surprise::LostGuard.into());
        }
        let frame_bytes = FRAME_HEADER_BYTES as u64 + u64::from(self.page_size().bytes());
        if u64::from(snapshot.max_frame - self.captured()) * frame_bytes > SEAL_BYTES {
            return Ok(false);
        }
        let time = self.clock.now();
        while !self.capture_to(&snapshot, time, sink, usize::MAX)? {}
        self.guard.rollback();
        let backfilled = match self.guard.checkpoint_passively() {
            Ok(progress) => progress.backfilled == snapshot.max_frame,
            Err(SqliteError::Busy) => false,
            Err(error) => return Err(error.into()),
        };
        let snapshot = if backfilled { insist(|| self.guard.read_plainly())? } else { insist(|| self.guard.pin())? };
        if !self.is_captured(snapshot) {
            return Err(Surprise::LostGuard.into());
        }
        self.exact = true;
        self.on_mark_zero = backfilled;
        Ok(backfilled)
    }
}

/// Tries again where a lock is missing for an instant, while the write lock is ours: giving up would cost the guard.
fn insist<T>(mut attempt: impl FnMut() -> Result<T, SqliteError>) -> Result<T, CaptureError> {
    for _ in 0..PIN_ATTEMPTS {
        match attempt() {
            Err(SqliteError::Busy) => {}
            outcome => return Ok(outcome?),
        }
    }
    Err(Surprise::LostGuard.into())
}
