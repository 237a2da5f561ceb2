//! The applied state of this node, in memory, and whoever waits for it to change.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::alias::{SnapshotMetaOf, StoredMembershipOf};
use openraft::entry::{EntryPayload, RaftEntry};
use openraft::storage::SnapshotMeta;
use openraft::{ServerState, StoredMembership};
use seawall_host::probe::{mutant, sometimes};
use seawall_host::time;
use seawall_proto::database_name::DatabaseName;

use super::types::{Entry, RaftLogId, Response, TypeConfig};
use crate::state::ClusterState;
use crate::store::log::{LogFile, LogFilePin};
use crate::store::position_log::PositionLog;

/// Consensus as this node last heard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) term: u64,
    pub(super) leader: Option<u64>,
    pub(super) role: ServerState,
}

/// What the applied log has left here, and what was heard of consensus.
pub(super) struct Inner {
    pub(super) cluster: ClusterState,
    pub(super) last_applied: Option<RaftLogId>,
    pub(super) membership: StoredMembershipOf<TypeConfig>,
    pub(super) standing: Standing,
    /// Why this node is not yet a working member, in words.
    pub(super) problem: Option<String>,
    /// A voter said that this node was removed from the cluster.
    pub(super) removed: bool,
    /// Bytes of the log that were applied since the last snapshot.
    pub(super) bytes_since_snapshot: u64,
    /// Whether everyone who needs old entries has pinned them.
    pub(super) released: bool,
    /// Grows with each change.
    counter: u64,
    /// Keep the parts of segments that are not complete yet.
    open: BTreeMap<DatabaseName, LogFilePin>,
    /// Keep what the newest snapshot's state has of such segments: whoever gets the snapshot pulls it from here.
    in_snapshot: Vec<LogFilePin>,
}

/// What belongs to a snapshot that is being built.
#[derive(Default)]
pub(super) struct Captured {
    pins: Vec<LogFilePin>,
    /// Of the log, applied since the last one.
    bytes: u64,
}

/// The live state. Shared by the state machine, which changes it, and everyone who looks at it.
pub(super) struct LiveState {
    inner: Mutex<Inner>,
    changed: tokio::sync::Notify,
    pub(super) positions: PositionLog,
    pub(super) log: LogFile,
}

impl LiveState {
    pub(super) fn new(positions: PositionLog, log: LogFile) -> Self {
        let inner = Inner {
            cluster: ClusterState::default(),
            last_applied: None,
            membership: StoredMembership::default(),
            standing: Standing { term: 0, leader: None, role: ServerState::Learner },
            problem: None,
            removed: false,
            bytes_since_snapshot: 0,
            released: false,
            counter: 1,
            open: BTreeMap::new(),
            in_snapshot: Vec::new(),
        };
        Self { inner: Mutex::new(inner), changed: tokio::sync::Notify::new(), positions, log }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out one committed entry.
    pub(super) fn apply(&self, entry: &Entry) -> Response {
        let id = entry.log_id();
        let mut inner = self.lock();
        let mut answer = None;
        match &entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(membership) => {
                let gone = inner.membership.nodes().map(|(id, _)| *id).filter(|id| membership.get_node(id).is_none());
                let gone: Vec<u64> = gone.collect();
                inner.cluster.retire(gone);
                inner.membership = StoredMembership::new(Some(id), membership.clone());
            }
            EntryPayload::Normal(request) => {
                let len = u32::try_from(request.payload.len()).unwrap_or(u32::MAX);
                let effect = inner.cluster.apply(&request.command, id.index, len);
                if let Some((name, record)) = effect.record {
                    if record.entries.len() > 1 {
                        sometimes("transaction in several parts complete");
                    }
                    self.positions.insert(&name, record, id.index);
                }
                self.keep_open_segment(&mut inner, &request.command);
                inner.bytes_since_snapshot += u64::from(len) + 128;
                answer = Some(effect.applied);
            }
        }
        inner.last_applied = Some(id);
        Response(answer)
    }

    /// Parts that wait for their last one are needed even when nobody else wants this piece of the log.
    fn keep_open_segment(&self, inner: &mut Inner, command: &seawall_proto::v1::Command) {
        use seawall_proto::v1::command::Command;
        let name = match &command.command {
            Some(Command::Append(append)) => append.database.parse::<DatabaseName>(),
            Some(Command::Claim(claim)) => claim.database.parse::<DatabaseName>(),
            Some(Command::Abandon(abandon)) => abandon.database.parse::<DatabaseName>(),
            Some(Command::Progress(_)) | None => return,
        };
        let Ok(name) = name else { return };
        let open = inner.cluster.databases().get(&name).and_then(|database| database.open.as_ref());
        match open.and_then(|open| open.entries.first()) {
            None => {
                let open = inner.open.remove(&name);
                if open.is_some() && matches!(command.command, Some(Command::Claim(_))) {
                    sometimes("transaction in parts cut off by a claim");
                }
            }
            Some(_) if mutant("open-transaction-not-pinned") => {}
            Some(&first) => {
                let pin = inner.open.entry(name).or_insert_with(|| self.log.pin(first, "a segment in parts"));
                pin.advance(first);
            }
        }
    }

    /// Puts what a snapshot says in the place of everything.
    pub(super) fn replace(&self, meta: &SnapshotMetaOf<TypeConfig>, cluster: ClusterState) {
        let mut inner = self.lock();
        let open = first_parts(&cluster).map(|(name, first)| (name.clone(), self.log.pin(first, "a segment in parts")));
        inner.open = open.collect();
        inner.in_snapshot = self.pin_for_snapshot(&cluster);
        inner.cluster = cluster;
        inner.last_applied = meta.last_log_id;
        inner.membership = meta.last_membership.clone();
        inner.bytes_since_snapshot = 0;
        drop(inner);
        self.wake();
    }

    /// A copy of the state, for a snapshot, and what belongs to it.
    pub(super) fn capture(&self) -> (SnapshotMetaOf<TypeConfig>, ClusterState, Captured) {
        let inner = self.lock();
        let membership = inner.membership.clone();
        let last_membership = if mutant("snapshot-without-membership") { Default::default() } else { membership };
        let meta = SnapshotMeta { last_log_id: inner.last_applied, last_membership };
        let captured = Captured { pins: self.pin_for_snapshot(&inner.cluster), bytes: inner.bytes_since_snapshot };
        (meta, inner.cluster.clone(), captured)
    }

    /// The snapshot of what was captured is the newest: what belongs to it is kept until the next one.
    pub(super) fn saved(&self, captured: Captured) {
        let mut inner = self.lock();
        inner.bytes_since_snapshot = inner.bytes_since_snapshot.saturating_sub(captured.bytes);
        let older = std::mem::replace(&mut inner.in_snapshot, captured.pins);
        drop(inner);
        drop(older);
    }

    fn pin_for_snapshot(&self, cluster: &ClusterState) -> Vec<LogFilePin> {
        first_parts(cluster).map(|(_, first)| self.log.pin(first, "the newest snapshot")).collect()
    }

    /// Bytes of the log that stay only because segments were open when the newest snapshot was taken, and are not any
    /// more: another snapshot lets them go.
    pub(super) fn ended_bytes(&self) -> u64 {
        let inner = self.lock();
        let Some(kept) = inner.in_snapshot.iter().map(LogFilePin::from).min() else { return 0 };
        let open = inner.open.values().map(LogFilePin::from).min();
        let needed = open.unwrap_or_else(|| inner.last_applied.map_or(0, |id| id.index));
        self.log.bytes_from(kept).saturating_sub(self.log.bytes_from(needed))
    }

    /// Takes note of what consensus says of itself.
    pub(super) fn set_standing(&self, standing: Standing) {
        let mut inner = self.lock();
        if inner.standing != standing {
            inner.standing = standing;
            drop(inner);
            self.wake();
        }
    }

    /// Takes note of why this node does not work yet.
    pub(super) fn set_problem(&self, problem: Option<String>) {
        let mut inner = self.lock();
        if inner.problem != problem && !inner.removed {
            if let Some(problem) = &problem {
                tracing::info!("{problem}");
            }
            inner.problem = problem;
            drop(inner);
            self.wake();
        }
    }

    /// Takes note that `node`, which is this one, is no member any more.
    pub(super) fn set_removed(&self, node: u64) {
        let mut inner = self.lock();
        if inner.removed {
            return;
        }
        let problem = format!(
            "node {node} was removed from the cluster: stop it, its data directory is of no use any more (to bring it \
             back, empty the directory, start it, and add it)"
        );
        tracing::error!("{problem}");
        inner.removed = true;
        inner.problem = Some(problem);
        drop(inner);
        self.wake();
    }

    /// Wakes whoever waits for a change.
    pub(super) fn wake(&self) {
        self.lock().counter += 1;
        self.changed.notify_waiters();
    }

    /// Completes once there was a change after `seen`; answers the new counter.
    pub(super) async fn changed(&self, seen: u64) -> u64 {
        loop {
            let mut notified = pin!(self.changed.notified());
            notified.as_mut().enable();
            let counter = self.lock().counter;
            if counter > seen {
                return counter;
            }
            notified.await;
        }
    }

    /// Waits until `condition` holds; false if `limit` passed first.
    pub(super) async fn wait(&self, limit: Duration, condition: impl Fn(&Inner) -> bool + Send) -> bool {
        let met = async {
            let mut seen = 0;
            loop {
                seen = self.changed(seen).await;
                if condition(&self.lock()) {
                    return;
                }
            }
        };
        time::timeout(limit, met).await.is_ok()
    }

    /// Everything up to this index is applied, and synced on this node.
    pub(super) fn settled(&self) -> u64 {
        let applied = self.lock().last_applied.map_or(0, |id| id.index);
        let purged = self.log.state().purged.map_or(0, |id| id.index);
        applied.min(self.log.synced().map_or(0, |id| id.index).max(purged))
    }
}

/// The entries with the first parts of segments that are not complete.
fn first_parts(cluster: &ClusterState) -> impl Iterator<Item = (&DatabaseName, u64)> {
    let first =
        |(name, database): (_, &crate::state::DatabaseState)| Some((name, *database.open.as_ref()?.entries.first()?));
    cluster.databases().iter().filter_map(first)
}
