//! Whole nodes in this process, with a made-up history shipped to them.
#![allow(dead_code, unreachable_pub)]

use std::time::Duration;

use futures::StreamExt;
use seawall_host::net::{Address, Channel, ChannelOptions};
use seawall_host::real::free_port;
use seawall_host::time::{self, Instant};
use seawall_node::config::NodeConfig;
use seawall_node::node::{Node, NodeParts, NodeSizes};
use seawall_node::store::sled_kv::SledKv;
use seawall_proto::v1;
use seawall_proto::v1::cluster_client::ClusterClient;
use seawall_proto::v1::ingest_client::IngestClient;

use crate::history::History;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster of three.
pub struct Cluster {
    pub directory: tempfile::TempDir,
    pub addresses: Vec<Address>,
    pub nodes: Vec<Option<Node>>,
    destinations: String,
    sizes: NodeSizes,
}

impl Cluster {
    /// Starts it with these destinations, as `node.yml` has them.
    pub async fn start(destinations: &str, sizes: NodeSizes) -> Self {
        seawall_host::real::install();
        let addresses = (0..3).map(|_| Address::Tcp(format!("127.0.0.1:{}", free_port()))).collect();
        let directory = tempfile::tempdir().unwrap();
        let nodes = vec![None, None, None];
        let mut cluster = Self { directory, addresses, nodes, destinations: destinations.to_owned(), sizes };
        for index in 0..3 {
            cluster.start_node(index).await;
        }
        cluster
    }

    /// Starts a node.
    pub async fn start_node(&mut self, index: usize) {
        let members = self.addresses.iter().zip(1..).map(|(address, id)| format!("{{ id: {id}, address: {address} }}"));
        let members: Vec<String> = members.collect();
        let yaml = format!(
            "node: {{ id: {id}, data-dir: n{id}, listen: {listen} }}\n\
             cluster: {{ name: test, nodes: [ {members} ] }}\n\
             destinations: [ {destinations} ]\n",
            destinations = self.destinations,
            id = index + 1,
            listen = self.addresses[index],
            members = members.join(", "),
        );
        let config = NodeConfig::parse(&self.directory.path().join("node.yml"), &yaml, &|_| None).unwrap();
        let sizes = self.sizes.clone();
        let parts = NodeParts { sizes, ..NodeParts::new(&config, SledKv::opener()).unwrap() };
        self.nodes[index] = Some(Node::start(config, parts).await.unwrap());
    }

    /// The status as a node gives it.
    pub async fn status(&self, index: usize) -> Option<v1::GetStatusResponse> {
        let channel = Channel::new(&self.addresses[index], ChannelOptions::default());
        let answer = ClusterClient::new(channel).get_status(v1::GetStatusRequest { local_only: false }).await;
        answer.ok().map(tonic::Response::into_inner)
    }

    /// Asks node `index` until its status is as `wanted`.
    pub async fn wait(&self, index: usize, wanted: impl Fn(&v1::GetStatusResponse) -> bool) -> v1::GetStatusResponse {
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
    pub async fn ship(&self, history: &History, last: u64) {
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
}
