//! Nothing goes from a destination that was not decreed to be deletable, and nothing young is decreed.
//!
//! Source: Seawall's design, promise 5: "only what lies below a decreed floor is deleted", and the retention of
//! levels: "transaction-level history for the first 24 h … never the last snapshot".

use seawall_node::destination::Retention;
use seawall_proto::object_name::{Level, ObjectName};
use seawall_proto::v1::Floors;

/// The floor of a level.
pub fn floor_of(floors: &Floors, level: Level) -> u64 {
    match level {
        Level::Log => floors.level_zero,
        Level::One => floors.level_one,
        Level::Two => floors.level_two,
        Level::Snapshot => floors.snapshot,
    }
}

/// Checks that an object that was deleted lay below a floor.
///
/// # Errors
/// Where it lay.
pub fn check_deletion(name: &ObjectName, floors: &Floors) -> Result<(), String> {
    let floor = floor_of(floors, name.level);
    if name.last.0 < floor {
        return Ok(());
    }
    Err(format!("{name} was deleted, but the highest floor of its level that anybody knows is {floor}"))
}

/// A floor that rose, and what the cluster's position log says of the state that history goes on from there.
#[derive(Clone, Copy, Debug)]
pub struct Raised {
    /// Of which level.
    pub level: Level,
    /// When the state was committed that restores of the oldest kept time begin with, milliseconds since 1970.
    pub committed_ms: i64,
    /// When the cluster decreed it.
    pub decreed_ms: i64,
}

/// Checks that what a floor lets go was followed by a state that is itself older than the level is kept.
///
/// # Errors
/// How old it is.
pub fn check_age(raised: &Raised, retention: &Retention) -> Result<(), String> {
    let kept = match raised.level {
        Level::Log => retention.transactions,
        Level::One => retention.level_one,
        Level::Two | Level::Snapshot => retention.age,
    };
    let age = raised.decreed_ms - raised.committed_ms;
    if u128::try_from(age).is_ok_and(|age| age >= kept.as_millis()) {
        return Ok(());
    }
    Err(format!(
        "a floor of level {} rose to a state that is {age} ms old; it is to be kept for {kept:?}",
        raised.level
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use seawall_proto::checksum::Checksum;
    use seawall_proto::position::{Lineage, Txid};

    use super::*;

    #[test]
    fn what_lies_at_a_floor_or_above_it_stays() {
        let floors = Floors { lineage: 1, level_zero: 9, level_one: 7, level_two: 5, snapshot: 3, decreed_ms: 0 };
        for (level, floor) in [(Level::Log, 9), (Level::One, 7), (Level::Two, 5), (Level::Snapshot, 3)] {
            let name = |last| ObjectName {
                lineage: Lineage(1),
                level,
                first: Txid(1),
                last: Txid(last),
                checksum_after: Checksum(1),
            };
            assert!(check_deletion(&name(floor - 1), &floors).is_ok());
            assert!(check_deletion(&name(floor), &floors).is_err());
        }
    }

    #[test]
    fn a_floor_rises_to_old_states_only() {
        let retention = Retention {
            transactions: Duration::from_secs(1),
            level_one: Duration::from_secs(2),
            age: Duration::from_secs(3),
            ..Retention::default()
        };
        for (level, kept) in [(Level::Log, 1_000), (Level::One, 2_000), (Level::Two, 3_000), (Level::Snapshot, 3_000)] {
            let raised = Raised { level, committed_ms: 500, decreed_ms: 500 + kept };
            assert_eq!(check_age(&raised, &retention), Ok(()));
            assert!(check_age(&Raised { committed_ms: 501, ..raised }, &retention).is_err());
        }
    }
}
