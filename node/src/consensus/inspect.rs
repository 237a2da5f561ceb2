//! Consensus as oracles see it: plain values, no openraft.

use std::collections::BTreeSet;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use prost::Message;
use seawall_proto::checksum::Checksum;
use seawall_proto::position::PageNumber;
use seawall_proto::v1;

use super::start::Consensus;
use crate::store::log::{InspectedEntry, LogId, PinView};

/// A claim to lead. Compared as Raft does here: of two in one term the one with the larger node wins, so a term may
/// have several leaders one after the other, but a ballot never has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// The term.
    pub term: u64,
    /// The Raft id of who stands.
    pub node: u64,
}

impl From<LogId> for Ballot {
    fn from(id: LogId) -> Self {
        Self { term: id.term, node: id.node }
    }
}

/// Who votes, as the applied log has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InspectedMembership {
    /// The entry that says so; `None` before the first.
    pub id: Option<LogId>,
    /// The voters by Raft id: one set, or two while membership changes, a majority of each of which is needed.
    pub voters: Vec<BTreeSet<u64>>,
}

/// A node's part in consensus at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftInspection {
    /// This node's Raft id: born with its data directory.
    pub raft_id: u64,
    /// The term it is in; after a restart it may fall to that of its durable vote.
    pub term: u64,
    /// The newest vote that it may have acted on: it is durable, or consensus was told that it is.
    pub vote: Ballot,
    /// The ballot under which it leads, if it believes to.
    pub leads: Option<Ballot>,
    /// The last entry of its log, durable or not.
    pub last: Option<LogId>,
    /// The last entry that is durable here.
    pub synced: Option<LogId>,
    /// The last entry that it knows to be committed.
    pub committed: Option<LogId>,
    /// The last entry that it applied.
    pub applied: Option<LogId>,
    /// The last entry that its newest snapshot covers.
    pub snapshot: Option<LogId>,
    /// The last entry that the snapshot on its disk covers, durably.
    pub snapshot_on_disk: Option<LogId>,
    /// The last entry that it purged.
    pub purged: Option<LogId>,
    /// Who votes.
    pub membership: InspectedMembership,
    /// The entries from the index asked for on, ascending, as far as they are not purged.
    pub entries: Vec<InspectedEntry>,
    /// Of the replicated state after `applied`, membership included: equal on all nodes that applied the same.
    pub digest: u64,
    /// Bytes of the log file.
    pub log_bytes: u64,
    /// Bytes that wait to be written to the log file.
    pub queued_bytes: u64,
}

impl Consensus {
    /// Every reason why the log file is as long as it is, the oldest first, and the bytes from there on.
    pub fn kept_log(&self) -> Vec<(PinView, u64)> {
        let log = &self.live.log;
        log.pins().into_iter().map(|pin| (pin.clone(), log.bytes_from(pin.from_index))).collect()
    }

    /// A look from outside, for oracles; of the log's entries those from `from` on. Changes nothing, and takes some
    /// microseconds.
    pub fn inspect(&self, from: u64) -> RaftInspection {
        let log = self.live.log.inspect(from);
        let stored = log.vote.and_then(|vote| v1::Vote::decode(vote).ok()).unwrap_or_default();
        let stored = Ballot { term: stored.term, node: stored.node_id };
        let (term, flushed, leads, snapshot) = {
            let metrics = self.raft.metrics();
            let now = metrics.borrow_watched();
            let leader_id = now.vote.leader_id();
            let flushed = Ballot { term: leader_id.term, node: leader_id.node_id };
            let leads = now.state == ServerState::Leader && now.running_state.is_ok();
            let leads = leads.then_some(Ballot { term: now.current_term, node: self.raft_id });
            (now.current_term, flushed, leads, now.snapshot.map(LogId::from))
        };
        // Until consensus reports for the first time it shows term 0.
        let flushed = if flushed.term == 0 { Ballot::default() } else { flushed };
        let inner = self.live.lock();
        let applied = inner.last_applied.map(LogId::from);
        let configs = inner.membership.membership().get_joint_config();
        let membership =
            InspectedMembership { id: inner.membership.log_id().map(LogId::from), voters: configs.clone() };
        let databases = inner.cluster.to_manifest();
        let retired = inner.cluster.retired().iter().copied().collect();
        drop(inner);
        let digest = digest(databases, retired, &membership);
        RaftInspection {
            raft_id: self.raft_id,
            term,
            vote: stored.max(flushed),
            leads,
            last: log.last,
            synced: log.synced,
            committed: log.committed,
            applied,
            snapshot,
            snapshot_on_disk: self.snapshot_file.covered(),
            purged: log.purged,
            membership,
            entries: log.entries,
            digest,
            log_bytes: log.bytes_on_disk,
            queued_bytes: log.bytes_queued,
        }
    }
}

fn digest(databases: Vec<v1::DatabaseManifest>, retired: Vec<u64>, membership: &InspectedMembership) -> u64 {
    let mut bytes = v1::StateManifest { last_index: 0, databases, segments: Vec::new(), retired }.encode_to_vec();
    if let Some(LogId { term, node, index }) = membership.id {
        bytes.extend([term, node, index].into_iter().flat_map(u64::to_le_bytes));
    }
    for voters in &membership.voters {
        bytes.extend(voters.iter().copied().chain([0]).flat_map(u64::to_le_bytes));
    }
    Checksum::of_page(PageNumber(0), &bytes).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_tells_states_apart() {
        let database = |txid| v1::DatabaseManifest {
            name: "app".to_owned(),
            head: Some(v1::Head { txid, ..v1::Head::default() }),
            ..v1::DatabaseManifest::default()
        };
        let none = InspectedMembership::default();
        let one = InspectedMembership { voters: vec![BTreeSet::from([1])], ..none.clone() };
        let digest = |txid, retired, members| digest(vec![database(txid)], retired, members);
        assert_eq!(digest(1, Vec::new(), &none), digest(1, Vec::new(), &none));
        assert_ne!(digest(1, Vec::new(), &none), digest(2, Vec::new(), &none));
        assert_ne!(digest(1, Vec::new(), &none), digest(1, Vec::new(), &one));
        assert_ne!(digest(1, Vec::new(), &none), digest(1, vec![7], &none));
    }
}
