//! Giving leadership away.

use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use seawall_host::probe::sometimes;
use seawall_host::time;

use super::Raft;
use super::live_state::LiveState;
use super::space::SpaceBoard;
use crate::space::heirs;

/// How long another node may take to begin leading.
const LIMIT: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A leader has no room this many looks in a row before it gives leadership away: what frees room may be under way.
const LOOKS: u32 = 3;
/// After an attempt in vain the next one comes so much later.
const RETRY: Duration = Duration::from_secs(10);

/// Hands over to the voter that has most of the log: whether another node leads then, or nothing if this node does not
/// lead, or has nobody to hand over to.
pub(super) async fn to_any(raft: &Raft, live: &LiveState, own: u64) -> Option<bool> {
    let heir = heir(raft, own, |_| true)?;
    Some(to(raft, live, own, heir).await)
}

/// Gives leadership to a voter that has room, whenever this node leads and has none while a majority without it has:
/// one full disk is no reason to refuse appends.
pub(super) async fn where_room_is(raft: Raft, live: Arc<LiveState>, own: u64, space: Arc<SpaceBoard>) {
    let mut looks = 0;
    loop {
        time::sleep(LOOK_EVERY).await;
        let known = space.known();
        let others = known.others.into_iter().map(|(id, report)| (id, report.map(|report| report.said)));
        let with_room = heirs(known.own.said.room(), others, looks > 0);
        let heir = heir(&raft, own, |id| with_room.contains(&id));
        looks = if heir.is_some() { looks + 1 } else { 0 };
        let Some(heir) = heir.filter(|_| looks >= LOOKS) else { continue };
        tracing::warn!(heir, "this node leads and its disk has no room: a node that has room is to lead");
        if to(&raft, &live, own, heir).await {
            sometimes("leadership handed over for want of room");
        } else {
            time::sleep(RETRY).await;
        }
        looks = 0;
    }
}

/// Hands over to `heir`: whether another node leads then.
pub(super) async fn to(raft: &Raft, live: &LiveState, own: u64, heir: u64) -> bool {
    if let Err(error) = raft.trigger().transfer_leader(heir).await {
        tracing::warn!(%error, "cannot hand over");
    }
    live.wait(LIMIT, |inner| inner.standing.leader.is_some_and(|id| id != own)).await
}

/// Of the other voters that `may` lead the one that has most of the log, if this node leads.
fn heir(raft: &Raft, own: u64, may: impl Fn(u64) -> bool) -> Option<u64> {
    let metrics = raft.metrics().borrow_watched().clone();
    if metrics.state != ServerState::Leader {
        return None;
    }
    let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
    let others = metrics.replication?.into_iter().filter(|(id, _)| *id != own && voters.contains(id) && may(*id));
    others.max_by_key(|(_, matched)| *matched).map(|(id, _)| id)
}
