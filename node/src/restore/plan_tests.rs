use std::sync::Arc;

use proptest::prelude::*;
use seawall_proto::checksum::Checksum;
use seawall_proto::object_name::ObjectName;

use super::*;

fn object(level: Level, first: u64, last: u64) -> SourceObject {
    let name =
        ObjectName { lineage: Lineage(1), level, first: Txid(first), last: Txid(last), checksum_after: Checksum(last) };
    SourceObject { origin: Arc::from("here"), route: 0, name, size: last - first + 1, commit_time_ms: None }
}

fn steps(objects: &[SourceObject], goal: Goal) -> Vec<(usize, u64, u64)> {
    let plan = plan(objects, |_| true, Lineage(1), None, goal).unwrap();
    plan.steps.iter().map(|step| (step.object, step.from.0, step.until.0)).collect()
}

#[test]
fn starts_from_the_newest_snapshot_at_or_below_the_target() {
    let objects = [
        object(Level::Snapshot, 1, 10),
        object(Level::Snapshot, 1, 20),
        object(Level::Log, 11, 25),
        object(Level::Log, 26, 30),
    ];
    assert_eq!(steps(&objects, Goal::Newest), [(1, 0, 20), (2, 20, 25), (3, 25, 30)]);
    assert_eq!(steps(&objects, Goal::Exactly(Txid(19))), [(0, 0, 10), (2, 10, 19)]);
    assert_eq!(steps(&objects, Goal::Exactly(Txid(20))), [(1, 0, 20)]);
    assert_eq!(steps(&objects, Goal::Exactly(Txid(21))), [(1, 0, 20), (2, 20, 21)]);
}

#[test]
fn prefers_the_object_that_reaches_furthest() {
    let objects = [
        object(Level::Log, 1, 3),
        object(Level::Log, 1, 5),
        object(Level::Log, 4, 9),
        object(Level::Log, 6, 7),
        object(Level::One, 6, 12),
    ];
    assert_eq!(steps(&objects, Goal::Newest), [(1, 0, 5), (4, 5, 12)]);
    assert_eq!(steps(&objects, Goal::Exactly(Txid(9))), [(0, 0, 3), (2, 3, 9)]);
}

#[test]
fn leaves_a_run_early_where_only_a_merged_object_goes_on() {
    let objects = [object(Level::Log, 1, 8), object(Level::One, 6, 10)];
    assert_eq!(steps(&objects, Goal::Newest), [(0, 0, 5), (1, 5, 10)]);
}

#[test]
fn goes_on_from_a_state_that_is_there() {
    let objects = [object(Level::Snapshot, 1, 9), object(Level::Log, 4, 7), object(Level::Log, 6, 8)];
    let found = plan(&objects, |_| true, Lineage(1), Some(Txid(5)), Goal::Exactly(Txid(8))).unwrap();
    assert_eq!(found.steps, [Step { object: 2, from: Txid(5), until: Txid(8) }]);
    let there = plan(&objects, |_| true, Lineage(1), Some(Txid(8)), Goal::Exactly(Txid(8))).unwrap();
    assert_eq!(there.steps, []);
    assert!(plan(&objects, |index| index == 0, Lineage(1), Some(Txid(5)), Goal::Exactly(Txid(8))).is_err());
}

#[test]
fn names_the_nearest_states_when_there_is_no_chain() {
    let objects = [object(Level::Log, 1, 4), object(Level::One, 5, 9), object(Level::Log, 12, 14)];
    let error = plan(&objects, |_| true, Lineage(1), None, Goal::Exactly(Txid(7))).unwrap_err();
    let expected =
        PlanError::Unreachable { target: Txid(7), lineage: Lineage(1), below: Some(Txid(4)), above: Some(Txid(9)) };
    assert_eq!(error, expected);
    let nothing = plan(&objects, |_| true, Lineage(2), None, Goal::Newest).unwrap_err();
    assert_eq!(nothing, PlanError::Nothing { lineage: Lineage(2), lineages: vec![Lineage(1)] });
    let no_start = plan(&objects, |index| index == 2, Lineage(1), None, Goal::Newest).unwrap_err();
    assert_eq!(no_start, PlanError::NoStart(Lineage(1)));
}

fn objects() -> impl Strategy<Value = Vec<SourceObject>> {
    let one = (0..5_u8, 1..16_u64, 0..6_u64).prop_map(|(level, first, more)| match level {
        0 => object(Level::Snapshot, 1, first + more),
        1 => object(Level::One, first, first + more),
        _ => object(Level::Log, first, first + more),
    });
    proptest::collection::vec(one, 1..9)
}

/// Every state, by trying every object and every place to leave it.
fn naive(objects: &[SourceObject], limit: u64) -> BTreeMap<u64, (std::cmp::Reverse<u64>, usize)> {
    let mut known = BTreeMap::from([(0, (std::cmp::Reverse(0), 0))]);
    loop {
        let before = known.clone();
        for (&at, &(start, count)) in &before {
            for object in objects {
                let (first, last) = (object.name.first.0, object.name.last.0);
                let ends = match object.name.level {
                    Level::Log if first <= at + 1 && at < last => at + 1..=last,
                    Level::Log => continue,
                    _ if first == at + 1 => last..=last,
                    _ => continue,
                };
                for end in ends.filter(|end| *end <= limit) {
                    let start =
                        if object.name.level != Level::Log && first == 1 { std::cmp::Reverse(end) } else { start };
                    let found = (start, count + 1);
                    let entry = known.entry(end).or_insert(found);
                    *entry = (*entry).min(found);
                }
            }
        }
        if known == before {
            return known;
        }
    }
}

proptest! {
    #[test]
    fn finds_what_a_naive_search_finds(objects in objects(), target in 1..22_u64) {
        let known = naive(&objects, target);
        let found = plan(&objects, |_| true, Lineage(1), None, Goal::Exactly(Txid(target)));
        match (found, known.get(&target)) {
            (Ok(plan), Some(&(start, count))) => {
                prop_assert_eq!(plan.steps.len(), count);
                let snapshot = plan.steps.iter().rev().find(|step| is_snapshot(&objects[step.object]));
                prop_assert_eq!(snapshot.map_or(0, |step| step.until.0), start.0);
                let mut at = 0;
                for step in &plan.steps {
                    let name = objects[step.object].name;
                    prop_assert_eq!(step.from.0, at);
                    prop_assert!(name.first.0 <= at + 1 && step.until <= name.last && step.until.0 > at);
                    if name.level != Level::Log {
                        prop_assert!(name.first.0 == at + 1 && step.until == name.last);
                    }
                    at = step.until.0;
                }
                prop_assert_eq!(at, target);
            }
            (Err(PlanError::Unreachable { below, above, .. }), None) => {
                prop_assert_eq!(below.map_or(0, |txid| txid.0), *known.last_key_value().unwrap().0);
                let all = naive(&objects, u64::MAX);
                prop_assert_eq!(above.map(|txid| txid.0), all.range(target..).next().map(|(txid, _)| *txid));
            }
            (found, known) => prop_assert!(false, "{found:?} against {known:?}"),
        }
    }

    #[test]
    fn reachable_states_are_those_of_a_naive_search(objects in objects()) {
        let known: BTreeSet<u64> = naive(&objects, u64::MAX).into_keys().filter(|txid| *txid > 0).collect();
        let found: BTreeSet<u64> = reachable(&objects, &|_| true, Lineage(1))
            .into_iter()
            .flat_map(|reach| reach.txids.start().0..=reach.txids.end().0)
            .collect();
        prop_assert_eq!(found, known);
    }
}
