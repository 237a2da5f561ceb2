//! Restoring from a cluster of whole nodes: from any node, from what is only at the destinations, without a leader.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "support/history.rs"]
mod history;
#[path = "support/nodes.rs"]
mod nodes;

use std::path::{Path, PathBuf};

use history::{EPOCH, History};
use nodes::{Cluster, PATIENCE};
use seawall_host::net::{Channel, ChannelOptions};
use seawall_host::time::UnixMillis;
use seawall_node::node::NodeSizes;
use seawall_node::restore::{
    ClusterSource, Outcome, Progress, RestoreError, RestoreOptions, Restored, SourceError, When, restore,
};
use seawall_proto::object_name::Level;
use seawall_proto::position::Txid;
use seawall_proto::v1;
use seawall_proto::v1::restore_client::RestoreClient;

struct Silent;

impl Progress for Silent {
    fn planned(&self, _: u64) {}
    fn read(&self, _: u64) {}
    fn warn(&self, message: &str) {
        eprintln!("{message}");
    }
}

/// Starts a cluster with one destination.
async fn start() -> Cluster {
    Cluster::start("{ name: local, url: \"file://backups\", upload-interval: 100ms }", NodeSizes::default()).await
}

impl Cluster {
    async fn restore(&self, nodes: &[usize], output: &Path, stale: bool, when: When) -> Result<Restored, RestoreError> {
        let addresses = nodes.iter().map(|node| self.addresses[*node].clone()).collect();
        let source = ClusterSource::new(addresses, "app".parse().unwrap(), stale);
        let options = RestoreOptions { when, force: true, ..RestoreOptions::new(output) };
        match restore(&source, &options, &Silent).await? {
            Outcome::Restored(restored) => Ok(restored),
            other => panic!("{other:?}"),
        }
    }

    /// What a node says it can give back: the head, and where its image is; 0 while it has none.
    async fn describe(&self, node: usize, wide: bool) -> (u64, u64) {
        let channel = Channel::new(&self.addresses[node], ChannelOptions::default());
        let request =
            v1::DescribeRequest { database: "app".to_owned(), allow_stale: false, include_destinations: wide };
        let described = RestoreClient::new(channel).describe(request).await.unwrap().into_inner();
        let snapshot = Level::Snapshot.to_string();
        let image = described.objects.iter().find(|object| object.source == "node" && object.level == snapshot);
        (described.head.unwrap().txid, image.map_or(0, |object| object.last))
    }

    fn output(&self) -> PathBuf {
        self.directory.path().join("restored.db")
    }

    async fn check(&self, node: usize, history: &History, when: When, expected: u64) {
        let restored = self.restore(&[node], &self.output(), false, when).await.unwrap();
        assert_eq!(restored.position, history.position(expected), "node {node}, {when:?}, {:?}", restored.sources);
        assert!(std::fs::read(self.output()).unwrap() == history.states[expected as usize].file());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_gives_back_the_newest_state_and_any_earlier_one() {
    let mut cluster = start().await;
    let history = History::random(100, 1);
    cluster.ship(&history, 50).await;
    for node in 0..3 {
        cluster.check(node, &history, When::Newest, 50).await;
    }
    cluster.ship(&history, 100).await;
    for node in 0..3 {
        cluster.check(node, &history, When::Newest, 100).await;
    }
    let uploaded = |status: &v1::GetStatusResponse| {
        status.databases.iter().any(|database| database.destinations.iter().any(|place| place.watermark >= 100))
    };
    cluster.wait(0, uploaded).await;
    // Older than the images: from the destination, through any node.
    for (node, txid) in [(0, 1), (1, 33), (2, 50), (0, 77), (1, 99)] {
        cluster.check(node, &history, When::Txid(Txid(txid)), txid).await;
    }
    cluster.check(2, &history, When::Time(UnixMillis(EPOCH + 60_500)), 60).await;
    // The destination gone: nodes alone still have the newest.
    std::fs::remove_dir_all(cluster.directory.path().join("backups")).unwrap();
    cluster.check(1, &history, When::Newest, 100).await;

    // One node down: the rest elect another leader, and serve.
    cluster.nodes[0].take().unwrap().shutdown(PATIENCE).await;
    cluster.wait(1, |status| status.leader > 1).await;
    let restored = cluster.restore(&[0, 1], &cluster.output(), false, When::Newest).await.unwrap();
    assert_eq!(restored.position, history.position(100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_left_alone_gives_what_it_has_only_when_asked_for() {
    let mut cluster = start().await;
    let history = History::random(20, 2);
    cluster.ship(&history, 20).await;
    cluster.check(2, &history, When::Newest, 20).await;
    for index in [0, 1] {
        cluster.nodes[index].take().unwrap().shutdown(PATIENCE).await;
    }
    let status = cluster.wait(2, |status| status.problem.contains("no majority")).await;
    assert_eq!((status.leader, status.databases[0].name.as_str()), (0, "app"));
    let error = cluster.restore(&[2], &cluster.output(), false, When::Newest).await.unwrap_err();
    assert!(matches!(error, RestoreError::Source(SourceError::Unusable { .. })), "{error}");
    assert!(error.to_string().contains("--allow-stale"), "{error}");
    let restored = cluster.restore(&[0, 1, 2], &cluster.output(), true, When::Newest).await.unwrap();
    assert_eq!(restored.position, history.position(20));
    assert!(std::fs::read(cluster.output()).unwrap() == history.states[20].file());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_described_is_described_again_at_once_though_folds_wait() {
    let cluster = start().await;
    let history = History::random(40, 3);
    cluster.ship(&history, 20).await;
    let status = cluster.wait(0, |status| status.leader != 0).await;
    // Another than the leader, which holds its image when an agent begins.
    let node = usize::from(status.leader == 1);
    let told = loop {
        let (_, image) = cluster.describe(node, false).await;
        if image > 0 {
            break image;
        }
    };
    cluster.ship(&history, 40).await;
    // Had any of them waited for the first one's hold to end, the image would have gone on.
    for wide in [false, true, false, true, true] {
        assert_eq!(cluster.describe(node, wide).await, (40, told));
    }
    // An earlier state, of which no narrow look tells, and the newest.
    cluster.check(node, &history, When::Txid(Txid(7)), 7).await;
    cluster.check(node, &history, When::Newest, 40).await;
    assert_eq!(cluster.describe(node, false).await.0, 40);
}
