//! The properties of Raft, over what nodes show of themselves. Entries are named by index and ballot (term and leader):
//! one term may have several leaders here, one after the other, so that what the Raft paper says of terms holds of
//! ballots.

mod bounded;
mod committed;
mod committed_on_quorum;
mod durable;
mod election_safety;
mod leader_completeness;
mod log_matching;
mod log_view;
mod members_only;
mod monotonic;
mod purged_is_covered;
mod state_machine_safety;
#[cfg(test)]
mod testing;

use std::collections::BTreeMap;
use std::time::Duration;

use seawall_node::consensus::RaftInspection;
use seawall_node::store::log::LogId;

use self::bounded::Bounded;
use self::committed::Committed;
use self::committed_on_quorum::CommittedOnQuorum;
use self::durable::Durable;
use self::election_safety::ElectionSafety;
use self::leader_completeness::LeaderCompleteness;
use self::log_matching::LogMatching;
use self::log_view::LogView;
use self::members_only::MembersOnly;
use self::monotonic::Monotonic;
use self::state_machine_safety::StateMachineSafety;
use crate::world::Machine;

pub use self::bounded::Limits;

/// A property of Raft that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{property}: {text}")]
pub struct Breach {
    /// Which.
    pub property: &'static str,
    /// What was seen instead.
    pub text: String,
}

/// One life of the program of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Observed {
    /// Where it runs.
    pub machine: Machine,
    /// Which of the machine's lives.
    pub life: u64,
}

/// All properties, and what was seen of the nodes so far.
#[derive(Debug)]
pub struct Oracles {
    /// By Raft id: an emptied node is another one.
    nodes: BTreeMap<u64, Node>,
    committed: Committed,
    election_safety: ElectionSafety,
    log_matching: LogMatching,
    leader_completeness: LeaderCompleteness,
    state_machine_safety: StateMachineSafety,
    monotonic: Monotonic,
    members_only: MembersOnly,
    durable: Durable,
    committed_on_quorum: CommittedOnQuorum,
    bounded: Bounded,
}

#[derive(Debug)]
struct Node {
    observed: Observed,
    log: LogView,
    looked_at: Duration,
}

impl Oracles {
    /// Nothing seen yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            nodes: BTreeMap::new(),
            committed: Committed::default(),
            election_safety: ElectionSafety::default(),
            log_matching: LogMatching::default(),
            leader_completeness: LeaderCompleteness::default(),
            state_machine_safety: StateMachineSafety::default(),
            monotonic: Monotonic::default(),
            members_only: MembersOnly::default(),
            durable: Durable::default(),
            committed_on_quorum: CommittedOnQuorum::default(),
            bounded: Bounded::new(limits),
        }
    }

    /// From which index on the next look at this node must show its log; 0 for one that is new, or newly started.
    pub fn from(&self, machine: Machine, life: u64) -> u64 {
        let observed = Observed { machine, life };
        let node = self.nodes.values().find(|node| node.observed == observed);
        node.map_or(0, |node| node.log.settled())
    }

    /// Takes in a look at a node, made with [`Oracles::from`]. `now` is true virtual time; all nodes that run are to be
    /// looked at at the same time, one after the other, or a missing quorum stays unseen.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub fn observe(
        &mut self,
        machine: Machine,
        life: u64,
        inspection: &RaftInspection,
        now: Duration,
    ) -> Result<(), Breach> {
        let observed = Observed { machine, life };
        let id = inspection.raft_id;
        self.bounded.check(observed, inspection)?;
        self.monotonic.check(observed, inspection)?;
        purged_is_covered::check(observed, inspection)?;
        self.members_only.check(observed, inspection)?;
        self.election_safety.check(observed, inspection)?;
        let fresh = self.nodes.get(&id).is_none_or(|node| node.observed != observed);
        if fresh {
            // What is in memory of a former life may be lost.
            self.nodes.insert(id, Node { observed, log: LogView::default(), looked_at: now });
        }
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        node.looked_at = now;
        node.log.update(inspection);
        self.log_matching.check(observed, &node.log, inspection)?;
        self.committed.check(observed, &mut node.log, inspection)?;
        self.leader_completeness.check(observed, &node.log, inspection, &self.committed)?;
        self.state_machine_safety.check(observed, inspection)?;
        self.durable.check(observed, &node.log, inspection)?;
        let nodes = &self.nodes;
        self.committed_on_quorum.check(inspection, |voter, entry| {
            let node = nodes.get(&voter).filter(|node| node.looked_at == now)?;
            Some(node.log.holds_durably(entry))
        })
    }

    /// The last index known to be committed anywhere, for progress reports.
    pub fn last_committed(&self) -> Option<LogId> {
        self.committed.last()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;

    #[test]
    fn a_cluster_that_does_as_it_should_passes_and_is_asked_for_little() {
        let mut oracles = Oracles::new(LIMITS);
        for step in 1..50 {
            let now = Duration::from_millis(step * 100);
            for node in 1..=3 {
                let machine = Machine(node as u32);
                let from = oracles.from(machine, 1);
                assert!(step == 1 || from + 1 >= step - 1, "{from} at step {step}");
                let mut seen = node_at(node, 1, step);
                seen.leads = (node == 1).then_some(ballot(1, 1));
                seen.entries.retain(|entry| entry.id.index >= from);
                oracles.observe(machine, 1, &seen, now).unwrap();
            }
        }
        assert_eq!(oracles.last_committed(), Some(id(1, 1, 49)));
    }

    #[test]
    fn an_entry_that_a_restart_lost_is_missed() {
        let mut oracles = Oracles::new(LIMITS);
        let now = Duration::from_secs(1);
        for node in 1..=3 {
            oracles.observe(Machine(node as u32), 1, &node_at(node, 1, 5), now).unwrap();
        }
        let now = Duration::from_secs(2);
        oracles.observe(Machine(1), 1, &node_at(1, 1, 5), now).unwrap();
        oracles.observe(Machine(2), 2, &node_at(2, 1, 4), now).unwrap();
        let breach = oracles.observe(Machine(3), 2, &node_at(3, 1, 4), now).unwrap_err();
        assert_eq!(breach.property, "committed on a quorum");
    }

    #[test]
    fn an_emptied_node_is_another_one() {
        let mut oracles = Oracles::new(LIMITS);
        oracles.observe(Machine(1), 1, &node_at(1, 3, 5), Duration::ZERO).unwrap();
        assert!(oracles.from(Machine(1), 1) > 0);
        assert_eq!(oracles.from(Machine(1), 2), 0);
        let empty = RaftInspection { raft_id: 9, ..empty(9) };
        oracles.observe(Machine(1), 2, &empty, Duration::from_secs(1)).unwrap();
    }
}
