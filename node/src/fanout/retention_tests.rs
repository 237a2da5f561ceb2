use proptest::prelude::*;
use seawall_proto::checksum::Checksum;
use seawall_proto::object_name::ObjectName;

use super::*;

const HOUR: Duration = Duration::from_hours(1);

fn object(level: Level, first: u64, last: u64) -> SourceObject {
    object_of(1, level, first, last)
}

fn object_of(lineage: u64, level: Level, first: u64, last: u64) -> SourceObject {
    let name = ObjectName {
        lineage: Lineage(lineage),
        level,
        first: Txid(first),
        last: Txid(last),
        checksum_after: Checksum(last),
    };
    SourceObject { origin: "x".into(), route: 0, name, size: 10, commit_time_ms: None }
}

/// One transaction an hour: txid 5 is of five o'clock.
fn times(objects: &[SourceObject]) -> BTreeMap<(Lineage, Txid), UnixMillis> {
    let known = objects.iter().map(|object| ((object.name.lineage, object.name.last), hours(object.name.last.0)));
    known.collect()
}

fn hours(hours: u64) -> UnixMillis {
    UnixMillis(i64::try_from(hours * 3_600_000).unwrap())
}

fn retention() -> Retention {
    Retention {
        age: 40 * HOUR,
        snapshots: 1,
        transactions: 5 * HOUR,
        level_one: 20 * HOUR,
        grace: HOUR,
        deletion: Deletion::Expired,
    }
}

fn none() -> v1::Floors {
    v1::Floors { lineage: 1, ..v1::Floors::default() }
}

fn judged(objects: &[SourceObject], retention: &Retention, now: u64) -> Verdict {
    let times = times(objects);
    judge(&Holdings { objects, times: &times, newest: Lineage(1), now: hours(now) }, retention, none())
}

/// A snapshot every 16 hours, level 2 every 8, level 1 every 2, level 0 every hour.
fn regular(until: u64) -> Vec<SourceObject> {
    let mut objects = vec![object(Level::Log, 1, 1)];
    let mut mark = [1, 1];
    for hour in 2..=until {
        objects.push(object(Level::Log, hour, hour));
        if hour % 16 == 0 {
            objects.push(object(Level::Snapshot, 1, hour));
            mark = [hour, hour];
        } else if hour % 8 == 0 {
            objects.push(object(Level::Two, mark[1] + 1, hour));
            mark = [hour, hour];
        } else if hour % 2 == 0 {
            objects.push(object(Level::One, mark[0] + 1, hour));
            mark[0] = hour;
        }
    }
    objects
}

fn floors(verdict: Verdict) -> [u64; 4] {
    let floors = verdict.floors;
    [floors.level_zero, floors.level_one, floors.level_two, floors.snapshot]
}

#[test]
fn each_level_goes_when_it_is_old_and_a_higher_one_leads_further() {
    let objects = regular(100);
    // Of level 0 everything up to 94 (level 1, six hours old), of level 1 up to 80 (snapshot), and snapshots before 48,
    // which is what leads to the states of 60 hours ago.
    assert_eq!(floors(judged(&objects, &retention(), 100)), [95, 81, 49, 48]);
    assert_eq!(judged(&objects, &retention(), 100).next, Some(hours(96 + 5)));
}

#[test]
fn snapshots_are_kept_by_count_however_old_they_are() {
    let objects = regular(100);
    let three = Retention { snapshots: 3, age: HOUR, level_one: HOUR, transactions: HOUR, ..retention() };
    assert_eq!(floors(judged(&objects, &three, 1_000))[3], 64, "96, 80 and 64 stay");
    let many = Retention { snapshots: 100, ..three };
    assert_eq!(floors(judged(&objects, &many, 1_000))[3], 0);
}

#[test]
fn the_last_snapshot_and_what_follows_it_stay_for_ever() {
    let objects = regular(100);
    let verdict = judged(&objects, &retention(), 1_000_000);
    assert_eq!((floors(verdict), verdict.next), ([101, 97, 97, 96], None), "98 and 100 are of level 1, which stays");
    let left = objects.iter().filter(|object| !is_below(&verdict.floors, &object.name));
    let left: Vec<String> = left.map(|object| format!("{} {}", object.name.level, object.name.last)).collect();
    assert_eq!(left, ["snapshot 96", "1 98", "1 100"]);
}

#[test]
fn without_a_snapshot_everything_begins_with_the_first_transactions() {
    let objects = regular(15);
    let verdict = judged(&objects, &retention(), 1_000);
    assert_eq!(floors(verdict), [15, 9, 0, 0]);
    assert!(!is_below(&verdict.floors, &objects[0].name));
}

#[test]
fn a_snapshot_that_objects_reach_over_is_not_where_history_begins() {
    // An object of level 2 leads from 16 over the snapshot at 20 to 24: without that of 16 it would lead nowhere.
    let objects = [
        object(Level::Snapshot, 1, 16),
        object(Level::Snapshot, 1, 20),
        object(Level::Two, 17, 24),
        object(Level::Log, 25, 30),
    ];
    assert_eq!(floors(judged(&objects, &retention(), 1_000)), [25, 25, 0, 0]);
}

#[test]
fn a_state_of_unknown_age_is_young() {
    let objects = regular(100);
    let times = BTreeMap::new();
    let verdict = judge(
        &Holdings { objects: &objects, times: &times, newest: Lineage(1), now: hours(1_000) },
        &retention(),
        none(),
    );
    assert_eq!(verdict, Verdict { floors: none(), next: None });
}

#[test]
fn an_older_lineage_goes_when_the_one_after_it_reaches_back_far_enough() {
    let objects =
        [object_of(1, Level::Log, 1, 50), object_of(1, Level::Snapshot, 1, 20), object_of(2, Level::Log, 1, 160)];
    let times = times(&objects);
    let at = |now| {
        let holdings = Holdings { objects: &objects, times: &times, newest: Lineage(2), now: hours(now) };
        judge(&holdings, &retention(), none())
    };
    assert_eq!((floors(at(199)), at(199).next), ([0, 0, 0, 0], Some(hours(200))));
    assert_eq!((floors(at(200)), at(200).next), ([u64::MAX; 4], None));
}

#[test]
fn single_transactions_expire_before_the_first_snapshot_does() {
    // Merged objects of both levels begin behind the first object of level 0, which stays for their sake.
    let objects = regular(30);
    let verdict = judged(&objects, &retention(), 30);
    assert_eq!(floors(verdict), [25, 9, 0, 0]);
    assert!(!is_below(&verdict.floors, &objects[0].name) && is_below(&verdict.floors, &objects[1].name));
    let old = judged(&regular(100), &retention(), 100);
    assert!(is_below(&old.floors, &objects[0].name), "{old:?}");
}

#[test]
fn nothing_expires_where_nothing_is_deleted() {
    let never = Retention { deletion: Deletion::Never, ..retention() };
    assert_eq!((first_expiry(&never, hours(3)), first_expiry(&retention(), hours(3))), (UnixMillis(0), hours(8)));
}

fn any_objects() -> impl Strategy<Value = Vec<SourceObject>> {
    let level = prop_oneof![
        3 => Just(Level::Log),
        2 => Just(Level::One),
        1 => Just(Level::Two),
        1 => Just(Level::Snapshot)
    ];
    prop::collection::vec((level, 1_u64..60, 0_u64..12), 0..40).prop_map(|objects| {
        let made = objects.into_iter().map(|(level, first, more)| {
            if level == Level::Snapshot { object(level, 1, first + more) } else { object(level, first, first + more) }
        });
        made.collect()
    })
}

proptest! {
    /// Whatever lies there: what can be restored of the kept time can be restored afterwards, the newest state too.
    #[test]
    fn what_is_young_stays_restorable(
        objects in prop_oneof![any_objects(), (1_u64..120).prop_map(regular)],
        now in 1_u64..200,
        count in 1_usize..4,
        ages in (0_u32..30, 0_u32..30, 0_u32..60),
    ) {
        let (transactions, one, age) = ages;
        let retention = Retention {
            age: HOUR * age.max(one).max(transactions),
            level_one: HOUR * one.max(transactions),
            transactions: HOUR * transactions,
            snapshots: count,
            ..retention()
        };
        let Verdict { floors, .. } = judged(&objects, &retention, now);
        let all = reachable(&objects, &|_| true, Lineage(1));
        let left = reachable(&objects, &|index: usize| !is_below(&floors, &objects[index].name), Lineage(1));
        let states = |reaches: &[Reach]| {
            let states = reaches.iter().flat_map(|reach| reach.txids.start().0..=reach.txids.end().0);
            states.collect::<std::collections::BTreeSet<u64>>()
        };
        let (before, after) = (states(&all), states(&left));
        prop_assert_eq!(before.last(), after.last(), "the newest state");
        for state in &before {
            if state + u64::from(transactions) > now {
                prop_assert!(after.contains(state), "transaction {} of {:?}", state, floors);
            }
        }
        // As of the moment that each level reaches back to, there is still a state.
        for (reach, level) in [(transactions, Level::Log), (one.max(transactions), Level::One)] {
            let back = now.saturating_sub(u64::from(reach));
            if before.iter().any(|state| *state <= back) {
                prop_assert!(after.iter().any(|state| *state <= back), "{} of level {}", back, level);
            }
        }
        // At least so many snapshots that lead somewhere.
        let snapshots = |reaches: &[Reach]| reaches.iter().filter(|reach| objects[reach.object].name.level == Level::Snapshot).count();
        prop_assert!(snapshots(&left) >= snapshots(&all).min(count));
    }
}
