//! A destination has what its watermark says.
//!
//! Source: Seawall's design, "watermark: the state at exactly this txid can be rebuilt from there", and "only committed
//! data is uploaded": the object goes first, the watermark through Raft follows.

use seawall_proto::object_name::{Level, ObjectName};
use seawall_proto::position::{Lineage, Txid};

/// Checks that the `objects` that are truly at a destination lead from an empty database to `watermark` without a gap.
/// Whoever restores shows that they hold what their names say; without this one nobody can.
///
/// # Errors
/// What is missing, in words.
pub fn check(objects: impl IntoIterator<Item = ObjectName>, lineage: Lineage, watermark: Txid) -> Result<(), String> {
    let reached = Reached::by(objects, lineage);
    if watermark == Txid::NONE || reached.contains(watermark) {
        return Ok(());
    }
    let below = reached.nearest_below(watermark);
    Err(format!("the watermark is @{lineage}/{watermark}, but the objects lead to {below} only: nothing goes on there"))
}

/// Checks that the `objects` that are truly at a destination lead to every state from `first` up to `watermark`, not
/// only to that one.
///
/// # Errors
/// Where the gap is, in words.
pub fn check_history(
    objects: impl IntoIterator<Item = ObjectName>,
    lineage: Lineage,
    first: Txid,
    watermark: Txid,
) -> Result<(), String> {
    let reached = Reached::by(objects, lineage);
    match (first.max(Txid(1)).0..=watermark.0).find(|txid| !reached.contains(Txid(*txid))) {
        None => Ok(()),
        Some(missing) => {
            Err(format!("of the states {first} to {watermark} of lineage {lineage}, {missing} is not there"))
        }
    }
}

/// The states that objects lead to.
struct Reached(Vec<(Txid, Txid)>);

impl Reached {
    fn by(objects: impl IntoIterator<Item = ObjectName>, lineage: Lineage) -> Self {
        let mut objects: Vec<ObjectName> = objects.into_iter().filter(|object| object.lineage == lineage).collect();
        // An object leads beyond all that it continues.
        objects.sort_by_key(|object| object.last);
        let mut reached = Self(vec![(Txid::NONE, Txid::NONE)]);
        for ObjectName { level, first, last, .. } in objects {
            let before = Txid(first.0 - 1);
            if level != Level::Log {
                // What is merged fits as a whole or not at all.
                if reached.contains(before) {
                    reached.0.push((last, last));
                }
                continue;
            }
            // Of the log a part can be taken, and what is there already skipped.
            let lowest = reached.0.iter().filter(|(from, to)| *to >= before && *from < last);
            let lowest = lowest.map(|(from, _)| (*from).max(before)).min();
            if let Some(lowest) = lowest {
                reached.0.push((lowest.next(), last));
            }
        }
        reached
    }

    fn contains(&self, txid: Txid) -> bool {
        self.0.iter().any(|(from, to)| (*from..=*to).contains(&txid))
    }

    fn nearest_below(&self, txid: Txid) -> Txid {
        self.0
            .iter()
            .filter(|(from, _)| *from < txid)
            .map(|(_, to)| (*to).min(Txid(txid.0 - 1)))
            .max()
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use seawall_proto::checksum::Checksum;

    use super::*;

    fn object(lineage: u64, level: Level, first: u64, last: u64) -> ObjectName {
        let (lineage, first, last) = (Lineage(lineage), Txid(first), Txid(last));
        ObjectName { lineage, level, first, last, checksum_after: Checksum(last.0) }
    }

    #[test]
    fn a_chain_from_the_beginning_or_from_a_snapshot_is_enough() {
        let objects = [
            object(1, Level::Log, 1, 2),
            object(1, Level::Snapshot, 1, 4),
            object(1, Level::Log, 4, 6),
            object(1, Level::One, 7, 9),
            object(1, Level::Log, 10, 12),
        ];
        for watermark in [2, 4, 5, 6, 9, 11, 12] {
            assert_eq!(check(objects, Lineage(1), Txid(watermark)), Ok(()), "{watermark}");
        }
    }

    #[test]
    fn a_watermark_ahead_in_a_gap_behind_one_or_in_another_lineage_is_seen() {
        let objects = [
            object(1, Level::Log, 1, 4),
            object(1, Level::Log, 7, 9),
            object(1, Level::One, 5, 9),
            object(1, Level::Snapshot, 1, 20),
            object(2, Level::Log, 10, 20),
        ];
        for (watermark, reached) in [(5, 4), (8, 4), (19, 9), (21, 20)] {
            let error = check(objects, Lineage(1), Txid(watermark)).unwrap_err();
            assert!(error.contains(&format!("lead to {reached} only")), "{error}");
        }
        assert_eq!(check(objects, Lineage(1), Txid(9)), Ok(()));
        assert_eq!(check(objects, Lineage(1), Txid(20)), Ok(()));
        assert!(check(objects, Lineage(2), Txid(20)).is_err() && check(objects, Lineage(3), Txid(1)).is_err());
    }

    #[test]
    fn history_is_every_state_from_the_floor_on() {
        let objects = [
            object(1, Level::Snapshot, 1, 6),
            object(1, Level::One, 7, 9),
            object(1, Level::One, 7, 10),
            object(1, Level::Log, 8, 12),
            object(1, Level::Log, 13, 14),
        ];
        let check = |first, watermark| check_history(objects, Lineage(1), Txid(first), Txid(watermark));
        assert_eq!((check(9, 14), check(10, 14)), (Ok(()), Ok(())));
        assert!(check(8, 14).unwrap_err().contains(" 8 is not there") && check(9, 15).is_err());
    }
}
