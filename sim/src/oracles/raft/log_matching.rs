//! Entries with the same id are the same, in all logs, and so is all that is before them.
//!
//! Source: Raft paper, figure 3, "Log Matching"; §5.3. That an entry has one predecessor in all logs carries over to
//! all before it by induction.

use std::collections::BTreeMap;

use seawall_node::consensus::RaftInspection;
use seawall_node::store::log::LogId;

use super::log_view::LogView;
use super::{Breach, Observed};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct LogMatching {
    entries: BTreeMap<(u64, LogId), Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    hash: u64,
    /// The entry before it, once somebody showed it.
    before: Option<LogId>,
    by: Observed,
}

impl LogMatching {
    pub(super) fn check(
        &mut self,
        observed: Observed,
        log: &LogView,
        inspection: &RaftInspection,
    ) -> Result<(), Breach> {
        let mut last: Option<LogId> = None;
        for entry in &inspection.entries {
            let (id, hash) = (entry.id, entry.hash);
            let before = last.or_else(|| before(id, log, inspection)).filter(|before| before.index + 1 == id.index);
            last = Some(id);
            let known = self.entries.entry((id.index, id)).or_insert(Known { hash, before, by: observed });
            let known_before = known.before.or(before);
            known.before = known_before;
            let text = if known.hash != hash {
                format!(
                    "entry {id} is {hash:016x} on {}, {:016x} on {}",
                    observed.machine, known.hash, known.by.machine
                )
            } else if let (Some(before), Some(other)) = (before, known_before)
                && before != other
            {
                format!("entry {id} follows {before} on {}, {other} on {}", observed.machine, known.by.machine)
            } else {
                continue;
            };
            return Err(Breach { property: "log matching", text });
        }
        Ok(())
    }
}

fn before(id: LogId, log: &LogView, inspection: &RaftInspection) -> Option<LogId> {
    let index = id.index.checked_sub(1)?;
    let purged = inspection.purged.filter(|purged| purged.index == index);
    purged.or_else(|| log.get(index).map(|entry| entry.id))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn check(oracle: &mut LogMatching, node: u64, inspection: &RaftInspection) -> Result<(), Breach> {
        let mut log = LogView::default();
        log.update(inspection);
        oracle.check(observed(node as u32, 1), &log, inspection)
    }

    #[test]
    fn equal_logs_and_other_tails_pass() {
        let mut oracle = LogMatching::default();
        check(&mut oracle, 1, &node_at(1, 1, 6)).unwrap();
        check(&mut oracle, 2, &node_at(2, 1, 4)).unwrap();
        let mut other = node_at(3, 1, 4);
        other.entries.push(entry(2, 2, 5));
        check(&mut oracle, 3, &other).unwrap();
        // A purged log begins somewhere.
        let mut purged = node_at(2, 1, 6);
        purged.purged = Some(id(1, 1, 3));
        purged.entries.retain(|entry| entry.id.index > 3);
        check(&mut oracle, 2, &purged).unwrap();
    }

    #[test]
    fn other_content_and_other_predecessors_are_seen() {
        let mut oracle = LogMatching::default();
        check(&mut oracle, 1, &node_at(1, 1, 6)).unwrap();
        let mut altered = node_at(2, 1, 6);
        altered.entries[3].hash ^= 1;
        assert!(check(&mut oracle, 2, &altered).unwrap_err().text.contains("1-1-4 is"));
        let mut forked = node_at(2, 1, 6);
        forked.entries[3] = entry(2, 2, 4);
        assert!(check(&mut oracle, 2, &forked).unwrap_err().text.contains("1-1-5 follows 2-2-4"));
        let mut purged = node_at(2, 1, 6);
        purged.purged = Some(id(9, 9, 3));
        purged.entries.retain(|entry| entry.id.index > 3);
        assert!(check(&mut oracle, 2, &purged).is_err());
    }
}
