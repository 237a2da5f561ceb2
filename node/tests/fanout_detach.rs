//! A destination that outgrows its share of the disk is let go of, and comes back by a snapshot.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod fanout_double;

use std::sync::Arc;
use std::time::Duration;

use fanout_double::{Behaviour, TestLog, TestPlace, name, rebuild, until};
use seawall_node::destination::NamedDestination;
use seawall_node::fanout::{Fanout, FanoutOptions, LaneState, LaneStatus};
use seawall_proto::position::Txid;

const SHORT: Duration = Duration::from_millis(20);
const LIMIT: u64 = 100 << 10;

fn start(log: &TestLog, places: Vec<NamedDestination>) -> Fanout {
    seawall_host::real::install();
    let options = FanoutOptions {
        progress_interval: SHORT,
        retry_first: Duration::from_millis(10),
        retry_most: Duration::from_millis(50),
        ..FanoutOptions::default()
    };
    Fanout::start(options, places, Arc::new(log.clone()), Arc::new(log.clone()))
}

fn status(fanout: &Fanout, destination: &str) -> LaneStatus {
    fanout.handle().status().into_iter().find(|lane| lane.destination == destination).unwrap()
}

/// Commits more than the share.
fn outgrow(log: &TestLog) -> Txid {
    (0..30).fold(Txid::NONE, |_, _| log.commit(&name("app"), 1, 20))
}

async fn arrives(log: &TestLog, place: &TestPlace, destination: &str, txid: Txid) {
    until("the watermark", || log.watermark(&name("app"), destination) >= txid).await;
    let (rebuilt, checksum, _) = rebuild(place, &name("app")).await;
    assert!(rebuilt >= txid);
    assert_eq!(checksum, log.checksum(&name("app"), rebuilt));
}

#[tokio::test]
async fn one_that_is_away_for_too_long_keeps_no_log_and_goes_on_from_a_snapshot() {
    let (log, good, away) = (TestLog::leader(), TestPlace::new(), TestPlace::new());
    log.limit_destinations(LIMIT);
    let fanout = start(&log, vec![away.named("away", SHORT), good.named("good", SHORT)]);
    let first = log.commit(&name("app"), 3, 20);
    arrives(&log, &away, "away", first).await;
    away.behave(Behaviour::Fails);
    let head = outgrow(&log);
    arrives(&log, &good, "good", head).await;
    until("the decree", || status(&fanout, "away").state == LaneState::Detached).await;
    until("its pin's end", || log.pinned(&name("app")) == [head.next()]).await;
    let shown = status(&fanout, "away");
    assert_eq!((shown.watermark, shown.lag_txids, shown.backlog_bytes > 0), (first, 30, true));
    until("no more backlog", || status(&fanout, "away").backlog_bytes == 0).await;
    assert_eq!(status(&fanout, "away").last_error.as_deref(), Some("test://: create: the network is down"));
    assert_eq!(status(&fanout, "good").state, LaneState::Healthy);
    // Nobody kept it.
    log.drop_records(&name("app"), head);
    away.behave(Behaviour::Works);
    arrives(&log, &away, "away", head).await;
    until("health", || status(&fanout, "away").state == LaneState::Healthy).await;
    assert!(!log.progress(&name("app"), "away").unwrap().detached);
    let next = log.commit(&name("app"), 2, 20);
    arrives(&log, &away, "away", next).await;
    assert_eq!(away.objects().len(), 3, "what came before, the snapshot, what came after");
    until("both pins", || log.pinned(&name("app")) == [next.next(), next.next()]).await;
    assert!(status(&fanout, "away").last_success.is_some());
}

#[tokio::test]
async fn what_follows_a_snapshot_on_its_way_is_kept_within_the_share() {
    let (log, place) = (TestLog::leader(), TestPlace::new());
    log.limit_destinations(LIMIT);
    place.behave(Behaviour::Hangs);
    let fanout = start(&log, vec![place.named("a", SHORT)]);
    let head = outgrow(&log);
    until("the decree", || log.progress(&name("app"), "a").is_some_and(|progress| progress.detached)).await;
    // The window that hangs is waited for before anything else; a leader that begins finds it detached.
    drop(fanout);
    let fanout = start(&log, vec![place.named("a", SHORT)]);
    until("a pin behind the snapshot", || log.pinned(&name("app")) == [head.next()]).await;
    assert_eq!(status(&fanout, "a").state, LaneState::Detached);
    let second = outgrow(&log);
    let last_error = || status(&fanout, "a").last_error.unwrap_or_default();
    until("it is given up", || last_error().contains("outgrew this destination's share")).await;
    until("the next attempt", || log.pinned(&name("app")) == [second.next()]).await;
}

#[tokio::test]
async fn one_that_is_added_later_is_filled_and_one_that_is_removed_keeps_nothing() {
    let (log, old, new) = (TestLog::leader(), TestPlace::new(), TestPlace::new());
    let fanout = start(&log, vec![old.named("old", SHORT)]);
    let head = outgrow(&log);
    arrives(&log, &old, "old", head).await;
    drop(fanout);
    log.drop_records(&name("app"), head);
    let fanout = start(&log, vec![old.named("old", SHORT), new.named("new", SHORT)]);
    arrives(&log, &new, "new", head).await;
    drop(fanout);
    old.behave(Behaviour::Fails);
    let _fanout = start(&log, vec![new.named("new", SHORT)]);
    let head = outgrow(&log);
    arrives(&log, &new, "new", head).await;
    until("the pin of the one that stays", || log.pinned(&name("app")) == [head.next()]).await;
}
