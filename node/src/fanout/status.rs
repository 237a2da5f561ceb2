//! How the lanes stand.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use seawall_host::time::{Instant, UnixMillis};
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::Txid;
use tokio::sync::Notify;

use super::Pin;
use super::metrics::LaneMetrics;

/// How one database's way to one destination goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneState {
    /// What is waiting is not older than it should be.
    Healthy,
    /// Uploads succeed, but what is waiting is older than three times the upload interval.
    Lagging,
    /// The last attempt failed; it is tried again, for ever.
    Failing,
    /// It outgrew its share of the disk, so no log is kept for it any more: it goes on from a snapshot, which is tried
    /// for ever. Transactions between its watermark and that snapshot will not be there.
    Detached,
}

impl LaneState {
    /// As status and metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Lagging => "lagging",
            Self::Failing => "failing",
            Self::Detached => "detached",
        }
    }
}

/// One database at one destination, as the leader sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneStatus {
    /// Whose data.
    pub database: DatabaseName,
    /// Where it goes.
    pub destination: String,
    /// How it goes.
    pub state: LaneState,
    /// What can be rebuilt from there, as far as this leader knows.
    pub watermark: Txid,
    /// Transactions not yet there.
    pub lag_txids: u64,
    /// How long the oldest transaction not yet there has been waiting, as far as this leader knows; 0 if none is.
    pub lag_seconds: f64,
    /// Encoded bytes of the window that is collected or uploaded next.
    pub window_bytes: u64,
    /// What went wrong last, if the last attempt failed.
    pub last_error: Option<String>,
    /// When an upload last succeeded under this leader.
    pub last_success: Option<UnixMillis>,
    /// Bytes of log that are kept for it, those of other databases among them.
    pub backlog_bytes: u64,
}

/// What a lane's task tells of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Progressing {
    pub(super) watermark: Txid,
    pub(super) head: Txid,
    pub(super) pending_since: Option<Instant>,
    pub(super) window_bytes: u64,
    pub(super) window_error: Option<String>,
    pub(super) merge_error: Option<String>,
    pub(super) last_success: Option<UnixMillis>,
    /// When the first head came that the lane has not looked at yet.
    pub(super) unseen_since: Option<Instant>,
    /// Someone waits for this txid.
    pub(super) close_to: Txid,
    /// Someone began to wait since the lane last looked.
    pub(super) asked: bool,
    /// A fresh snapshot at this txid or later is wanted: nothing else there leads to it any more.
    pub(super) snapshot_wanted: Option<Txid>,
    /// A window is on its way.
    pub(super) uploading: bool,
    /// The cluster detached it.
    pub(super) detached: bool,
    /// Bytes of log that are kept for it.
    pub(super) backlog_bytes: u64,
}

/// The log behind a snapshot that is on its way, or that the cluster does not know of yet: what the destination goes on
/// with.
struct Resumption {
    txid: Txid,
    pin: Box<dyn Pin>,
    /// Ends the snapshot.
    give_up: Arc<Notify>,
}

/// What a lane's task shares with the rest of the node.
pub(super) struct LaneBoard {
    pub(super) database: DatabaseName,
    pub(super) destination: String,
    pub(super) upload_interval: Duration,
    pub(super) wake: Notify,
    pub(super) metrics: LaneMetrics,
    state: Mutex<Progressing>,
    resumption: Mutex<Option<Resumption>>,
}

impl Drop for LaneBoard {
    fn drop(&mut self) {
        // Another node leads: what this one knew last must not alarm anybody.
        self.metrics.ended();
    }
}

impl LaneBoard {
    pub(super) fn new(database: DatabaseName, destination: String, upload_interval: Duration) -> Self {
        let metrics = LaneMetrics::new(database.as_str(), &destination);
        Self {
            database,
            destination,
            upload_interval,
            wake: Notify::new(),
            metrics,
            state: Mutex::default(),
            resumption: Mutex::default(),
        }
    }

    /// What the lane tells, to be read and written.
    pub(super) fn state(&self) -> MutexGuard<'_, Progressing> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the lane of a new head; its task may be busy with an upload that takes long.
    pub(super) fn head_is(&self, head: Txid) {
        let mut state = self.state();
        state.head = head;
        if head > state.watermark {
            let now = Instant::now();
            state.pending_since.get_or_insert(now);
            state.unseen_since.get_or_insert(now);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Shows in the metrics how the lane stands.
    pub(super) fn publish(&self) {
        self.metrics.stands(&self.status(Instant::now()));
    }

    /// Asks for `txid` to be uploaded without waiting for the window to fill.
    pub(super) fn close(&self, txid: Txid) {
        let mut state = self.state();
        state.close_to = state.close_to.max(txid);
        state.asked = true;
        drop(state);
        self.wake.notify_one();
    }

    /// Asks for a snapshot of what the destination should have, whenever the last one was.
    pub(super) fn want_snapshot(&self) {
        let mut state = self.state();
        state.snapshot_wanted = Some(state.watermark.max(Txid(1)));
        drop(state);
        self.wake.notify_one();
    }

    fn resumption(&self) -> MutexGuard<'_, Option<Resumption>> {
        self.resumption.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A snapshot at `txid` is on its way: `pin` keeps what follows it. Whoever uploads it waits for `give_up`.
    pub(super) fn resumes_behind(&self, txid: Txid, pin: Box<dyn Pin>, give_up: Arc<Notify>) {
        *self.resumption() = Some(Resumption { txid, pin, give_up });
    }

    /// Nothing is gone on with: the snapshot failed, or no gap was behind it.
    pub(super) fn resumes_nowhere(&self) {
        let ended = self.resumption().take();
        drop(ended);
    }

    /// Takes note of what the cluster decreed.
    pub(super) fn is_detached(&self, detached: bool) {
        let changed = std::mem::replace(&mut self.state().detached, detached) != detached;
        if changed {
            self.wake.notify_one();
        }
    }

    /// The cluster knows that the destination has everything up to `watermark`, and keeps what follows.
    pub(super) fn kept_from(&self, watermark: Txid) {
        let ended = self.resumption().take_if(|resumption| resumption.txid <= watermark);
        drop(ended);
    }

    /// Gives a snapshot up behind which more than `limit` bytes of log gathered meanwhile: while it lasts, neither they
    /// nor the image's own get less.
    pub(super) fn bound_resumption(&self, limit: u64) {
        let outgrown = self.resumption().take_if(|resumption| resumption.pin.bytes() > limit);
        if let Some(outgrown) = outgrown {
            outgrown.give_up.notify_one();
        }
    }

    /// How the lane stands now.
    pub(super) fn status(&self, now: Instant) -> LaneStatus {
        let state = self.state().clone();
        let waiting = state.pending_since.map_or(Duration::ZERO, |since| now - since);
        let last_error = state.window_error.or(state.merge_error);
        let condition = if state.detached {
            LaneState::Detached
        } else if last_error.is_some() {
            LaneState::Failing
        } else if waiting > 3 * self.upload_interval {
            LaneState::Lagging
        } else {
            LaneState::Healthy
        };
        LaneStatus {
            database: self.database.clone(),
            destination: self.destination.clone(),
            state: condition,
            watermark: state.watermark,
            lag_txids: state.head.0.saturating_sub(state.watermark.0),
            lag_seconds: waiting.as_secs_f64(),
            window_bytes: state.window_bytes,
            last_error,
            last_success: state.last_success,
            backlog_bytes: state.backlog_bytes,
        }
    }
}
