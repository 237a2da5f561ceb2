//! Looks at nodes, made up.

use std::collections::BTreeSet;

use seawall_node::consensus::{Ballot, InspectedMembership, RaftInspection};
use seawall_node::store::log::{InspectedEntry, LogId};

use super::{Limits, Observed};
use crate::world::Machine;

pub(super) const LIMITS: Limits = Limits { log_bytes: 1000, queued_bytes: 100, unpurged_entries: 100 };

pub(super) fn id(term: u64, node: u64, index: u64) -> LogId {
    LogId { term, node, index }
}

pub(super) fn ballot(term: u64, node: u64) -> Ballot {
    Ballot { term, node }
}

pub(super) fn observed(machine: u32, life: u64) -> Observed {
    Observed { machine: Machine(machine), life }
}

pub(super) fn entry(term: u64, node: u64, index: u64) -> InspectedEntry {
    InspectedEntry { id: id(term, node, index), hash: index * 7 + term, payload_len: 0, is_durable: true }
}

/// A node that knows nothing.
pub(super) fn empty(raft_id: u64) -> RaftInspection {
    RaftInspection {
        raft_id,
        term: 0,
        vote: Ballot::default(),
        leads: None,
        last: None,
        synced: None,
        committed: None,
        applied: None,
        snapshot: None,
        snapshot_on_disk: None,
        purged: None,
        membership: InspectedMembership::default(),
        entries: Vec::new(),
        digest: 0,
        log_bytes: 0,
        queued_bytes: 0,
    }
}

/// One of the nodes 1, 2 and 3, in the term `term`, which holds, committed and applied the entries up to `last`, all of
/// node 1's.
pub(super) fn node_at(raft_id: u64, term: u64, last: u64) -> RaftInspection {
    let at = (last > 0).then(|| id(term, 1, last));
    RaftInspection {
        term,
        vote: ballot(term, 1),
        last: at,
        synced: at,
        committed: at,
        applied: at,
        membership: InspectedMembership { id: Some(id(term, 1, 1)), voters: vec![BTreeSet::from([1, 2, 3])] },
        entries: (1..=last).map(|index| entry(term, 1, index)).collect(),
        digest: last,
        ..empty(raft_id)
    }
}
