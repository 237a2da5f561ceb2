//! At most one leader for each ballot, and only in one of its lives.
//!
//! Source: Raft paper, figure 3, "Election Safety"; §5.2. A ballot stands for the paper's term, see the module above. A
//! node that leads again after a restart under the ballot of before may have forgotten entries that it proposed.

use std::collections::BTreeMap;

use seawall_node::consensus::{Ballot, RaftInspection};

use super::{Breach, Observed};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct ElectionSafety {
    leaders: BTreeMap<Ballot, Observed>,
}

impl ElectionSafety {
    pub(super) fn check(&mut self, observed: Observed, inspection: &RaftInspection) -> Result<(), Breach> {
        let Some(ballot) = inspection.leads else { return Ok(()) };
        let Ballot { term, node } = ballot;
        let leader = *self.leaders.entry(ballot).or_insert(observed);
        let text = if node != inspection.raft_id {
            format!("{} leads under the ballot of another node, {node:x}, in term {term}", observed.machine)
        } else if leader != observed {
            format!(
                "{} leads term {term} in its life {}, and {} did in its life {}",
                observed.machine, observed.life, leader.machine, leader.life
            )
        } else {
            return Ok(());
        };
        Err(Breach { property: "election safety", text })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn leads(raft_id: u64, ballot: Ballot) -> RaftInspection {
        RaftInspection { leads: Some(ballot), ..node_at(raft_id, ballot.term, 1) }
    }

    #[test]
    fn one_leader_after_the_other_passes() {
        let mut oracle = ElectionSafety::default();
        oracle.check(observed(1, 1), &leads(1, ballot(1, 1))).unwrap();
        oracle.check(observed(1, 1), &leads(1, ballot(1, 1))).unwrap();
        // In one term a larger node may come after a smaller one.
        oracle.check(observed(2, 1), &leads(2, ballot(1, 2))).unwrap();
        oracle.check(observed(1, 2), &leads(1, ballot(2, 1))).unwrap();
        oracle.check(observed(1, 3), &node_at(1, 2, 1)).unwrap();
    }

    #[test]
    fn a_ballot_led_twice_is_seen() {
        let mut oracle = ElectionSafety::default();
        oracle.check(observed(1, 1), &leads(1, ballot(1, 1))).unwrap();
        assert!(oracle.check(observed(1, 2), &leads(1, ballot(1, 1))).unwrap_err().text.contains("life 2"));
        assert!(oracle.check(observed(2, 1), &leads(1, ballot(1, 1))).is_err());
        assert!(oracle.check(observed(2, 1), &leads(2, ballot(5, 3))).is_err());
    }
}
