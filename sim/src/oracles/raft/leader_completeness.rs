//! A leader has all that was committed in earlier terms.
//!
//! Source: Raft paper, figure 3, "Leader Completeness"; §5.4.

use std::collections::BTreeMap;

use seawall_node::consensus::{Ballot, RaftInspection};

use super::committed::Committed;
use super::log_view::LogView;
use super::{Breach, Observed};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct LeaderCompleteness {
    /// The newest ballot of each node whose log was looked through.
    looked_at: BTreeMap<Observed, Ballot>,
}

impl LeaderCompleteness {
    pub(super) fn check(
        &mut self,
        observed: Observed,
        log: &LogView,
        inspection: &RaftInspection,
        committed: &Committed,
    ) -> Result<(), Breach> {
        let Some(ballot) = inspection.leads else { return Ok(()) };
        if self.looked_at.insert(observed, ballot) == Some(ballot) {
            // A leader only ever adds to its log.
            return Ok(());
        }
        let purged = inspection.purged.map_or(0, |id| id.index);
        match committed.before(ballot, purged + 1).find(|entry| !log.holds(entry.id)) {
            None => Ok(()),
            Some(missing) => Err(Breach {
                property: "leader completeness",
                text: format!(
                    "{} leads term {} without {}, which was committed in term {} or before",
                    observed.machine, ballot.term, missing.id, missing.in_term
                ),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn check(committed: &Committed, inspection: &RaftInspection) -> Result<(), Breach> {
        let mut log = LogView::default();
        log.update(inspection);
        LeaderCompleteness::default().check(observed(2, 1), &log, inspection, committed)
    }

    fn committed() -> Committed {
        let mut committed = Committed::default();
        let mut log = LogView::default();
        log.update(&node_at(1, 2, 5));
        committed.check(observed(1, 1), &mut log, &node_at(1, 2, 5)).unwrap();
        committed
    }

    #[test]
    fn a_leader_with_everything_passes() {
        let leader = RaftInspection { leads: Some(ballot(3, 2)), ..node_at(2, 2, 5) };
        check(&committed(), &leader).unwrap();
        let from_snapshot = RaftInspection { entries: Vec::new(), purged: Some(id(2, 1, 5)), ..leader };
        check(&committed(), &from_snapshot).unwrap();
    }

    #[test]
    fn only_leaders_of_later_terms_need_it() {
        let lagging = node_at(2, 2, 3);
        check(&committed(), &lagging).unwrap();
        check(&committed(), &RaftInspection { leads: Some(ballot(2, 9)), ..lagging.clone() }).unwrap();
        let breach = check(&committed(), &RaftInspection { leads: Some(ballot(3, 2)), ..lagging }).unwrap_err();
        assert!(breach.text.contains("without 2-1-4"), "{breach}");
    }
}
