//! Committed segments reach every destination, each on its own.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod fanout_double;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanout_double::{Behaviour, TestLog, TestPlace, name, rebuild, until};
use seawall_node::destination::NamedDestination;
use seawall_node::fanout::{Fanout, FanoutOptions, LaneState};
use seawall_node::service::ingest::Receipts;
use seawall_proto::position::Txid;

const SHORT: Duration = Duration::from_millis(20);
const HOUR: Duration = Duration::from_secs(3600);

fn options() -> FanoutOptions {
    FanoutOptions {
        progress_interval: SHORT,
        retry_first: Duration::from_millis(10),
        retry_most: Duration::from_millis(50),
        ..FanoutOptions::default()
    }
}

fn start(options: FanoutOptions, log: &TestLog, places: Vec<NamedDestination>) -> Fanout {
    seawall_host::real::install();
    Fanout::start(options, places, Arc::new(log.clone()), Arc::new(log.clone()))
}

async fn arrives(log: &TestLog, place: &TestPlace, database: &str, destination: &str, txid: Txid) {
    let database = name(database);
    until("the watermark", || log.watermark(&database, destination) >= txid).await;
    let watermark = log.watermark(&database, destination);
    let (rebuilt, checksum, _) = rebuild(place, &database).await;
    assert!(rebuilt >= watermark);
    assert_eq!(checksum, log.checksum(&database, rebuilt));
}

#[tokio::test]
async fn everything_committed_arrives_everywhere() {
    let (log, a, b) = (TestLog::leader(), TestPlace::new(), TestPlace::new());
    let _fanout = start(options(), &log, vec![a.named("a", SHORT), b.named("b", 3 * SHORT)]);
    let mut heads = (Txid::NONE, Txid::NONE);
    for round in 0..40 {
        heads = (log.commit(&name("app"), 1 + round % 3, 20), log.commit(&name("tenants/acme"), 1, 5));
        tokio::task::yield_now().await;
    }
    for (place, destination) in [(&a, "a"), (&b, "b")] {
        arrives(&log, place, "app", destination, heads.0).await;
        arrives(&log, place, "tenants/acme", destination, heads.1).await;
    }
    until("pins", || log.pinned(&name("app")) == [heads.0.next(), heads.0.next()]).await;
}

#[tokio::test]
async fn what_comes_within_the_interval_is_one_object() {
    let (log, place) = (TestLog::leader(), TestPlace::new());
    let head = (0..10).fold(Txid::NONE, |_, _| log.commit(&name("app"), 2, 3));
    let _fanout = start(options(), &log, vec![place.named("a", SHORT)]);
    arrives(&log, &place, "app", "a", head).await;
    assert_eq!(place.objects().len(), 1);
    let object = place.objects().into_keys().next().unwrap();
    assert!(object.starts_with("app/@1/0/0000000000000001-0000000000000014-"), "{object}");
}

#[tokio::test]
async fn a_full_window_does_not_wait_for_its_interval() {
    let (log, place) = (TestLog::leader(), TestPlace::new());
    let _fanout = start(options(), &log, vec![place.named("a", HOUR)]);
    let last = (0..30).fold(Txid::NONE, |_, _| log.commit(&name("app"), 1, 20));
    until("full windows", || log.watermark(&name("app"), "a") > Txid(10)).await;
    assert!(log.watermark(&name("app"), "a") < last);
    assert!(place.objects().values().all(|object| object.len() < 80 << 10));
}

#[tokio::test]
async fn an_idle_database_makes_no_requests() {
    let (log, place) = (TestLog::leader(), TestPlace::new());
    let _fanout = start(options(), &log, vec![place.named("a", SHORT)]);
    let head = log.commit(&name("app"), 1, 10);
    arrives(&log, &place, "app", "a", head).await;
    let (requests, proposals) = (place.requests(), log.proposals());
    tokio::time::sleep(15 * SHORT).await;
    assert_eq!((place.requests(), log.proposals()), (requests, proposals));
}

#[tokio::test]
async fn a_destination_that_hangs_or_fails_holds_up_no_other() {
    let (log, good, hanging, failing) = (TestLog::leader(), TestPlace::new(), TestPlace::new(), TestPlace::new());
    hanging.behave(Behaviour::Hangs);
    failing.behave(Behaviour::Fails);
    let places = vec![failing.named("failing", SHORT), good.named("good", SHORT), hanging.named("hanging", SHORT)];
    // Room for one window only at each destination: the others' must not matter.
    let fanout = start(FanoutOptions { memory_bytes: 1, ..options() }, &log, places);
    for round in 0..5 {
        for database in 0..10 {
            let database = format!("db{database}");
            log.commit(&name(&database), 1 + round, 10);
        }
    }
    for database in 0..10 {
        arrives(&log, &good, &format!("db{database}"), "good", Txid(15)).await;
    }
    let status =
        |destination: &str| fanout.handle().status().into_iter().find(|lane| lane.destination == destination).unwrap();
    until("its failure", || status("failing").state == LaneState::Failing).await;
    assert!(status("failing").last_error.unwrap().contains("the network is down"));
    assert_eq!(
        fanout.handle().last_error(&name("db3"), "failing").as_deref(),
        Some("test://: create: the network is down")
    );
    let hanging_window = status("hanging").window_bytes;
    until("its lag", || status("hanging").state == LaneState::Lagging).await;
    until("good health", || status("good").lag_txids == 0).await;
    let good = status("good");
    assert_eq!((good.state, good.lag_txids, good.last_error), (LaneState::Healthy, 0, None));
    assert_eq!(status("hanging").lag_txids, 15);
    // What is committed during an upload that hangs is known to be waiting, too.
    let database = status("hanging").database;
    log.commit(&database, 5, 3);
    until("the new head", || status("hanging").lag_txids == 20).await;
    assert_eq!(status("hanging").window_bytes, hanging_window);
    assert_eq!(log.pinned(&name("db0")), [Txid(1), Txid(16), Txid(1)]);
}

#[tokio::test]
async fn a_destination_that_comes_back_gets_everything() {
    let (log, place) = (TestLog::leader(), TestPlace::new());
    place.behave(Behaviour::Fails);
    let fanout = start(options(), &log, vec![place.named("a", SHORT)]);
    let head = (0..30).fold(Txid::NONE, |_, _| log.commit(&name("app"), 1, 20));
    until("attempts", || place.requests() > 5).await;
    place.behave(Behaviour::Works);
    arrives(&log, &place, "app", "a", head).await;
    until("health", || fanout.handle().status()[0].state == LaneState::Healthy).await;
    assert_eq!(fanout.handle().status()[0].last_error, None);
}

#[tokio::test]
async fn an_upload_that_succeeded_unheard_is_recognised() {
    let (log, place) = (TestLog::leader(), TestPlace::new());
    place.behave(Behaviour::FailsAfterwards);
    let _fanout = start(options(), &log, vec![place.named("a", SHORT)]);
    log.commit(&name("app"), 3, 20);
    arrives(&log, &place, "app", "a", Txid(3)).await;
    // What was committed meanwhile did not change how the retried object was cut.
    assert_eq!(place.objects().len(), 1);
}

#[tokio::test]
async fn a_new_leader_goes_on_although_the_last_progress_was_lost() {
    let (log, place) = (TestLog::leader(), TestPlace::new());
    let fanout = start(options(), &log, vec![place.named("a", SHORT)]);
    log.commit(&name("app"), 3, 20);
    arrives(&log, &place, "app", "a", Txid(3)).await;
    drop(fanout);
    log.forget_progress();
    let _next = start(options(), &log, vec![place.named("a", SHORT)]);
    arrives(&log, &place, "app", "a", Txid(3)).await;
    // It may cut differently: overlapping objects still give the right state.
    log.commit(&name("app"), 2, 20);
    arrives(&log, &place, "app", "a", Txid(5)).await;
}

#[tokio::test]
async fn a_damaged_object_in_the_way_stops_the_lane_until_it_is_deleted() {
    let (log, place) = (TestLog::leader(), TestPlace::new());
    let fanout = start(options(), &log, vec![place.named("a", SHORT)]);
    log.commit(&name("app"), 3, 20);
    arrives(&log, &place, "app", "a", Txid(3)).await;
    drop(fanout);
    let (path, content) = place.objects().into_iter().next().unwrap();
    for wrong in [content.slice(..content.len() - 1), Bytes::from_static(b"something else"), Bytes::new()] {
        place.put(&path, wrong.clone());
        log.forget_progress();
        let fanout = start(options(), &log, vec![place.named("a", SHORT)]);
        until("the error", || fanout.handle().last_error(&name("app"), "a").is_some()).await;
        let error = fanout.handle().last_error(&name("app"), "a").unwrap();
        assert!(error.contains(&path) && error.contains("delete it"), "{error}");
        assert_eq!(log.watermark(&name("app"), "a"), Txid::NONE);
        assert_eq!(place.objects()[&path], wrong, "it is never overwritten");
        place.remove(&path);
        arrives(&log, &place, "app", "a", Txid(3)).await;
        drop(fanout);
    }
}

#[tokio::test]
async fn an_object_of_another_history_is_not_taken_for_ours() {
    let (log, foreign, place) = (TestLog::leader(), TestLog::leader(), TestPlace::new());
    foreign.commit(&name("app"), 3, 7);
    let elsewhere = TestPlace::new();
    let other = start(options(), &foreign, vec![elsewhere.named("a", SHORT)]);
    arrives(&foreign, &elsewhere, "app", "a", Txid(3)).await;
    drop(other);
    log.commit(&name("app"), 3, 20);
    let path = format!("app/@1/0/{:016x}-{:016x}-{}.seg", 1, 3, log.checksum(&name("app"), Txid(3)));
    place.put(&path, elsewhere.objects().into_values().next().unwrap());
    let fanout = start(options(), &log, vec![place.named("a", SHORT)]);
    until("the error", || fanout.handle().last_error(&name("app"), "a").is_some()).await;
    assert!(fanout.handle().last_error(&name("app"), "a").unwrap().contains("it holds"));
    assert_eq!(log.watermark(&name("app"), "a"), Txid::NONE);
}

#[tokio::test]
async fn a_log_that_lost_what_comes_next_is_bridged_by_a_snapshot() {
    for records_too in [false, true] {
        let (log, place) = (TestLog::leader(), TestPlace::new());
        log.commit(&name("app"), 4, 30);
        log.commit(&name("app"), 4, 30);
        if records_too {
            log.drop_records(&name("app"), Txid(4));
        } else {
            log.drop_bytes(&name("app"), Txid(4));
        }
        let _fanout = start(options(), &log, vec![place.named("a", SHORT)]);
        arrives(&log, &place, "app", "a", Txid(8)).await;
        assert_eq!(log.progress(&name("app"), "a").unwrap().snapshot, 8);
        log.commit(&name("app"), 1, 30);
        arrives(&log, &place, "app", "a", Txid(9)).await;
        assert_eq!(place.objects().len(), 2, "a snapshot, and what came after it");
    }
}

#[tokio::test]
async fn snapshots_are_taken_when_more_was_written_than_there_is() {
    let (log, place) = (TestLog::leader(), TestPlace::new());
    let mut destination = place.named("a", SHORT);
    destination.windows.snapshot_min_bytes = 40 << 10;
    let _fanout = start(options(), &log, vec![destination]);
    let mut head = Txid::NONE;
    for _ in 0..40 {
        head = log.commit(&name("app"), 1, 20);
        arrives(&log, &place, "app", "a", head).await;
    }
    until("a snapshot", || log.progress(&name("app"), "a").unwrap().snapshot > 0).await;
    let progress = log.progress(&name("app"), "a").unwrap();
    assert!(progress.bytes_since_snapshot < 200 << 10 && progress.snapshot_time_ms > 0, "{progress:?}");
    // Level 0 has no hole beside the snapshots.
    let (_, _, log_objects) = rebuild(&place, &name("app")).await;
    assert_eq!(log_objects as u64, head.0);
}

#[tokio::test]
async fn someone_who_waits_closes_the_window_at_once() {
    let (log, a, b) = (TestLog::leader(), TestPlace::new(), TestPlace::new());
    let options = FanoutOptions { progress_interval: HOUR, ..options() };
    let fanout = start(options, &log, vec![a.named("a", HOUR), b.named("b", HOUR)]);
    let begun = Instant::now();
    for _ in 0..3 {
        let head = log.commit(&name("app"), 1, 10);
        fanout.handle().close_window(&name("app"), head, &["a".to_owned()]);
        arrives(&log, &a, "app", "a", head).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(b.objects().len(), 0, "nobody waits for the other one");
}

#[tokio::test]
async fn someone_may_wait_before_the_leader_has_looked_at_the_database() {
    let (log, place) = (TestLog::leader(), TestPlace::new());
    let fanout = start(options(), &log, vec![place.named("a", HOUR)]);
    log.commit(&name("other"), 1, 1);
    until("the first lane", || !fanout.handle().status().is_empty()).await;
    let head = log.commit(&name("app"), 1, 10);
    fanout.handle().close_window(&name("app"), head, &["a".to_owned()]);
    arrives(&log, &place, "app", "a", head).await;
}

#[tokio::test]
async fn only_the_leader_uploads_but_everyone_pins() {
    let (log, place) = (TestLog::leader(), TestPlace::new());
    log.lead(false);
    let fanout = start(options(), &log, vec![place.named("a", SHORT)]);
    log.commit(&name("app"), 2, 10);
    until("the pin", || log.pinned(&name("app")) == [Txid(1)]).await;
    tokio::time::sleep(5 * SHORT).await;
    assert_eq!((place.requests(), fanout.handle().status().len()), (0, 0));
    log.lead(true);
    arrives(&log, &place, "app", "a", Txid(2)).await;
    log.lead(false);
    until("its end", || fanout.handle().status().is_empty()).await;
    let requests = place.requests();
    log.commit(&name("app"), 2, 10);
    tokio::time::sleep(5 * SHORT).await;
    assert_eq!(place.requests(), requests);
}

#[tokio::test]
async fn progress_that_was_not_taken_in_is_reported_again() {
    let (log, place) = (TestLog::leader(), TestPlace::new());
    log.lose_proposals(3);
    let _fanout = start(options(), &log, vec![place.named("a", SHORT)]);
    let head = log.commit(&name("app"), 2, 10);
    arrives(&log, &place, "app", "a", head).await;
    assert_eq!(log.proposals(), 4);
    assert_eq!(place.objects().len(), 1);
}

#[tokio::test]
async fn progress_of_many_is_reported_together() {
    let (log, place) = (TestLog::leader(), TestPlace::new());
    let options = FanoutOptions { progress_interval: Duration::from_millis(500), ..options() };
    let databases: Vec<_> = (0..50).map(|number| name(&format!("db{number}"))).collect();
    databases.iter().for_each(|database| _ = log.commit(database, 1, 3));
    let _fanout = start(options, &log, vec![place.named("a", SHORT)]);
    until("all watermarks", || databases.iter().all(|database| log.watermark(database, "a") == Txid(1))).await;
    assert!(log.proposals() <= 5, "{}", log.proposals());
}

#[tokio::test]
async fn a_segment_larger_than_a_window_streams_through_as_it_is() {
    let (log, place) = (TestLog::leader(), TestPlace::new());
    log.commit(&name("app"), 1, 5);
    log.commit(&name("app"), 1, 6000);
    let head = log.commit(&name("app"), 1, 5);
    let _fanout = start(options(), &log, vec![place.named("a", SHORT)]);
    arrives(&log, &place, "app", "a", head).await;
    assert_eq!((place.streamed(), place.objects().len()), (1, 3));
    assert!(place.objects().values().any(|object| object.len() > 2 << 20));
    assert!(log.largest_read() <= 64 << 10, "{}", log.largest_read());
}

#[tokio::test]
async fn bytes_that_are_not_what_the_position_log_says_go_nowhere() {
    let (log, place) = (TestLog::leader(), TestPlace::new());
    log.commit(&name("app"), 1, 5);
    log.commit(&name("app"), 1, 6);
    log.confuse(&name("app"), 0, 1);
    let fanout = start(options(), &log, vec![place.named("a", SHORT)]);
    until("the error", || fanout.handle().last_error(&name("app"), "a").is_some()).await;
    assert!(fanout.handle().last_error(&name("app"), "a").unwrap().contains("not uploaded"));
    assert_eq!(place.objects().len(), 0);
}
