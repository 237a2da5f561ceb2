//! Restoring from a cluster of whole nodes: from any node, from what is only at the destinations, without a leader.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "support/history.rs"]
mod history;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use history::{EPOCH, History};
use seawall_host::net::{Address, Channel, ChannelOptions};
use seawall_host::time::{self, Instant, UnixMillis};
use seawall_node::config::NodeConfig;
use seawall_node::node::{Node, NodeParts};
use seawall_node::restore::{
    ClusterSource, Outcome, Progress, RestoreError, RestoreOptions, Restored, SourceError, When, restore,
};
use seawall_node::store::sled_kv::SledKv;
use seawall_proto::position::Txid;
use seawall_proto::v1;
use seawall_proto::v1::cluster_client::ClusterClient;
use seawall_proto::v1::ingest_client::IngestClient;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

struct Silent;

impl Progress for Silent {
    fn planned(&self, _: u64) {}
    fn read(&self, _: u64) {}
    fn warn(&self, message: &str) {
        eprintln!("{message}");
    }
}

struct Cluster {
    directory: tempfile::TempDir,
    addresses: Vec<Address>,
    nodes: Vec<Option<Node>>,
}

impl Cluster {
    async fn start() -> Self {
        seawall_host::real::install();
        // Free when asked; other tests ask the system for others.
        let listeners: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = listeners.iter().map(|listener| Address::Tcp(listener.local_addr().unwrap().to_string()));
        let addresses: Vec<Address> = addresses.collect();
        drop(listeners);
        let directory = tempfile::tempdir().unwrap();
        let mut cluster = Self { directory, addresses, nodes: vec![None, None, None] };
        for index in 0..3 {
            cluster.start_node(index).await;
        }
        cluster
    }

    async fn start_node(&mut self, index: usize) {
        let members = self.addresses.iter().zip(1..).map(|(address, id)| format!("{{ id: {id}, address: {address} }}"));
        let members: Vec<String> = members.collect();
        let yaml = format!(
            "node: {{ id: {id}, data-dir: n{id}, listen: {listen} }}\n\
             cluster: {{ name: test, nodes: [ {members} ] }}\n\
             destinations: [ {{ name: local, url: \"file://backups\", upload-interval: 100ms }} ]\n",
            id = index + 1,
            listen = self.addresses[index],
            members = members.join(", "),
        );
        let config = NodeConfig::parse(&self.directory.path().join("node.yml"), &yaml, &|_| None).unwrap();
        let parts = NodeParts::new(&config, SledKv::opener()).unwrap();
        self.nodes[index] = Some(Node::start(config, parts).await.unwrap());
    }

    async fn status(&self, index: usize) -> Option<v1::GetStatusResponse> {
        let channel = Channel::new(&self.addresses[index], ChannelOptions::default());
        let answer = ClusterClient::new(channel).get_status(v1::GetStatusRequest { local_only: false }).await;
        answer.ok().map(tonic::Response::into_inner)
    }

    /// Asks node `index` until its status is as `wanted`.
    async fn wait(&self, index: usize, wanted: impl Fn(&v1::GetStatusResponse) -> bool) -> v1::GetStatusResponse {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status(index).await;
            if let Some(status) = status.as_ref().filter(|status| wanted(status)) {
                return status.clone();
            }
            assert!(Instant::now() < deadline, "{status:?}");
            time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ships `history` up to `last` from where the cluster is.
    async fn ship(&self, history: &History, last: u64) {
        let deadline = Instant::now() + PATIENCE;
        let (granted, mut client) = loop {
            let leader = self.wait(0, |status| status.leader != 0).await.leader;
            let channel = Channel::new(&self.addresses[leader as usize - 1], ChannelOptions::default());
            let mut client = IngestClient::new(channel);
            let claim = v1::ClaimRequest {
                database: "app".to_owned(),
                agent_id: last,
                agent_label: "test".to_owned(),
                take_over: true,
            };
            let claimed = client.claim(claim).await.unwrap().into_inner();
            match claimed.outcome {
                Some(v1::claim_response::Outcome::Granted(granted)) => break (granted, client),
                // A leader that was just elected has to apply first what came before it.
                Some(v1::claim_response::Outcome::NotLeader(_)) if Instant::now() < deadline => {
                    time::sleep(Duration::from_millis(50)).await;
                }
                other => panic!("{other:?}"),
            }
        };
        let head = granted.head.unwrap();
        let open =
            v1::AppendOpen { database: "app".to_owned(), lineage: head.lineage, epoch: granted.epoch, agent_id: last };
        let mut messages = vec![v1::append_request::Message::Open(open)];
        for txid in head.txid + 1..=last {
            let state = &history.states[txid as usize];
            messages.push(v1::append_request::Message::Part(v1::SegmentPart {
                first: txid,
                last: txid,
                checksum_before: history.states[txid as usize - 1].checksum().0,
                checksum_after: state.checksum().0,
                page_count: state.page_count,
                commit_time_ms: state.time,
                wal: None,
                page_size: state.page_size,
                part: 0,
                is_last: true,
                resync: false,
                payload: history.log(txid, txid).1,
            }));
        }
        let messages = messages.into_iter().map(|message| v1::AppendRequest { message: Some(message) });
        let messages = futures::stream::iter(messages).chain(futures::stream::pending());
        let mut answers = client.append(messages).await.unwrap().into_inner();
        loop {
            match answers.message().await.unwrap().and_then(|answer| answer.outcome) {
                Some(v1::append_response::Outcome::Committed(txid)) if txid >= last => return,
                Some(v1::append_response::Outcome::Committed(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn restore(&self, nodes: &[usize], output: &Path, stale: bool, when: When) -> Result<Restored, RestoreError> {
        let addresses = nodes.iter().map(|node| self.addresses[*node].clone()).collect();
        let source = ClusterSource::new(addresses, "app".parse().unwrap(), stale);
        let options = RestoreOptions { when, force: true, ..RestoreOptions::new(output) };
        match restore(&source, &options, &Silent).await? {
            Outcome::Restored(restored) => Ok(restored),
            other => panic!("{other:?}"),
        }
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
    let mut cluster = Cluster::start().await;
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
    let mut cluster = Cluster::start().await;
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
