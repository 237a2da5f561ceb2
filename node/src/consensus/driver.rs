//! What goes on beside consensus: telling of its state, writing the position log, keeping the log short.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;
use seawall_host::{process, time};
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, Txid};

use super::Raft;
use super::live_state::{LiveState, Standing};
use super::payloads::Payloads;
use super::space::SpaceBoard;
use crate::store::kv::KvError;
use crate::store::position_log::PositionLogError;

/// How far behind the map of the position log may be.
const WRITE_EVERY: Duration = Duration::from_millis(500);
/// An engine that fails this often in a row, with room on the disk, does not work again by itself.
const MOST_FAILURES: u32 = 20;
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

/// Writes records to the map of the position log once their entries are committed and synced here. Until there is room
/// they stay in memory: the engine does not work again after it met a full disk, and the log file has them all.
pub(super) async fn write_positions(live: Arc<LiveState>, space: Arc<SpaceBoard>) {
    let mut failures = 0;
    let mut forgotten = BTreeMap::new();
    loop {
        time::sleep(WRITE_EVERY).await;
        if !space.has_room_for_copies_now().await {
            continue;
        }
        let written = match live.positions.write_up_to(live.settled()).await {
            Ok(()) => forget_positions(&live, &mut forgotten).await,
            failed => failed,
        };
        match written {
            Ok(()) => failures = 0,
            Err(error @ PositionLogError::Kv(KvError::Damaged { .. })) => {
                process::halt(&format!("{error}; a restart builds it again"));
            }
            Err(error) => {
                failures += 1;
                if failures >= MOST_FAILURES {
                    process::halt(&format!("{error}, though there is room; a restart builds it again"));
                }
                tracing::warn!(%error, "trying again");
            }
        }
    }
}

/// Lets go of records that no destination has the transactions of any more; `forgotten` says up to which floors, and
/// with a log from where on, that was done. What they said is said of later states too: each checksum rests on the one before.
async fn forget_positions(
    live: &LiveState,
    forgotten: &mut BTreeMap<DatabaseName, (Lineage, Txid, u64)>,
) -> Result<(), PositionLogError> {
    let held_from = live.log.first_held().unwrap_or(0);
    let floors: Vec<(DatabaseName, Lineage, Txid)> = {
        let inner = live.lock();
        let databases = inner.cluster.databases().iter();
        databases
            .filter_map(|(name, database)| Some((name.clone(), Lineage(database.head.lineage), database.floor()?)))
            .collect()
    };
    for (name, lineage, floor) in floors {
        let state = (lineage, floor, held_from);
        if forgotten.get(&name) != Some(&state) && !live.positions.forget(&name, lineage, floor, held_from).await? {
            forgotten.insert(name, state);
        }
    }
    Ok(())
}

/// How many entries to keep behind a snapshot: `most`, or fewer where these have more than `limit` bytes.
fn entries_within(most: u64, limit: u64, bytes: impl Fn(u64) -> u64) -> u64 {
    let mut entries = most;
    while entries > 0 && bytes(entries) > limit {
        entries /= 2;
    }
    entries
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
        let kept_bytes = |entries| {
            let log = &live.log;
            log.bytes_from(snapshot.saturating_sub(entries)).saturating_sub(log.bytes_from(snapshot))
        };
        let target = snapshot.saturating_sub(entries_within(keep, snapshot_bytes, kept_bytes));
        let asked = if target > purged {
            if let Some(lowest) = live.log.pins().first().filter(|_| live.lock().released)
                && let Err(error) = payloads.remove_below(lowest.from_index.min(target)).await
            {
                tracing::warn!(%error, "payloads beside the log that are no longer needed stay for now");
            }
            raft.trigger().purge_log(target).await
        } else if (live.lock().bytes_since_snapshot >= snapshot_bytes || live.ended_bytes() >= snapshot_bytes)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stay_for_late_peers_as_far_as_their_bytes_allow() {
        assert_eq!(entries_within(1000, 500, |entries| entries / 10), 1000);
        assert_eq!(entries_within(1000, 500, |entries| entries), 500);
        assert_eq!(entries_within(1000, 500, |entries| entries * 100), 3);
        assert_eq!(entries_within(1000, 500, |entries| entries * 1000), 0);
        assert_eq!(entries_within(0, 500, |_| u64::MAX), 0);
    }
}
