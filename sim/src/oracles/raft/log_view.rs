//! What is known of one node's log.

use std::collections::BTreeMap;

use seawall_node::consensus::RaftInspection;
use seawall_node::store::log::{InspectedEntry, LogId};

/// The log of one life of a node, put together from looks that each show its end.
#[derive(Clone, Debug, Default)]
pub(super) struct LogView {
    entries: BTreeMap<u64, InspectedEntry>,
    /// Entries up to here are purged, or covered by a snapshot.
    covered: Option<LogId>,
    /// Entries up to here were held against what is committed.
    pub(super) compared: u64,
    committed: u64,
}

impl LogView {
    /// Takes in a look.
    pub(super) fn update(&mut self, inspection: &RaftInspection) {
        let last = inspection.last.map_or(0, |last| last.index);
        let shown = inspection.entries.first().map_or(u64::MAX, |entry| entry.id.index);
        self.entries.split_off(&shown.min(last.saturating_add(1)));
        self.entries.extend(inspection.entries.iter().map(|entry| (entry.id.index, *entry)));
        let purged = inspection.purged.map_or(0, |id| id.index);
        self.entries = self.entries.split_off(&purged.saturating_add(1));
        self.covered = self.covered.max_by_index(inspection.purged).max_by_index(inspection.snapshot);
        self.committed = inspection.committed.map_or(0, |id| id.index);
        self.compared = self.compared.min(last);
    }

    /// Below this nothing changes any more.
    pub(super) fn settled(&self) -> u64 {
        let pending = self.entries.values().find(|entry| !entry.is_durable).map(|entry| entry.id.index);
        self.committed.min(pending.unwrap_or(u64::MAX))
    }

    /// The entry at `index`, if the log still has it.
    pub(super) fn get(&self, index: u64) -> Option<&InspectedEntry> {
        self.entries.get(&index)
    }

    /// The entries with indexes from `first` to `last`.
    pub(super) fn range(&self, first: u64, last: u64) -> impl Iterator<Item = &InspectedEntry> {
        self.entries.range(first..).map(|(_, entry)| entry).take_while(move |entry| entry.id.index <= last)
    }

    /// Whether it covers `index` without having the entry itself.
    pub(super) fn covers(&self, index: u64) -> bool {
        self.covered.is_some_and(|covered| covered.index >= index)
    }

    /// Whether it has this very entry, or what it led to.
    pub(super) fn holds(&self, id: LogId) -> bool {
        self.covers(id.index) || self.get(id.index).is_some_and(|entry| entry.id == id)
    }

    /// The same, and a crash would not change it.
    pub(super) fn holds_durably(&self, id: LogId) -> bool {
        self.covers(id.index) || self.get(id.index).is_some_and(|entry| entry.id == id && entry.is_durable)
    }
}

trait MaxByIndex {
    fn max_by_index(self, other: Self) -> Self;
}

impl MaxByIndex for Option<LogId> {
    fn max_by_index(self, other: Self) -> Self {
        self.into_iter().chain(other).max_by_key(|id| id.index)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn looks_at_the_end_add_up_to_the_log() {
        let mut view = LogView::default();
        view.update(&node_at(1, 1, 5));
        assert_eq!(view.settled(), 5);
        let mut later = node_at(1, 1, 8);
        later.entries.retain(|entry| entry.id.index >= 5);
        later.entries[3].is_durable = false;
        later.purged = Some(id(1, 1, 2));
        view.update(&later);
        assert!(view.holds(id(1, 1, 1)) && view.holds(id(1, 1, 3)) && view.holds(id(1, 1, 8)));
        assert!(view.holds_durably(id(1, 1, 7)) && !view.holds_durably(id(1, 1, 8)));
        assert!(!view.holds(id(2, 1, 8)) && !view.holds(id(1, 1, 9)));
        assert_eq!((view.settled(), view.get(2)), (8, None));
    }

    #[test]
    fn what_was_cut_off_is_gone() {
        let mut view = LogView::default();
        view.update(&node_at(1, 1, 5));
        let cut = RaftInspection { last: Some(id(1, 1, 3)), entries: Vec::new(), ..node_at(1, 1, 3) };
        view.update(&cut);
        assert!(view.holds(id(1, 1, 3)) && !view.holds(id(1, 1, 4)));
    }
}
