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
    let objects: Vec<ObjectName> = objects.into_iter().filter(|object| object.lineage == lineage).collect();
    let mut reached = Txid::NONE;
    // Of the log a part can be taken, and what is there already skipped; what is merged fits as a whole or not at all.
    let leads_on = |object: &&ObjectName, reached: Txid| match object.level {
        Level::Log => object.first <= reached.next(),
        Level::One | Level::Two => object.first == reached.next() && object.last <= watermark,
        Level::Snapshot => object.last <= watermark,
    };
    while reached < watermark {
        let next = objects.iter().filter(|object| leads_on(object, reached)).map(|object| object.last).max();
        let Some(next) = next.filter(|next| *next > reached) else {
            return Err(format!(
                "the watermark is @{lineage}/{watermark}, but the objects lead to {reached} only: nothing goes on there"
            ));
        };
        reached = next;
    }
    Ok(())
}

/// Checks that the `objects` that are truly at a destination lead to every state up to `watermark`, not only to that one.
///
/// # Errors
/// Where the gap is, in words.
pub fn check_history(
    objects: impl IntoIterator<Item = ObjectName>,
    lineage: Lineage,
    watermark: Txid,
) -> Result<(), String> {
    check(objects.into_iter().filter(|object| object.level != Level::Snapshot), lineage, watermark)
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
        assert!(check_history(objects, Lineage(1), Txid(20)).unwrap_err().contains("lead to 9 only"));
        assert_eq!(check_history(objects, Lineage(1), Txid(9)), Ok(()));
        assert!(check(objects, Lineage(2), Txid(20)).is_err() && check(objects, Lineage(3), Txid(1)).is_err());
    }
}
