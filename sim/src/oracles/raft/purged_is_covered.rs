//! What is purged from a log is covered by a snapshot on the same disk.
//!
//! Source: Raft paper, §7 ("once a server completes writing a snapshot, it may delete all log entries up through the last
//! included index"); Seawall's design, promise 1.

use seawall_node::consensus::RaftInspection;

use super::{Breach, Observed};

/// Checks a look at a node.
///
/// # Errors
/// What is covered by nothing.
pub(super) fn check(observed: Observed, inspection: &RaftInspection) -> Result<(), Breach> {
    let RaftInspection { purged, snapshot_on_disk, .. } = *inspection;
    let Some(purged) = purged.filter(|purged| snapshot_on_disk.is_none_or(|it| it.index < purged.index)) else {
        return Ok(());
    };
    let has = snapshot_on_disk.map_or("there is none".to_owned(), |it| format!("the one there covers {it}"));
    let text = format!("{} purged its log up to {purged} without a snapshot on its disk: {has}", observed.machine);
    Err(Breach { property: "what is purged is covered by a snapshot on the disk", text })
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn a_purge_follows_its_snapshot() {
        let purged = RaftInspection { purged: Some(id(1, 1, 5)), ..node_at(1, 1, 9) };
        let with = |index| RaftInspection { snapshot_on_disk: Some(id(1, 1, index)), ..purged.clone() };
        assert_eq!(check(observed(1, 1), &node_at(1, 1, 9)), Ok(()));
        assert_eq!(check(observed(1, 1), &with(5)), Ok(()));
        assert_eq!(check(observed(1, 1), &with(9)), Ok(()));
        assert!(check(observed(1, 1), &with(4)).unwrap_err().text.contains("the one there"));
        assert!(check(observed(1, 1), &purged).unwrap_err().text.contains("there is none"));
    }
}
