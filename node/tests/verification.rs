//! What destinations lose or damage is found, replaced from elsewhere byte for byte, and shown.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "support/history.rs"]
mod history;
#[path = "support/nodes.rs"]
mod nodes;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use history::History;
use nodes::{Cluster, PATIENCE};
use seawall_host::time::{self, Instant};
use seawall_node::destination::FileDestination;
use seawall_node::node::NodeSizes;
use seawall_node::restore::{DestinationSource, Outcome, Progress, RestoreOptions, restore};
use seawall_proto::object_name::{Level, ObjectName};
use seawall_proto::position::{Lineage, Txid};
use seawall_proto::v1;

const PLACES: [&str; 2] = ["a", "b"];

struct Silent;

impl Progress for Silent {
    fn planned(&self, _: u64) {}
    fn read(&self, _: u64) {}
    fn warn(&self, _: &str) {}
}

/// Two destinations that are verified every second.
fn destinations(more: &str) -> String {
    let place = |name: &str| {
        format!("{{ name: {name}, url: \"file://{name}\", upload-interval: 100ms, verify-interval: 1s{more} }}")
    };
    PLACES.map(place).join(", ")
}

/// Sizes with which the log soon has no more than what is needed.
fn short_log() -> NodeSizes {
    let mut sizes = NodeSizes { snapshot_bytes: 4 << 10, keep_entries: 0, ..NodeSizes::default() };
    sizes.log.piece_bytes = 8 << 10;
    sizes.images.checkpoint_interval = Duration::from_millis(100);
    sizes
}

/// The objects of `app` at a destination, by their names.
fn objects(cluster: &Cluster, place: &str) -> BTreeMap<String, Vec<u8>> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        // What is replaced this moment may be gone.
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let root = cluster.directory.path().join(place).join("app");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    let content = |path: PathBuf| {
        let name = path.strip_prefix(&root).unwrap().to_str()?.to_owned();
        name.parse::<ObjectName>().ok()?;
        Some((name, fs::read(&path).ok()?))
    };
    paths.into_iter().filter_map(content).collect()
}

fn path(cluster: &Cluster, place: &str, object: &str) -> PathBuf {
    cluster.directory.path().join(place).join("app").join(object)
}

/// Turns over one bit in the middle of an object.
fn damage(cluster: &Cluster, place: &str, object: &str) {
    let path = path(cluster, place, object);
    let mut content = fs::read(&path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    // Another file takes its place, as this one may have other names.
    fs::remove_file(&path).unwrap();
    fs::write(&path, content).unwrap();
}

fn destination<'a>(status: &'a v1::GetStatusResponse, place: &str) -> Option<&'a v1::DestinationStatus> {
    status.databases.first()?.destinations.iter().find(|it| it.name == place)
}

/// What the last verification of a destination found.
fn found(status: &v1::GetStatusResponse, place: &str) -> v1::VerificationResult {
    destination(status, place).and_then(|it| it.verification.clone()).unwrap_or_default()
}

/// Ships so that several objects come to be at each destination; answers the head.
async fn ship_in_steps(cluster: &Cluster, history: &History, from: u64, to: u64) {
    let mut txid = from;
    while txid < to {
        txid = (txid + 10).min(to);
        cluster.ship(history, txid).await;
        let is_there = |status: &v1::GetStatusResponse| {
            PLACES.iter().all(|place| destination(status, place).is_some_and(|it| it.watermark >= txid))
        };
        cluster.wait(0, is_there).await;
    }
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until no node's log has the transactions up to `txid`.
async fn until_gone_from_logs(cluster: &Cluster, txid: u64) {
    let name = "app".parse().unwrap();
    until("the log lets go of what is everywhere", || {
        let mut nodes = cluster.nodes.iter().flatten();
        nodes.all(|node| node.replica().held_after(&name, Lineage(1)) >= Txid(txid))
    })
    .await;
}

/// The objects of the log at a destination, in order.
fn log_objects(objects: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let is_log = |name: &&String| name.parse::<ObjectName>().unwrap().level == Level::Log;
    objects.keys().filter(is_log).cloned().collect()
}

async fn newest_from(cluster: &Cluster, place: &str) -> Result<Txid, String> {
    let root = FileDestination::new(&cluster.directory.path().join(place));
    let source = DestinationSource::new(Arc::new(root), "app".parse().unwrap());
    let options = RestoreOptions { force: true, ..RestoreOptions::new(cluster.directory.path().join("restored.db")) };
    match restore(&source, &options, &Silent).await {
        Ok(Outcome::Restored(restored)) => Ok(restored.position.txid),
        other => Err(format!("{other:?}")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_destination_loses_and_damages_is_replaced_from_the_other() {
    let cluster = Cluster::start(&destinations(""), short_log()).await;
    let history = History::random(120, 3);
    ship_in_steps(&cluster, &history, 0, 120).await;
    until_gone_from_logs(&cluster, 40).await;
    let before = objects(&cluster, "a");
    let log = log_objects(&before);
    assert!(log.len() >= 6 && before.keys().eq(objects(&cluster, "b").keys()), "{log:?}");
    fs::remove_file(path(&cluster, "a", &log[0])).unwrap();
    damage(&cluster, "a", &log[1]);
    until("everything is as it was", || objects(&cluster, "a") == before).await;
    let is_told = |status: &v1::GetStatusResponse| {
        let (a, b) = (found(status, "a"), found(status, "b"));
        (a.txid, a.healed, a.problems, b.txid) == (120, 2, 0, 120)
    };
    let status = cluster.wait(1, is_told).await;
    let (a, b) = (found(&status, "a"), found(&status, "b"));
    assert_eq!((a.damaged, a.lost_transactions, b.healed, b.problems), (0, 0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_has_it_any_more_a_fresh_snapshot_makes_the_newest_restorable_again() {
    let cluster = Cluster::start(&destinations(""), short_log()).await;
    let history = History::random(120, 4);
    ship_in_steps(&cluster, &history, 0, 120).await;
    until_gone_from_logs(&cluster, 40).await;
    let log = log_objects(&objects(&cluster, "a"));
    for place in PLACES {
        damage(&cluster, place, &log[0]);
        fs::remove_file(path(&cluster, place, &log[1])).unwrap();
    }
    for place in PLACES {
        assert!(newest_from(&cluster, place).await.is_err());
    }
    let is_told = |status: &v1::GetStatusResponse| {
        PLACES.iter().map(|place| found(status, place)).all(|it| {
            // The newest is proven again; what nobody has stays lost, and is said so.
            (it.txid, it.damaged) == (120, 1) && it.lost_transactions > 0 && it.text.contains("not replaced")
        })
    };
    cluster.wait(2, is_told).await;
    for place in PLACES {
        assert_eq!(newest_from(&cluster, place).await, Ok(Txid(120)));
        let snapshots = objects(&cluster, place).into_keys().filter(|name| name.contains("/snapshot/"));
        assert_eq!(snapshots.count(), 1, "one is enough");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_all_destinations_lost_is_replaced_from_the_log_as_long_as_that_has_it() {
    let cluster = Cluster::start(&destinations(", verify-integrity-check: quick"), NodeSizes::default()).await;
    let history = History::random(60, 5);
    ship_in_steps(&cluster, &history, 0, 60).await;
    let before = objects(&cluster, "a");
    let log = log_objects(&before);
    for place in PLACES {
        damage(&cluster, place, &log[1]);
        fs::remove_file(path(&cluster, place, &log[3])).unwrap();
    }
    for place in PLACES {
        until("everything is as it was", || objects(&cluster, place) == before).await;
    }
    // These pages are no real database: SQLite says so.
    let is_told = |status: &v1::GetStatusResponse| {
        let found = PLACES.map(|place| found(status, place));
        found.iter().all(|it| it.healed == 2 && it.txid == 60 && it.text.contains("integrity check of txid 60 failed"))
    };
    cluster.wait(0, is_told).await;
    drop(cluster.nodes);
    for node in 1..=3 {
        let left = fs::read_dir(cluster.directory.path().join(format!("n{node}/verify"))).into_iter().flatten();
        assert_eq!(left.count(), 0);
    }
}
