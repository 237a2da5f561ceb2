//! Votes never go back, not even over a restart; within a life neither do the term, the commit index, nor what is
//! applied, covered by a snapshot and purged.
//!
//! Source: Raft paper, figure 2, "Persistent state" (current term and vote) and "Volatile state" (which "increases
//! monotonically"); §5.1.

use std::collections::BTreeMap;

use seawall_node::consensus::{Ballot, RaftInspection};

use super::{Breach, Observed};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Monotonic {
    /// By Raft id: an emptied node is another one.
    nodes: BTreeMap<u64, Known>,
}

#[derive(Clone, Debug)]
struct Known {
    observed: Observed,
    vote: Ballot,
    /// Within this life.
    marks: [u64; 5],
}

const MARKS: [&str; 5] = ["term", "committed index", "applied index", "snapshot's index", "purged index"];

impl Monotonic {
    pub(super) fn check(&mut self, observed: Observed, inspection: &RaftInspection) -> Result<(), Breach> {
        let RaftInspection { vote, committed, applied, snapshot, purged, .. } = *inspection;
        let [committed, applied, snapshot, purged] =
            [committed, applied, snapshot, purged].map(|id| id.map_or(0, |id| id.index));
        let marks = [inspection.term, committed, applied, snapshot, purged];
        let Some(known) = self.nodes.get_mut(&inspection.raft_id) else {
            self.nodes.insert(inspection.raft_id, Known { observed, vote, marks });
            return Ok(());
        };
        let fell = |text: String| Err(Breach { property: "monotonic", text });
        if vote < known.vote {
            let (now, before) = (vote, known.vote);
            return fell(format!(
                "the vote of {} went back from {:x} in term {} (life {}) to {:x} in term {} (life {})",
                observed.machine, before.node, before.term, known.observed.life, now.node, now.term, observed.life
            ));
        }
        if observed == known.observed {
            let marks = known.marks.iter().zip(marks).zip(MARKS);
            if let Some(((before, now), name)) = marks.into_iter().find(|((before, now), _)| now < *before) {
                return fell(format!("the {name} of {} went back from {before} to {now}", observed.machine));
            }
        }
        *known = Known { observed, vote, marks };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn a_restart_may_forget_what_is_volatile() {
        let mut oracle = Monotonic::default();
        oracle.check(observed(1, 1), &node_at(1, 3, 9)).unwrap();
        oracle.check(observed(1, 1), &node_at(1, 4, 9)).unwrap();
        let restarted = RaftInspection { vote: ballot(4, 1), term: 0, ..empty(1) };
        oracle.check(observed(1, 2), &restarted).unwrap();
        // An emptied node has another id.
        oracle.check(observed(1, 3), &empty(8)).unwrap();
    }

    #[test]
    fn a_vote_that_goes_back_is_seen_over_a_restart() {
        let mut oracle = Monotonic::default();
        oracle.check(observed(1, 1), &RaftInspection { vote: ballot(4, 2), ..empty(1) }).unwrap();
        let lost = RaftInspection { vote: ballot(4, 1), ..empty(1) };
        assert!(oracle.check(observed(1, 2), &lost).unwrap_err().text.contains("vote"));
    }

    #[test]
    fn marks_that_go_back_within_a_life_are_seen() {
        let falls: [fn(&mut RaftInspection); 5] = [
            |it| it.term = 2,
            |it| it.committed = Some(id(3, 1, 8)),
            |it| it.applied = None,
            |it| it.snapshot = Some(id(3, 1, 4)),
            |it| it.purged = Some(id(3, 1, 3)),
        ];
        for (fall, name) in falls.iter().zip(MARKS) {
            let mut oracle = Monotonic::default();
            let at = RaftInspection { snapshot: Some(id(3, 1, 5)), purged: Some(id(3, 1, 4)), ..node_at(1, 3, 9) };
            oracle.check(observed(1, 1), &at).unwrap();
            let mut fallen = at;
            fall(&mut fallen);
            assert!(oracle.check(observed(1, 1), &fallen).unwrap_err().text.contains(name));
        }
    }
}
