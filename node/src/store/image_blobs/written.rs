//! The copies of images that a node has written down for peers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use seawall_host::disk;
use seawall_host::time::Instant;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::Lineage;
use seawall_proto::v1;
use tokio::sync::Mutex;

use super::file_name;

/// What is written down, and who may write.
#[derive(Default)]
pub(super) struct Written {
    blobs: std::sync::Mutex<BTreeMap<History, Outgoing>>,
}

pub(super) type History = (DatabaseName, Lineage);

struct Outgoing {
    /// One writer at a time for each history; others don't wait for it.
    turn: Arc<Mutex<()>>,
    /// Names the file that is being written.
    number: usize,
    /// The newest that is written down.
    blob: Option<v1::Blob>,
    /// When a peer last asked for it.
    asked: Instant,
}

impl Written {
    fn blobs(&self) -> MutexGuard<'_, BTreeMap<History, Outgoing>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn of a history, and the number of its file.
    pub(super) fn turn(&self, history: &History) -> (Arc<Mutex<()>>, usize) {
        let mut blobs = self.blobs();
        let number = blobs.len();
        let outgoing = blobs.entry(history.clone());
        let outgoing =
            outgoing.or_insert_with(|| Outgoing { turn: Arc::default(), number, blob: None, asked: Instant::now() });
        outgoing.asked = Instant::now();
        (outgoing.turn.clone(), outgoing.number)
    }

    pub(super) fn newest(&self, history: &History) -> Option<v1::Blob> {
        self.blobs().get(history)?.blob.clone()
    }

    /// Puts `blob` in the place of an older one, which it answers.
    pub(super) fn replace(&self, history: &History, blob: v1::Blob) -> Option<v1::Blob> {
        self.blobs().get_mut(history)?.blob.replace(blob)
    }

    /// Gives `blob` away no more: it is damaged on the disk. Its file goes at the next start, or when the same is
    /// written down again.
    pub(super) fn forget(&self, blob: &v1::Blob) {
        for outgoing in self.blobs().values_mut().filter(|outgoing| outgoing.blob.as_ref() == Some(blob)) {
            outgoing.blob = None;
        }
    }

    pub(super) fn named(&self, id: &str) -> Option<v1::Blob> {
        let mut blobs = self.blobs();
        let found = blobs.values_mut().find(|outgoing| outgoing.blob.as_ref().is_some_and(|blob| blob.id == id))?;
        found.asked = Instant::now();
        found.blob.clone()
    }

    /// The turns of what no peer asked for for this long.
    fn idle(&self, keep: Duration) -> Vec<Arc<Mutex<()>>> {
        let all = self.blobs();
        let idle = all.values().filter(|outgoing| outgoing.blob.is_some() && outgoing.asked.elapsed() >= keep);
        idle.map(|outgoing| outgoing.turn.clone()).collect()
    }

    /// What `turn` is for, which is given away no more, if no peer has asked for it meanwhile.
    fn forget_idle(&self, turn: &Arc<Mutex<()>>, keep: Duration) -> Option<v1::Blob> {
        let mut all = self.blobs();
        let outgoing = all.values_mut().find(|outgoing| Arc::ptr_eq(&outgoing.turn, turn))?;
        outgoing.blob.take_if(|_| outgoing.asked.elapsed() >= keep)
    }

    /// Removes the files that no peer asked for for this long.
    pub(super) async fn sweep(&self, directory: &Path, keep: Duration) {
        for turn in self.idle(keep) {
            // Nobody writes the same file meanwhile.
            let Ok(_turn) = turn.try_lock() else { continue };
            if let Some(blob) = self.forget_idle(&turn, keep)
                && let Err(error) = disk::remove_file(&directory.join(file_name(&blob))).await
            {
                tracing::warn!(%error, "a copy of an image that no peer asks for stays until the next start");
            }
        }
    }
}
