//! What this node holds of the log and of every database, as it tells the leader.

use std::time::Duration;

use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, Txid};
use seawall_proto::v1;

use super::ConfiguredNode;
use super::blobs::Blobs;
use super::live_state::LiveState;

/// Databases in one answer.
const PAGE: usize = 2000;
/// The longest that an answer waits for the log to be applied.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// The state from which on the log holds every segment of a database's current history.
pub(super) fn held_after(live: &LiveState, name: &DatabaseName, lineage: Lineage) -> Txid {
    let head = {
        let inner = live.lock();
        let head = inner.cluster.databases().get(name).map(|database| &database.head);
        head.filter(|head| head.lineage == lineage.0).map_or(0, |head| head.txid)
    };
    let first_held = live.log.first_held().unwrap_or(u64::MAX);
    let is_held = |after: u64| {
        let next = live.positions.segments(name, lineage, Txid(after), 1).into_iter().next();
        next.is_some_and(|next| {
            next.first.0 <= after + 1 && next.entries.first().is_some_and(|first| *first >= first_held)
        })
    };
    // Once it is held, everything after it is, too.
    let (mut low, mut high) = (0, head);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_held(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Txid(high)
}

/// Answers what was asked, once the log is applied so far here or the time is over.
pub(super) async fn report(
    live: &LiveState,
    blobs: Option<&Blobs>,
    listed: &[ConfiguredNode],
    request: &v1::ReportHoldingsRequest,
) -> v1::ReportHoldingsResponse {
    let limit = Duration::from_millis(u64::from(request.timeout_ms)).min(MAX_WAIT);
    live.wait(limit, |inner| inner.last_applied.map_or(0, |id| id.index) >= request.applied).await;
    let (applied, heads) = {
        let inner = live.lock();
        let databases = inner.cluster.databases().iter().filter(|(name, _)| name.as_str() > request.after.as_str());
        let heads = databases.take(if request.databases { PAGE + 1 } else { 0 });
        let heads: Vec<(DatabaseName, u64)> =
            heads.map(|(name, database)| (name.clone(), database.head.lineage)).collect();
        (inner.last_applied.map_or(0, |id| id.index), heads)
    };
    let more = heads.len() > PAGE;
    let databases = heads.into_iter().take(PAGE).map(|(name, lineage)| {
        // The image first: what is let go of the log after this is folded into it.
        let image = blobs.map_or(Txid::NONE, |blobs| blobs.source.folded(&name, Lineage(lineage)));
        let held_after = held_after(live, &name, Lineage(lineage));
        v1::DatabaseHolding { database: name.to_string(), lineage, image: image.0, held_after: held_after.0 }
    });
    v1::ReportHoldingsResponse {
        applied,
        databases: databases.collect(),
        more,
        listed: listed
            .iter()
            .map(|node| v1::Member { raft_id: 0, configured_id: node.id, address: node.address.clone() })
            .collect(),
    }
}
