//! What should be at a destination, and what of it is not. Pure: names and numbers in, what is lost out.

use seawall_proto::object_name::{Level, ObjectName};
use seawall_proto::position::{Lineage, Txid};

/// What a destination should have of one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    /// The history this is about.
    pub(super) lineage: Lineage,
    /// The state at exactly this txid can be rebuilt from there.
    pub(super) watermark: Txid,
    /// The newest snapshot there; 0 if none.
    pub(super) snapshot: Txid,
    /// The first transaction that was ever found there by itself; 0 if none was.
    pub(super) first: Txid,
    /// What is below this txid may have been let go of; 0 if nothing may.
    pub(super) floor: Txid,
}

/// Transactions that are missing one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hole {
    /// The first of them.
    pub(super) first: Txid,
    /// The last of them.
    pub(super) last: Txid,
}

impl Hole {
    /// How many they are.
    pub(super) fn transactions(self) -> u64 {
        self.last.0 - self.first.0 + 1
    }
}

/// What is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// Of the transactions, ascending.
    pub(super) holes: Vec<Hole>,
    /// The newest snapshot.
    pub(super) snapshot: bool,
}

impl Lost {
    /// Whether everything is there.
    pub(super) fn is_nothing(&self) -> bool {
        self.holes.is_empty() && !self.snapshot
    }
}

/// The first transaction that is there by itself; 0 if none is.
pub(super) fn first_transaction(names: &[ObjectName], lineage: Lineage) -> Txid {
    log_objects(names, lineage).map(|name| name.first).min().unwrap_or(Txid::NONE)
}

fn log_objects(names: &[ObjectName], lineage: Lineage) -> impl Iterator<Item = &ObjectName> {
    names.iter().filter(move |name| name.lineage == lineage && name.level == Level::Log)
}

/// What of `expected` is not among `names`.
pub(super) fn lost(names: &[ObjectName], expected: &Expected) -> Lost {
    let Expected { lineage, watermark, snapshot, first, floor } = *expected;
    if watermark == Txid::NONE {
        return Lost::default();
    }
    let is_newest =
        |name: &ObjectName| name.lineage == lineage && name.level == Level::Snapshot && name.last >= snapshot;
    let lacks_snapshot = snapshot > Txid::NONE && !names.iter().any(is_newest);
    // History begins at a snapshot where the log did not reach back further when the destination was added.
    let begins = if snapshot == Txid::NONE { Txid(1) } else { snapshot.next() };
    let known = [first, first_transaction(names, lineage)].into_iter().filter(|first| *first > Txid::NONE);
    let begins = known.min().map_or(begins, |known| begins.min(known)).max(floor);
    let mut covered: Vec<(Txid, Txid)> = log_objects(names, lineage).map(|name| (name.first, name.last)).collect();
    covered.sort();
    let mut holes = Vec::new();
    let mut next = begins;
    for (first, last) in covered {
        if first > watermark {
            break;
        }
        if first > next {
            holes.push(Hole { first: next, last: Txid(first.0 - 1) });
        }
        next = next.max(last.next());
    }
    if next <= watermark {
        holes.push(Hole { first: next, last: watermark });
    }
    Lost { holes, snapshot: lacks_snapshot }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use seawall_proto::checksum::Checksum;

    use super::*;

    fn object(level: Level, first: u64, last: u64) -> ObjectName {
        let (lineage, first, last) = (Lineage(1), Txid(first), Txid(last));
        ObjectName { lineage, level, first, last, checksum_after: Checksum(last.0) }
    }

    fn expected(watermark: u64, snapshot: u64) -> Expected {
        let (watermark, snapshot) = (Txid(watermark), Txid(snapshot));
        Expected { lineage: Lineage(1), watermark, snapshot, first: Txid::NONE, floor: Txid::NONE }
    }

    fn holes(names: &[ObjectName], expected: &Expected) -> Vec<(u64, u64)> {
        lost(names, expected).holes.iter().map(|hole| (hole.first.0, hole.last.0)).collect()
    }

    #[test]
    fn what_lies_between_the_first_and_the_watermark_has_to_be_there() {
        let names = [object(Level::Log, 1, 3), object(Level::Log, 6, 7), object(Level::Log, 7, 8)];
        assert_eq!(holes(&names, &expected(10, 0)), [(4, 5), (9, 10)]);
        assert_eq!(holes(&names, &expected(8, 0)), [(4, 5)]);
        assert_eq!(holes(&names, &expected(3, 0)), []);
        assert_eq!(holes(&[], &expected(0, 0)), []);
        assert_eq!(holes(&[], &expected(4, 0)), [(1, 4)]);
    }

    #[test]
    fn history_may_begin_at_a_snapshot_but_not_later_than_it_was_ever_seen_to() {
        let names = [object(Level::Snapshot, 1, 5), object(Level::Log, 6, 9)];
        assert!(lost(&names, &expected(9, 5)).is_nothing());
        assert_eq!(holes(&names, &Expected { first: Txid(3), ..expected(9, 5) }), [(3, 5)]);
        assert_eq!(holes(&names[..1], &expected(9, 5)), [(6, 9)]);
        assert_eq!(holes(&names, &expected(9, 0)), [(1, 5)], "without a snapshot it begins at the first transaction");
    }

    #[test]
    fn nothing_below_a_floor_is_lost() {
        let names = [object(Level::Snapshot, 1, 5), object(Level::Log, 9, 9)];
        let kept = Expected { first: Txid(2), floor: Txid(7), ..expected(9, 5) };
        assert_eq!(holes(&names, &kept), [(7, 8)]);
        assert!(lost(&names, &Expected { floor: Txid(9), ..kept }).is_nothing());
    }

    #[test]
    fn the_newest_snapshot_has_to_be_there_or_a_newer_one() {
        let log = object(Level::Log, 1, 9);
        assert!(lost(&[log], &expected(9, 5)).snapshot);
        assert!(lost(&[log, object(Level::Snapshot, 1, 4)], &expected(9, 5)).snapshot);
        assert!(!lost(&[log, object(Level::Snapshot, 1, 6)], &expected(9, 5)).snapshot);
        assert!(!lost(&[log], &expected(9, 0)).snapshot);
    }

    proptest! {
        #[test]
        fn each_transaction_is_there_or_in_a_hole(
            runs in prop::collection::vec((1_u64..40, 0_u64..6), 0..12),
            watermark in 1_u64..50,
        ) {
            let names: Vec<ObjectName> = runs.iter().map(|(first, more)| object(Level::Log, *first, first + more)).collect();
            let found = lost(&names, &expected(watermark, 0)).holes;
            for txid in (1..=watermark).map(Txid) {
                let is_there = names.iter().any(|name| name.first <= txid && txid <= name.last);
                let is_lost = found.iter().any(|hole| hole.first <= txid && txid <= hole.last);
                prop_assert!(is_there != is_lost, "{txid}");
            }
            prop_assert!(found.windows(2).all(|two| two[0].last.next() < two[1].first));
            prop_assert!(found.iter().all(|hole| hole.last.0 <= watermark));
        }
    }
}
