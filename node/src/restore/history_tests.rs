use proptest::prelude::*;
use seawall_proto::checksum::Checksum;
use seawall_proto::object_name::ObjectName;

use super::super::plan::{Goal, plan};
use super::*;

const LINEAGE: Lineage = Lineage(1);

fn object(level: Level, first: u64, last: u64) -> SourceObject {
    let name =
        ObjectName { lineage: LINEAGE, level, first: Txid(first), last: Txid(last), checksum_after: Checksum(last) };
    SourceObject { origin: Arc::from("here"), route: 0, name, size: 200, commit_time_ms: None }
}

/// Runs as first, last, states; gaps as first, last.
type Shown = (Vec<(u64, u64, u64)>, Vec<(u64, u64)>);

fn shown(objects: &[SourceObject]) -> Shown {
    let (runs, gaps) = runs(objects, LINEAGE);
    let runs = runs.iter().map(|run| (run.first.0, run.last.0, run.states));
    (runs.collect(), gaps.iter().map(|gap| (gap.first.0, gap.last.0)).collect())
}

#[test]
fn adjoining_objects_are_one_run() {
    let objects = [object(Level::Log, 1, 5), object(Level::Log, 6, 9), object(Level::Log, 4, 12)];
    assert_eq!(shown(&objects), (vec![(1, 12, 12)], vec![]));
}

#[test]
fn what_only_a_snapshot_bridges_is_lost() {
    let objects = [object(Level::Log, 1, 5), object(Level::Snapshot, 1, 9), object(Level::Log, 10, 12)];
    assert_eq!(shown(&objects), (vec![(1, 5, 5), (9, 12, 4)], vec![(6, 8)]));
}

#[test]
fn merged_transactions_leave_fewer_states_and_no_gap() {
    let objects = [
        object(Level::Snapshot, 1, 100),
        object(Level::One, 101, 150),
        object(Level::One, 151, 180),
        object(Level::Two, 101, 180),
        object(Level::One, 181, 200),
        object(Level::Log, 201, 300),
        object(Level::One, 301, 400),
    ];
    assert_eq!(shown(&objects), (vec![(100, 180, 3), (200, 300, 101), (400, 400, 1)], vec![]));
}

#[test]
fn what_nothing_leads_to_is_not_listed() {
    let objects = [object(Level::Log, 7, 9), object(Level::One, 11, 12), object(Level::Snapshot, 1, 20)];
    assert_eq!(shown(&objects), (vec![(20, 20, 1)], vec![]));
    assert_eq!(shown(&objects[..2]), (vec![], vec![]));
}

fn any_object() -> impl Strategy<Value = SourceObject> {
    let level =
        prop_oneof![3 => Just(Level::Log), 2 => Just(Level::One), 1 => Just(Level::Two), 1 => Just(Level::Snapshot)];
    (level, 1_u64..30, 0_u64..8).prop_map(|(level, first, length)| {
        let first = if level == Level::Snapshot { 1 } else { first };
        object(level, first, if level == Level::Snapshot { first + 3 * length } else { first + length })
    })
}

proptest! {
    /// A state is in a run of every transaction exactly if there is a plan for it; what lies in a gap has none, and
    /// the states of runs are as many as have plans.
    #[test]
    fn runs_are_what_can_be_planned(objects in prop::collection::vec(any_object(), 0..12)) {
        let (runs, gaps) = runs(&objects, LINEAGE);
        let can = |txid: u64| plan(&objects, |_| true, LINEAGE, None, Goal::Exactly(Txid(txid))).is_ok();
        let mut states = 0;
        for txid in 1..=60 {
            let inside = runs.iter().find(|run| (run.first.0..=run.last.0).contains(&txid));
            states += u64::from(can(txid));
            prop_assert!(!can(txid) || inside.is_some(), "{txid} is not listed");
            if let Some(run) = inside {
                prop_assert!(can(txid) || !run.has_every_transaction(), "{txid} is listed");
            }
            let lost = gaps.iter().any(|gap| (gap.first.0..=gap.last.0).contains(&txid));
            prop_assert!(!lost || !can(txid) && inside.is_none(), "{txid} is not lost");
        }
        prop_assert_eq!(states, runs.iter().map(|run| run.states).sum::<u64>());
        for run in &runs {
            prop_assert!(can(run.first.0) && can(run.last.0));
        }
    }
}
