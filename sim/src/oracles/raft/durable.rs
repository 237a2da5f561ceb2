//! What is committed and on a node's disk is there after the node's program, or its machine, died.
//!
//! Source: Raft paper, figure 2, "Persistent state" (`log[]`, "updated on stable storage before responding to RPCs");
//! Seawall's design, "log file": damage anywhere but at the tail is rot, and never truncated.

use std::collections::{BTreeMap, VecDeque};

use seawall_node::consensus::RaftInspection;
use seawall_node::store::log::LogId;

use super::log_view::LogView;
use super::{Breach, Observed};

/// Rot of the last batch cannot be told from a torn write, so what the newest batches hold may go with them: as many as
/// a run lets rot.
const BATCHES: usize = 3;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Durable {
    /// By Raft id: an emptied node is another one.
    nodes: BTreeMap<u64, Known>,
}

#[derive(Clone, Debug)]
struct Known {
    observed: Observed,
    /// Committed and durable at different looks, so each in a later batch than the one before.
    held: VecDeque<LogId>,
}

impl Durable {
    /// Takes in a look at a node, of which `log` is what is known of its log in this life.
    pub(super) fn check(
        &mut self,
        observed: Observed,
        log: &LogView,
        inspection: &RaftInspection,
    ) -> Result<(), Breach> {
        let known = self.nodes.entry(inspection.raft_id).or_insert_with(|| Known { observed, held: VecDeque::new() });
        if known.observed != observed {
            let oldest = known.held.front().filter(|_| known.held.len() > BATCHES);
            if let Some(id) = oldest.filter(|id| !log.holds(**id)) {
                let text = format!(
                    "{} had the committed entry {id} on its disk in life {}, and lacks it in life {}, where its log ends \
                     with {:?}",
                    observed.machine, known.observed.life, observed.life, inspection.last
                );
                return Err(Breach { property: "what is durable stays", text });
            }
            *known = Known { observed, held: VecDeque::new() };
        }
        let durable = inspection.committed.filter(|committed| log.holds_durably(*committed));
        if let Some(id) = durable.filter(|id| known.held.back().is_none_or(|last| last.index < id.index)) {
            known.held.push_back(id);
            if known.held.len() > BATCHES + 1 {
                known.held.pop_front();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn look(oracle: &mut Durable, life: u64, last: u64) -> Result<(), Breach> {
        let inspection = node_at(1, 1, last);
        let mut log = LogView::default();
        log.update(&inspection);
        oracle.check(observed(1, life), &log, &inspection)
    }

    #[test]
    fn the_newest_batches_may_be_lost_and_no_older_one() {
        for (left, fits) in [(9, true), (6, true), (5, false), (1, false)] {
            let mut oracle = Durable::default();
            for last in [3, 5, 6, 7, 8, 9] {
                look(&mut oracle, 1, last).unwrap();
            }
            assert_eq!(look(&mut oracle, 2, left).is_ok(), fits, "{left}");
        }
    }

    #[test]
    fn what_one_look_saw_may_have_been_one_batch() {
        let mut oracle = Durable::default();
        for _ in 0..9 {
            look(&mut oracle, 1, 9).unwrap();
        }
        look(&mut oracle, 2, 1).unwrap();
    }

    #[test]
    fn another_life_that_took_a_snapshot_in_has_it() {
        let mut oracle = Durable::default();
        for last in 1..9 {
            look(&mut oracle, 1, last).unwrap();
        }
        let inspection = RaftInspection { entries: Vec::new(), purged: Some(id(2, 1, 20)), ..node_at(1, 2, 20) };
        let mut log = LogView::default();
        log.update(&inspection);
        oracle.check(observed(1, 2), &log, &inspection).unwrap();
    }
}
