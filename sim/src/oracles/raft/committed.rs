//! What is committed stays committed: two nodes never know different entries as committed at one index.
//!
//! Source: Raft paper, figure 3, "State Machine Safety", applied to the logs; §5.4.3.

use std::collections::BTreeMap;

use seawall_node::consensus::{Ballot, RaftInspection};
use seawall_node::store::log::LogId;

use super::log_view::LogView;
use super::{Breach, Observed};

/// A committed entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct CommittedEntry {
    pub(super) id: LogId,
    hash: u64,
    /// It was committed in this term or an earlier one.
    pub(super) in_term: u64,
    by: Observed,
}

/// Every entry that was known to be committed to any node.
#[derive(Clone, Debug, Default)]
pub(super) struct Committed {
    entries: BTreeMap<u64, CommittedEntry>,
}

impl Committed {
    pub(super) fn check(
        &mut self,
        observed: Observed,
        log: &mut LogView,
        inspection: &RaftInspection,
    ) -> Result<(), Breach> {
        let Some(committed) = inspection.committed else { return Ok(()) };
        if let Some(entry) = log.get(committed.index)
            && entry.id != committed
        {
            let text = format!("{} calls {committed} committed and has {} there", observed.machine, entry.id);
            return Err(Breach { property: "state machine safety", text });
        }
        // Its leader's, unless the look at consensus is a moment older than that at the log.
        let in_term = inspection.term.max(inspection.vote.term).max(committed.term);
        for entry in log.range(log.compared + 1, committed.index) {
            let new = CommittedEntry { id: entry.id, hash: entry.hash, in_term, by: observed };
            let known = self.entries.entry(entry.id.index).or_insert(new);
            if (known.id, known.hash) != (entry.id, entry.hash) {
                let text = format!(
                    "{} knows entry {} ({:016x}) as committed, {} knows {} ({:016x}) there",
                    observed.machine, entry.id, entry.hash, known.by.machine, known.id, known.hash
                );
                return Err(Breach { property: "state machine safety", text });
            }
            known.in_term = known.in_term.min(in_term);
        }
        log.compared = log.compared.max(committed.index);
        Ok(())
    }

    /// Those committed before the ballot's term, ascending, from `index` on.
    pub(super) fn before(&self, ballot: Ballot, index: u64) -> impl Iterator<Item = &CommittedEntry> {
        self.entries.range(index..).map(|(_, entry)| entry).filter(move |entry| entry.in_term < ballot.term)
    }

    pub(super) fn last(&self) -> Option<LogId> {
        self.entries.last_key_value().map(|(_, entry)| entry.id)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn check(committed: &mut Committed, node: u64, inspection: &RaftInspection) -> Result<(), Breach> {
        let mut log = LogView::default();
        log.update(inspection);
        committed.check(observed(node as u32, 1), &mut log, inspection)
    }

    #[test]
    fn the_same_everywhere_passes() {
        let mut committed = Committed::default();
        check(&mut committed, 1, &node_at(1, 2, 5)).unwrap();
        check(&mut committed, 2, &node_at(2, 2, 3)).unwrap();
        assert_eq!(committed.last(), Some(id(2, 1, 5)));
        assert_eq!(committed.before(ballot(3, 1), 0).count(), 5);
        assert_eq!(committed.before(ballot(2, 9), 0).count(), 0);
        // What is not committed may differ.
        let other = RaftInspection { committed: Some(id(2, 1, 3)), ..node_at(3, 2, 3) };
        let other = RaftInspection {
            entries: [other.entries.clone(), vec![entry(4, 3, 4)]].concat(),
            last: Some(id(4, 3, 4)),
            ..other
        };
        check(&mut committed, 3, &other).unwrap();
    }

    #[test]
    fn another_entry_at_a_committed_index_is_seen() {
        let mut committed = Committed::default();
        check(&mut committed, 1, &node_at(1, 2, 5)).unwrap();
        assert!(check(&mut committed, 2, &node_at(2, 3, 4)).is_err());
        let mut altered = node_at(3, 2, 5);
        altered.entries[2].hash ^= 1;
        assert!(check(&mut committed, 3, &altered).unwrap_err().text.contains("2-1-3"));
        let contradiction = RaftInspection { committed: Some(id(7, 1, 5)), ..node_at(1, 2, 5) };
        assert!(check(&mut committed, 1, &contradiction).is_err());
    }
}
