//! What the cluster decrees about what destinations need not keep.

use seawall_host::probe::mutant;
use seawall_proto::object_name::{Level, ObjectName};
use seawall_proto::position::Txid;
use seawall_proto::v1;

use super::database::DatabaseState;

impl DatabaseState {
    /// Below it no destination keeps single transactions; none if some keep all.
    pub fn floor(&self) -> Option<Txid> {
        let floor = |progress: &v1::DestinationProgress| {
            let floors = progress.floors.iter().find(|floors| floors.lineage == self.head.lineage);
            floors.map_or(0, |floors| floors.level_zero)
        };
        self.destinations.values().map(floor).min().filter(|floor| *floor > 0).map(Txid)
    }

    /// Raises the floors of a destination, as far as what it is known to hold allows, and notes when to look again.
    ///
    /// Whoever decreed it looked at the objects themselves; that no floor passes what every node knows to be there holds
    /// even so: the newest snapshot stays, and no level goes where none above it has been. Floors that belong together
    /// rise together or not at all: each was proven with the others.
    pub(super) fn decree_retention(&mut self, decree: &v1::RetentionDecree) {
        let Some(known) = self.destinations.get_mut(&decree.destination) else { return };
        if decree.lineage != known.lineage {
            return;
        }
        for to in &decree.floors {
            if !highest(known, to.lineage).is_some_and(|highest| is_within(to, &highest)) {
                continue;
            }
            let at = known.floors.iter().position(|floors| floors.lineage >= to.lineage).unwrap_or(known.floors.len());
            if known.floors.get(at).is_none_or(|floors| floors.lineage != to.lineage) {
                known.floors.insert(at, v1::Floors { lineage: to.lineage, ..v1::Floors::default() });
            }
            let Some(floors) = known.floors.get_mut(at) else { continue };
            let before = *floors;
            *floors = raised(floors, to);
            if *floors != before {
                floors.decreed_ms = to.decreed_ms.max(before.decreed_ms);
            }
        }
        // What came since may expire before what was looked at does.
        let mark = |mark: Option<v1::LevelMark>| mark.unwrap_or_default().txid;
        let seen = (decree.watermark, decree.snapshot, decree.level_one, decree.level_two);
        let there = (known.watermark, known.snapshot, mark(known.level_one), mark(known.level_two));
        if decree.retention_due_ms != 0 || seen == there {
            known.retention_due_ms = decree.retention_due_ms;
        }
    }
}

/// Whether an object of level 0 begins with the empty database.
pub fn starts(name: &ObjectName) -> bool {
    name.level == Level::Log && name.first == Txid::NONE.next()
}

/// Whether an object may be deleted under these floors.
pub fn is_below(floors: &v1::Floors, name: &ObjectName) -> bool {
    let floor = match name.level {
        // Where the first transactions are, merged objects of both levels begin behind them.
        Level::Log if starts(name) => floors.level_zero.min(floors.level_one).min(floors.level_two),
        Level::Log => floors.level_zero,
        Level::One => floors.level_one,
        Level::Two => floors.level_two,
        Level::Snapshot => floors.snapshot,
    };
    name.lineage.0 == floors.lineage && name.last.0 < floor
}

/// `floors`, each as high as that of `to` if that one is higher.
pub fn raised(floors: &v1::Floors, to: &v1::Floors) -> v1::Floors {
    v1::Floors {
        level_zero: floors.level_zero.max(to.level_zero),
        level_one: floors.level_one.max(to.level_one),
        level_two: floors.level_two.max(to.level_two),
        snapshot: floors.snapshot.max(to.snapshot),
        ..*floors
    }
}

fn is_within(floors: &v1::Floors, highest: &v1::Floors) -> bool {
    floors.level_zero <= highest.level_zero
        && floors.level_one <= highest.level_one
        && floors.level_two <= highest.level_two
        && floors.snapshot <= highest.snapshot
}

/// How far the floors of a lineage may rise; not at all in one that the destination does not hold yet.
fn highest(known: &v1::DestinationProgress, lineage: u64) -> Option<v1::Floors> {
    let every = v1::Floors {
        lineage,
        level_zero: u64::MAX,
        level_one: u64::MAX,
        level_two: u64::MAX,
        snapshot: u64::MAX,
        decreed_ms: 0,
    };
    if lineage > known.lineage {
        return None;
    }
    if lineage < known.lineage {
        // Over and done with; but the newer one must be there.
        return (known.watermark > 0).then_some(every);
    }
    if mutant("floor-past-the-last-snapshot") {
        return Some(every);
    }
    let (one, two) = (known.level_one.unwrap_or_default().txid, known.level_two.unwrap_or_default().txid);
    Some(v1::Floors {
        level_zero: known.snapshot.max(two).max(one) + 1,
        level_one: known.snapshot.max(two) + 1,
        level_two: known.snapshot + 1,
        snapshot: known.snapshot,
        ..every
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(news: v1::DestinationProgress) -> DatabaseState {
        let mut database = DatabaseState::begin();
        database.head.lineage = news.lineage;
        database.head.txid = 1_000;
        database.progress(&news);
        database
    }

    fn mark(txid: u64) -> Option<v1::LevelMark> {
        Some(v1::LevelMark { txid, checksum: txid, opened_ms: 1 })
    }

    fn held() -> v1::DestinationProgress {
        v1::DestinationProgress {
            destination: "s3".to_owned(),
            lineage: 2,
            watermark: 90,
            snapshot: 30,
            level_two: mark(50),
            level_one: mark(70),
            retention_due_ms: 7,
            ..v1::DestinationProgress::default()
        }
    }

    fn decree(lineage: u64, txid: u64, decreed_ms: i64) -> v1::RetentionDecree {
        let floors =
            v1::Floors { lineage, level_zero: txid, level_one: txid, level_two: txid, snapshot: txid, decreed_ms };
        v1::RetentionDecree {
            destination: "s3".to_owned(),
            lineage: 2,
            watermark: 90,
            snapshot: 30,
            level_two: 50,
            level_one: 70,
            floors: vec![floors],
            retention_due_ms: 500,
            ..v1::RetentionDecree::default()
        }
    }

    fn floors(database: &DatabaseState) -> Vec<[u64; 5]> {
        let floors = database.destinations["s3"].floors.iter();
        floors.map(|it| [it.lineage, it.level_zero, it.level_one, it.level_two, it.snapshot]).collect()
    }

    #[test]
    fn floors_rise_as_far_as_something_above_leads() {
        let mut database = destination(held());
        database.decree_retention(&decree(2, 20, 100));
        assert_eq!(floors(&database), [[2, 20, 20, 20, 20]]);
        let highest =
            v1::Floors { level_zero: 71, level_one: 51, level_two: 31, snapshot: 30, lineage: 2, decreed_ms: 200 };
        let decree_of = |floors| v1::RetentionDecree { floors: vec![floors], ..decree(2, 0, 0) };
        for beyond in [
            v1::Floors { level_zero: 72, ..highest },
            v1::Floors { level_one: 52, ..highest },
            v1::Floors { level_two: 32, ..highest },
            v1::Floors { snapshot: 31, ..highest },
        ] {
            database.decree_retention(&decree_of(beyond));
            assert_eq!(floors(&database), [[2, 20, 20, 20, 20]], "{beyond:?}");
        }
        database.decree_retention(&decree_of(highest));
        assert_eq!(floors(&database), [[2, 71, 51, 31, 30]]);
        database.decree_retention(&decree(2, 10, 300));
        assert_eq!(floors(&database), [[2, 71, 51, 31, 30]]);
        assert_eq!(database.destinations["s3"].floors[0].decreed_ms, 200, "nothing rose");
    }

    #[test]
    fn older_lineages_go_when_the_newer_one_is_there_and_newer_ones_never() {
        let mut database = destination(held());
        database.decree_retention(&decree(3, 20, 100));
        database.decree_retention(&decree(1, u64::MAX, 100));
        assert_eq!(floors(&database), [[1, u64::MAX, u64::MAX, u64::MAX, u64::MAX]]);
        let mut empty = destination(v1::DestinationProgress { watermark: 0, ..held() });
        empty.decree_retention(&decree(1, u64::MAX, 100));
        assert_eq!(floors(&empty), Vec::<[u64; 5]>::new());
    }

    #[test]
    fn who_looked_before_the_last_upload_does_not_end_the_looking() {
        let mut database = destination(held());
        let nothing = v1::RetentionDecree { retention_due_ms: 0, floors: Vec::new(), ..decree(2, 0, 0) };
        for before in [
            v1::RetentionDecree { watermark: 80, ..nothing.clone() },
            v1::RetentionDecree { snapshot: 20, ..nothing.clone() },
            v1::RetentionDecree { level_one: 60, ..nothing.clone() },
        ] {
            database.decree_retention(&before);
            assert_eq!(database.destinations["s3"].retention_due_ms, 7);
        }
        database.decree_retention(&nothing);
        assert_eq!(database.destinations["s3"].retention_due_ms, 0);
        database.progress(&held());
        assert_eq!(database.destinations["s3"].retention_due_ms, 7);
    }

    #[test]
    fn progress_leaves_floors_alone() {
        let mut database = destination(held());
        database.decree_retention(&decree(2, 20, 100));
        let before = floors(&database);
        database.progress(&v1::DestinationProgress { watermark: 95, ..held() });
        database.head.lineage = 3;
        database.progress(&v1::DestinationProgress { lineage: 3, watermark: 4, ..held() });
        assert_eq!(floors(&database), before);
    }
}
