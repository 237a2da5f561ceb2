//! What goes on beside consensus: telling of its state, writing the position log, keeping the log short.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;
use seawall_host::{process, time};

use super::Raft;
use super::live_state::{LiveState, Standing};
use super::payloads::Payloads;

/// How far behind the map of the position log may be.
const WRITE_EVERY: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long after an attempt to write the state down the next one begins, if that one has brought nothing.
const SNAPSHOT_RETRY: Duration = Duration::from_secs(10);
const LAST_WORD: Duration = Duration::from_millis(100);

/// Tells the live state who leads. A failed disk ends the program: what it answered can no longer be trusted.
pub(super) async fn watch_standing(raft: Raft, live: Arc<LiveState>) {
    let mut metrics = raft.metrics();
    loop {
        // The borrow ends with this line: while one is held, consensus stands still.
        let now = metrics.borrow_watched().clone();
        match &now.running_state {
            Ok(()) => {}
            Err(Fatal::Stopped) => return,
            Err(fatal) => process::halt(&format!("consensus stopped: {fatal}")),
        }
        live.set_standing(Standing { term: now.current_term, leader: now.current_leader, role: now.state });
        if metrics.changed().await.is_err() {
            // Consensus says why it stops before it ends, unless it panicked. A node without it only looks alive.
            let last = metrics.borrow_watched().running_state.clone();
            if last.is_ok() {
                // Where the whole runtime is being dropped, this task ends here.
                time::sleep(LAST_WORD).await;
                process::halt("consensus ended without a word: it must have panicked");
            }
            return;
        }
    }
}

/// Writes records to the map of the position log once their entries are committed and synced here.
pub(super) async fn write_positions(live: Arc<LiveState>) {
    loop {
        if let Err(error) = live.positions.write_up_to(live.settled()).await {
            if matches!(
                &error,
                crate::store::position_log::PositionLogError::Kv(crate::store::kv::KvError::Damaged { .. })
            ) {
                process::halt(&format!("{error}; a restart builds it again"));
            }
            tracing::warn!(%error, "trying again");
        }
        time::sleep(WRITE_EVERY).await;
    }
}

/// Writes the state down when enough log has gathered, and lets the log before it go.
pub(super) async fn shorten_log(raft: Raft, live: Arc<LiveState>, payloads: Payloads, snapshot_bytes: u64, keep: u64) {
    let metrics = raft.metrics();
    let mut retry_at = time::Instant::now();
    let mut tried_at = None;
    loop {
        time::sleep(LOOK_EVERY.min(Duration::from_millis(snapshot_bytes.max(100)))).await;
        let (snapshot, purged) = {
            let now = metrics.borrow_watched().clone();
            (now.snapshot.map_or(0, |id| id.index), now.purged.map_or(0, |id| id.index))
        };
        let target = snapshot.saturating_sub(keep);
        let asked = if target > purged {
            if let Some(lowest) = live.log.pins().first().filter(|_| live.lock().released)
                && let Err(error) = payloads.remove_below(lowest.from_index.min(target)).await
            {
                tracing::warn!(%error, "payloads beside the log that are no longer needed stay for now");
            }
            raft.trigger().purge_log(target).await
        } else if live.lock().bytes_since_snapshot >= snapshot_bytes
            && (tried_at != Some(snapshot) || time::Instant::now() >= retry_at)
        {
            // One that fails, or takes long, is not asked for at every look.
            (tried_at, retry_at) = (Some(snapshot), time::Instant::now() + SNAPSHOT_RETRY);
            raft.trigger().snapshot().await
        } else {
            Ok(())
        };
        if asked.is_err() {
            return;
        }
    }
}
