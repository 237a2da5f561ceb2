//! A destination has what its watermark says.
//!
//! Source: Seawall's design, "watermark: the state at exactly this txid can be rebuilt from there", and "only committed
//! data is uploaded": the object goes first, the watermark through Raft follows.

use seawall_proto::object_name::ObjectName;
use seawall_proto::position::{Lineage, Txid};

/// Checks that one of the `objects` that are truly at a destination brings a database to `watermark`. Whoever restores
/// shows that the others fit; without this one nobody can.
///
/// # Errors
/// What is missing, in words.
pub fn check(objects: impl IntoIterator<Item = ObjectName>, lineage: Lineage, watermark: Txid) -> Result<(), String> {
    let mut newest = None;
    for object in objects.into_iter().filter(|object| object.lineage == lineage) {
        if (object.first..=object.last).contains(&watermark) {
            return Ok(());
        }
        newest = newest.max(Some(object.last));
    }
    let ends =
        newest.map_or("nothing of that lineage is there".to_owned(), |last| format!("the newest ends at {last}"));
    Err(format!("the watermark is @{lineage}/{watermark}, but no object has that transaction: {ends}"))
}

#[cfg(test)]
mod tests {
    use seawall_proto::checksum::Checksum;
    use seawall_proto::object_name::Level;

    use super::*;

    fn object(lineage: u64, level: Level, first: u64, last: u64) -> ObjectName {
        let (lineage, first, last) = (Lineage(lineage), Txid(first), Txid(last));
        ObjectName { lineage, level, first, last, checksum_after: Checksum(last.0) }
    }

    #[test]
    fn an_object_that_ends_there_or_goes_beyond_is_enough() {
        let objects = [object(1, Level::Snapshot, 1, 4), object(1, Level::Log, 5, 9)];
        for watermark in [4, 5, 9] {
            assert_eq!(check(objects, Lineage(1), Txid(watermark)), Ok(()));
        }
    }

    #[test]
    fn a_watermark_ahead_in_a_gap_or_in_another_lineage_is_seen() {
        let objects = [object(1, Level::Log, 1, 4), object(1, Level::Log, 7, 9), object(2, Level::Log, 10, 20)];
        for watermark in [10, 5] {
            let error = check(objects, Lineage(1), Txid(watermark)).unwrap_err();
            assert!(error.contains("ends at 9"), "{error}");
        }
        assert!(check(objects, Lineage(3), Txid(1)).is_err());
    }
}
