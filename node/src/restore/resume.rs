//! Going on where an interrupted restore stopped, and seeing to it that the next one can.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use seawall_host::disk;
use seawall_host::time::Instant;
use seawall_proto::position::Position;

use super::apply::Applier;
use super::checkpoint::Checkpoint;
use super::options::RestoreOptions;
use super::target::Target;

/// Checkpoints are written no more often than that they take a fiftieth of the time.
const COST_FACTOR: u32 = 50;

/// With less than this read, nothing is worth keeping.
const WORTH_BYTES: u64 = 16 << 20;

/// Writes checkpoints of one restore.
pub(super) struct Checkpoints {
    path: PathBuf,
    enabled: bool,
    interval: Duration,
    saved: Option<Position>,
    next: Instant,
    read: u64,
}

impl Checkpoints {
    /// Checkpoints beside the temporary file of `target`, as `options` want them.
    pub(super) fn new(target: &Target, options: &RestoreOptions) -> Self {
        let (enabled, interval) = (options.resume, options.checkpoint_interval);
        Self { path: target.state(), enabled, interval, saved: None, next: Instant::now() + interval, read: 0 }
    }

    /// What an interrupted restore left, if anything of use.
    pub(super) async fn find(&self) -> Option<Checkpoint> {
        if self.enabled { Checkpoint::load(&self.path).await } else { None }
    }

    /// So many bytes more were read.
    pub(super) fn count(&mut self, bytes: u64) {
        self.read += bytes;
    }

    /// The restore goes on from this state, whose checkpoint is there already.
    pub(super) fn resumed(&mut self, position: Position) {
        self.saved = Some(position);
    }

    /// What was built on the last checkpoint turned out to be of no use.
    pub(super) async fn forget(&mut self) {
        self.saved = None;
        self.remove().await;
    }

    /// Writes a checkpoint if it is time.
    pub(super) async fn pass(&mut self, applier: &mut Applier) -> io::Result<()> {
        if !self.enabled || Instant::now() < self.next {
            return Ok(());
        }
        let began = Instant::now();
        self.save(applier).await?;
        self.next = Instant::now() + self.interval.max(began.elapsed() * COST_FACTOR);
        Ok(())
    }

    /// Writes a checkpoint, if the state reached has none and can have one.
    pub(super) async fn save(&mut self, applier: &mut Applier) -> io::Result<()> {
        if let Some(checkpoint) = applier.checkpoint().await?
            && self.saved != Some(checkpoint.position)
        {
            checkpoint.save(&self.path).await?;
            self.saved = Some(checkpoint.position);
        }
        Ok(())
    }

    /// The restore failed: keeps what is worth it. Whether the next one can go on from there.
    pub(super) async fn keep(&mut self, applier: &mut Applier) -> bool {
        if !self.enabled || (self.saved.is_none() && self.read < WORTH_BYTES) {
            return false;
        }
        if let Err(error) = self.save(applier).await {
            tracing::warn!(%error, "the last checkpoint could not be written");
        }
        self.saved.is_some()
    }

    /// Removes the checkpoint: nothing goes on from it any more.
    pub(super) async fn remove(&self) {
        if let Err(error) = disk::remove_file(&self.path).await
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a checkpoint is left");
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}
