//! A node that was emptied takes no part: it is no member of the cluster any more, and must not vote nor take entries
//! as if it were its former self.
//!
//! Source: Seawall's design, "consensus": a message names the Raft id that it is meant for, and a mismatch is refused
//! before Raft sees it; the Raft paper's §5.1 assumes that nodes never forget.

use std::collections::BTreeSet;

use seawall_node::consensus::RaftInspection;

use super::{Breach, Observed};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct MembersOnly {
    /// Raft ids of whoever was seen to be a voter. Empty until the cluster began.
    members: BTreeSet<u64>,
}

impl MembersOnly {
    pub(super) fn check(&mut self, observed: Observed, inspection: &RaftInspection) -> Result<(), Breach> {
        self.members.extend(inspection.membership.voters.iter().flatten());
        if self.members.is_empty() || self.members.contains(&inspection.raft_id) {
            return Ok(());
        }
        let taken = match (inspection.last, inspection.vote) {
            (Some(last), _) => format!("has a log that ends with {last}"),
            (None, vote) if vote.term > 0 => format!("voted for {:x} in term {}", vote.node, vote.term),
            (None, _) => return Ok(()),
        };
        let text = format!("{} ({:x}) {taken}, and was never a member", observed.machine, inspection.raft_id);
        Err(Breach { property: "only members take part", text })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn nodes_vote_before_anybody_knows_the_members() {
        let mut oracle = MembersOnly::default();
        oracle.check(observed(2, 1), &RaftInspection { vote: ballot(1, 1), ..empty(2) }).unwrap();
        oracle.check(observed(1, 1), &node_at(1, 1, 3)).unwrap();
        oracle.check(observed(2, 1), &RaftInspection { vote: ballot(2, 1), ..empty(2) }).unwrap();
    }

    #[test]
    fn an_emptied_node_may_wait_and_no_more() {
        let mut oracle = MembersOnly::default();
        oracle.check(observed(1, 1), &node_at(1, 1, 3)).unwrap();
        oracle.check(observed(2, 2), &empty(9)).unwrap();
        assert!(oracle.check(observed(2, 2), &RaftInspection { vote: ballot(2, 1), ..empty(9) }).is_err());
        let breach = oracle.check(observed(2, 2), &node_at(9, 1, 3)).unwrap_err();
        assert!(breach.text.contains("ends with 1-1-3"), "{breach}");
    }
}
