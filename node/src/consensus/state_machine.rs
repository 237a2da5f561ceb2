//! The state machine that consensus drives: the live state in memory, snapshots on disk.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::alias::{SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta};
use seawall_host::probe::{mutant, sometimes};
use seawall_host::{task, time};

use super::live_state::{Captured, LiveState};
use super::snapshot::{self, SnapshotFile};
use super::types::{RaftLogId, TypeConfig};
use crate::state::ClusterState;

/// Entries applied before whoever waits for a change is woken.
const WAKE_EVERY: usize = 64;

/// While the disk is full, the leader's state is tried to be written down this often: an error would end consensus.
const RETRY_WHEN_FULL: Duration = Duration::from_secs(1);

/// How late the deliberate defects do what they should have done at once.
const LATE: Duration = Duration::from_millis(100);

/// The state machine of a node.
pub(super) struct StateMachine {
    live: Arc<LiveState>,
    file: Arc<SnapshotFile>,
}

impl StateMachine {
    pub(super) fn new(live: Arc<LiveState>, file: Arc<SnapshotFile>) -> Self {
        Self { live, file }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<RaftLogId>, StoredMembershipOf<TypeConfig>)> {
        let inner = self.live.lock();
        Ok((inner.last_applied, inner.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        let mut since_woken = 0;
        let mut outcome = Ok(());
        while let Some(next) = entries.next().await {
            let (entry, responder) = match next {
                Ok(next) => next,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            };
            let response = self.live.apply(&entry);
            if let Some(responder) = responder {
                responder.send(response);
            }
            since_woken += 1;
            if since_woken % WAKE_EVERY == 0 {
                self.live.wake();
            }
        }
        self.live.wake();
        outcome
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let (meta, cluster, captured) = self.live.capture();
        Builder { live: self.live.clone(), file: self.file.clone(), meta, cluster, captured }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<TypeConfig>, data: Bytes) -> io::Result<()> {
        let manifest = snapshot::decode(data.clone()).map_err(io::Error::other)?;
        sometimes("snapshot installed");
        // The file before the position log: that one is built again from it.
        loop {
            match self.file.save(meta, &data).await {
                Err(error) if is_full(&error) => {
                    tracing::error!(%error, "a state from the leader is taken in once there is room");
                    time::sleep(RETRY_WHEN_FULL).await;
                }
                Ok(_) => break,
                Err(error) => return Err(error),
            }
        }
        let index = meta.last_log_id.map_or(0, |id| id.index);
        self.live.positions.load(index, manifest.records).await.map_err(io::Error::other)?;
        self.live.replace(meta, manifest.cluster);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<TypeConfig, Bytes>>> {
        match self.file.load().await {
            // At the start nothing but the file has the state; later all of it is here.
            Err(error) if error.kind() == io::ErrorKind::InvalidData && self.live.lock().last_applied.is_some() => {
                tracing::warn!(%error, "the state is written down again; check the disk");
                self.get_snapshot_builder().await.build_again().await.map(Some)
            }
            other => other,
        }
    }
}

/// Builds one snapshot of the state as it was when the builder was made.
pub(super) struct Builder {
    live: Arc<LiveState>,
    file: Arc<SnapshotFile>,
    meta: SnapshotMetaOf<TypeConfig>,
    cluster: ClusterState,
    captured: Captured,
}

impl Builder {
    async fn encode(&self) -> io::Result<Bytes> {
        let index = self.meta.last_log_id.map_or(0, |id| id.index);
        let held_from = self.live.log.first_held().unwrap_or(0);
        snapshot::encode(index, self.cluster.clone(), self.live.positions.clone(), held_from).await
    }

    /// Builds one in the place of the file's, which cannot be read. It serves where it cannot be written.
    async fn build_again(mut self) -> io::Result<SnapshotOf<TypeConfig, Bytes>> {
        let data = self.encode().await?;
        match self.file.replace(&self.meta, &data).await {
            Ok(true) => self.live.saved(std::mem::take(&mut self.captured)),
            Ok(false) => {}
            Err(error) if is_full(&error) => tracing::warn!(%error, "the state is not written down"),
            Err(error) => return Err(error),
        }
        Ok(Snapshot { meta: self.meta, snapshot: data })
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, Bytes>> {
        sometimes("snapshot of the Raft state built");
        if mutant("apply-not-atomic") {
            time::sleep(LATE).await;
            self.cluster = self.live.lock().cluster.clone();
        }
        let data = self.encode().await?;
        if mutant("purge-before-snapshot") {
            let (file, meta, data) = (self.file.clone(), self.meta.clone(), data.clone());
            task::spawn(async move {
                time::sleep(LATE * 20).await;
                let _ = file.save(&meta, &data).await;
            });
        } else {
            match self.file.save(&self.meta, &data).await {
                Ok(true) => self.live.saved(std::mem::take(&mut self.captured)),
                Ok(false) => {}
                Err(error) if is_full(&error) => {
                    tracing::warn!(%error, "the state is not written down: the log stays as long as it is until there is room");
                    // Older than any other: it is taken for no progress. An error would end consensus.
                    return Ok(Snapshot { meta: SnapshotMeta::default(), snapshot: Bytes::new() });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Snapshot { meta: self.meta.clone(), snapshot: data })
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
