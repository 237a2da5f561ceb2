//! Merged levels and retention, on a log and at places that are doubles.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod fanout_double;

use std::sync::Arc;
use std::time::Duration;

use fanout_double::{Behaviour, TestLog, TestPlace, name, until};
use seawall_node::destination::{Deletion, NamedDestination, Retention, Windows};
use seawall_node::fanout::{Fanout, FanoutOptions};
use seawall_node::restore::{DestinationSource, Outcome, Progress, RestoreOptions, When, restore};
use seawall_proto::object_name::{Level, ObjectName};
use seawall_proto::position::Txid;

const SHORT: Duration = Duration::from_millis(10);

struct Quiet;

impl Progress for Quiet {
    fn planned(&self, _bytes: u64) {}
    fn read(&self, _bytes: u64) {}
    fn warn(&self, message: &str) {
        panic!("{message}");
    }
}

fn start(log: &TestLog, places: Vec<NamedDestination>) -> Fanout {
    seawall_host::real::install();
    let options = FanoutOptions {
        progress_interval: SHORT,
        sweep_interval: 2 * SHORT,
        retry_first: SHORT,
        retry_most: 5 * SHORT,
        ..FanoutOptions::default()
    };
    Fanout::start(options, places, Arc::new(log.clone()), Arc::new(log.clone()))
}

/// A destination where every level is made after moments; nothing expires but by the cluster's time, which stands still.
fn place(place: &TestPlace) -> NamedDestination {
    let windows = Windows {
        upload_interval: SHORT,
        level_one_interval: 6 * SHORT,
        level_two_interval: 25 * SHORT,
        snapshot_interval: 100 * SHORT,
        ..Windows::default()
    };
    let second = Duration::from_secs(1);
    let retention = Retention {
        transactions: 100 * second,
        level_one: 200 * second,
        age: 300 * second,
        grace: 50 * second,
        ..Retention::default()
    };
    NamedDestination { windows, retention, ..place.named("a", SHORT) }
}

fn objects(place: &TestPlace) -> Vec<ObjectName> {
    place.objects().keys().filter_map(|name| name.strip_prefix("app/")).map(|name| name.parse().unwrap()).collect()
}

fn of_level(place: &TestPlace, level: Level) -> Vec<ObjectName> {
    objects(place).into_iter().filter(|name| name.level == level).collect()
}

/// Commits until there are so many objects of each level, all uploaded.
async fn fill(log: &TestLog, place: &TestPlace) -> Txid {
    let enough = || {
        [(Level::One, 3), (Level::Two, 2), (Level::Snapshot, 2)]
            .iter()
            .all(|(level, count)| of_level(place, *level).len() >= *count)
    };
    let mut head = Txid::NONE;
    while !enough() {
        head = log.commit(&name("app"), 1, 12);
        until("the watermark", || log.watermark(&name("app"), "a") >= head).await;
    }
    head
}

async fn restored(log: &TestLog, place: &TestPlace, when: When) -> Result<Txid, String> {
    let directory = tempfile::tempdir().unwrap();
    let source = DestinationSource::new(Arc::new(place.clone()), name("app"));
    let options = RestoreOptions { when, ..RestoreOptions::new(directory.path().join("app.db")) };
    match restore(&source, &options, &Quiet).await {
        Ok(Outcome::Restored(restored)) => {
            assert_eq!(restored.position.checksum, log.checksum(&name("app"), restored.position.txid));
            Ok(restored.position.txid)
        }
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::test]
async fn merged_objects_lead_where_single_transactions_are_gone() {
    let (log, a) = (TestLog::leader(), TestPlace::new());
    let _fanout = start(&log, vec![place(&a)]);
    let head = fill(&log, &a).await;
    let snapshot = of_level(&a, Level::Snapshot).iter().map(|name| name.last).max().unwrap();
    for object in of_level(&a, Level::Log).iter().filter(|name| name.first > Txid(1) && name.last <= snapshot) {
        a.remove(&format!("app/{object}"));
    }
    for merged in objects(&a).iter().filter(|name| name.level != Level::Log) {
        assert_eq!(restored(&log, &a, When::Txid(merged.last)).await, Ok(merged.last), "{merged}");
    }
    assert_eq!(restored(&log, &a, When::Newest).await, Ok(head));
}

#[tokio::test]
async fn a_database_that_is_not_written_to_makes_no_request() {
    let (log, a) = (TestLog::leader(), TestPlace::new());
    let _fanout = start(&log, vec![place(&a)]);
    let head = log.commit(&name("app"), 1, 12);
    until("the watermark", || log.watermark(&name("app"), "a") >= head).await;
    // Once; then nothing changes any more.
    until("its snapshot", || of_level(&a, Level::Snapshot).len() == 1).await;
    let before = a.requests();
    // The other database goes on, so that time passes here too.
    for _ in 0..30 {
        let head = log.commit(&name("other"), 1, 12);
        until("the other's watermark", || log.watermark(&name("other"), "a") >= head).await;
    }
    let others = || a.objects().keys().filter(|name| name.starts_with("other/")).count();
    until("one request for each object of the other database", || (a.requests() - before) as usize == others()).await;
}

#[tokio::test]
async fn what_expired_goes_after_the_grace_period_and_the_newest_state_stays() {
    let (log, a) = (TestLog::leader(), TestPlace::new());
    let _fanout = start(&log, vec![place(&a)]);
    let head = fill(&log, &a).await;
    let before = objects(&a);
    let floors = || log.progress(&name("app"), "a").unwrap().floors.first().copied().unwrap_or_default();
    // Every commit was in the second second.
    log.set_time(150_000);
    until("floors of level 0", || floors().level_zero > 0).await;
    assert_eq!((floors().level_one, floors().snapshot), (0, 0));
    assert_eq!(objects(&a), before, "the grace period is not over");
    log.set_time(199_000);
    assert_eq!(objects(&a), before, "nor is it yet");
    log.set_time(201_000);
    until("level 0 to go", || of_level(&a, Level::Log).len() < before.len() / 2).await;
    log.set_time(1_000_000);
    until("floors of snapshots", || floors().snapshot > 0).await;
    log.set_time(2_000_000);
    until("one snapshot", || of_level(&a, Level::Snapshot).len() == 1).await;
    assert_eq!(restored(&log, &a, When::Newest).await, Ok(head));
    let oldest = of_level(&a, Level::Snapshot)[0].last;
    assert!(restored(&log, &a, When::Txid(Txid(oldest.0 - 1))).await.is_err());
}

#[tokio::test]
async fn a_place_that_refuses_deletions_keeps_everything_and_goes_on() {
    let (log, a, b) = (TestLog::leader(), TestPlace::new(), TestPlace::new());
    let never = place(&b);
    let retention = Retention { deletion: Deletion::Never, ..never.retention.clone() };
    let never = NamedDestination { name: "b".to_owned(), retention, ..never };
    let _fanout = start(&log, vec![place(&a), never]);
    fill(&log, &a).await;
    a.behave(Behaviour::Locked);
    log.set_time(1_000_000);
    let floors = || log.progress(&name("app"), "a").unwrap().floors.first().copied().unwrap_or_default();
    until("floors", || floors().snapshot > 0).await;
    let (before, requests) = (objects(&a), a.requests());
    log.set_time(2_000_000);
    until("deletions to be tried", || a.requests() > requests + 1).await;
    assert_eq!(objects(&a), before);
    let head = log.commit(&name("app"), 1, 12);
    until("both", || ["a", "b"].iter().all(|place| log.watermark(&name("app"), place) >= head)).await;
    assert!(log.progress(&name("app"), "b").unwrap().floors.is_empty());
    a.behave(Behaviour::Works);
    log.set_time(2_100_000);
    until("what was refused to go", || objects(&a).len() < before.len() / 2).await;
    assert_eq!(restored(&log, &a, When::Newest).await, Ok(head));
}
