//! Three nodes in one process, each on a runtime of its own, so that shutting that down is a crash. Disks and sockets
//! are real.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use seawall_host::net::{self, Address, Server};
use seawall_host::real::free_port;
use seawall_host::time::UnixMillis;
use seawall_node::consensus::{ConfiguredNode, Consensus, ConsensusOptions, ReleasedLog, StartError};
use seawall_node::replica::{Applied, ProposeError, Replica, SegmentRecord};
use seawall_node::store::image::{Folder, ImageOptions, ImageStore};
use seawall_node::store::image_blobs::ImageBlobs;
use seawall_node::store::log::LogOptions;
use seawall_node::store::sled_kv::SledKv;
use seawall_proto::checksum::Checksum;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, PageNumber, PageSize, Txid};
use seawall_proto::segment::{SegmentEncoder, SegmentHeader, SegmentKind};
use seawall_proto::v1;
use seawall_proto::v1::command::Command;
use tokio::runtime::Runtime;

const LIMIT: Duration = Duration::from_secs(30);

fn name() -> DatabaseName {
    "app".parse().unwrap()
}

/// Waits until `probe` gives something.
fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < LIMIT, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

struct Running {
    runtime: Runtime,
    released: ReleasedLog,
    consensus: Consensus,
    replica: Replica,
    images: ImageStore,
    folder: Folder,
    server: Server,
}

struct Node {
    options: ConsensusOptions,
    running: Option<Running>,
}

impl Node {
    fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let address = self.options.nodes.iter().find(|node| node.id == self.options.id).unwrap().address.clone();
        let options = self.options.clone();
        let running = runtime.block_on(async move {
            let start = Instant::now();
            let started = loop {
                match Consensus::start(options.clone(), SledKv::opener()).await {
                    // What a killed runtime held is let go a moment later.
                    Err(StartError::Locked(_)) if start.elapsed() < LIMIT => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    started => break started.unwrap(),
                }
            };
            let images = ImageStore::open(options.data_dir.join("images"), ImageOptions::default()).await.unwrap();
            started.consensus.exchange_blobs(
                ImageBlobs::open(&options.data_dir, images.clone(), started.consensus.space(), ImageBlobs::PIECE_BYTES)
                    .await
                    .unwrap(),
            );
            let mut folder = Folder::start(started.replica.clone(), images.clone());
            folder.wait_pinned().await;
            let released = started.consensus.release_log();
            let server = loop {
                match net::serve(Address::Tcp(address.clone()), started.routes.clone()).await {
                    Err(_) if start.elapsed() < LIMIT => tokio::time::sleep(Duration::from_millis(20)).await,
                    served => break served.unwrap(),
                }
            };
            (released, started.consensus, started.replica, images, folder, server)
        });
        let (released, consensus, replica, images, folder, server) = running;
        self.running = Some(Running { runtime, released, consensus, replica, images, folder, server });
    }

    /// As if its machine lost power, but for what the operating system holds.
    fn kill(&mut self) {
        let Running { runtime, released, consensus, replica, images, folder, server } = self.running.take().unwrap();
        runtime.shutdown_background();
        drop((released, consensus, replica, images, folder, server));
    }

    fn stop(&mut self) {
        let Running { runtime, released, consensus, replica, images, folder, server } = self.running.take().unwrap();
        drop(released);
        runtime.block_on(consensus.shutdown());
        drop((replica, images, folder, server));
        runtime.shutdown_timeout(Duration::from_secs(5));
    }

    fn replica(&self) -> &Replica {
        &self.running.as_ref().unwrap().replica
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.running.as_ref().unwrap().runtime.block_on(future)
    }

    fn head(&self) -> u64 {
        self.replica().database(&name()).map_or(0, |database| database.head.txid)
    }

    fn segments(&self) -> Vec<SegmentRecord> {
        self.replica().segments(&name(), Lineage(1), Txid(0), 100_000)
    }

    /// Changes a byte of the payload of each of these transactions in the log on its disk.
    fn damage(&self, txids: std::ops::RangeInclusive<u64>) {
        let pieces = std::fs::read_dir(self.options.data_dir.join("log")).unwrap();
        let mut pieces: Vec<(PathBuf, Vec<u8>)> = pieces
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), std::fs::read(path).unwrap()))
            .collect();
        for txid in txids {
            let payload = payload(txid);
            let places = pieces.iter_mut().filter_map(|(path, piece)| {
                let at = piece.windows(payload.len()).position(|window| window == payload)?;
                Some((path, at + payload.len() / 2))
            });
            let places: Vec<_> = places.collect();
            assert!(!places.is_empty(), "transaction {txid} is not in the log of node {}", self.options.id);
            for (path, at) in places {
                let piece = std::fs::OpenOptions::new().write(true).open(path).unwrap();
                piece.write_all_at(&[!payload[payload.len() / 2]], at as u64).unwrap();
            }
        }
    }

    fn assert_gives_all_segments(&self) {
        for record in self.segments() {
            let parts = self.block_on(self.replica().segment_bytes(&record)).unwrap().unwrap();
            assert_eq!(parts.concat(), payload(record.first.0), "transaction {}", record.first);
        }
    }
}

struct Cluster {
    nodes: Vec<Node>,
    _directory: tempfile::TempDir,
    epoch: u64,
    txid: u64,
    acknowledged: BTreeMap<u64, u64>,
}

/// The one page of the database as of `txid`: bytes that do not compress.
fn page(txid: u64) -> Vec<u8> {
    let mut state = txid;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..4096).map(|_| next()).collect()
}

fn checksum(txid: u64) -> u64 {
    if txid == 0 { 0 } else { Checksum::of_page(PageNumber(1), &page(txid)).0 }
}

fn commit_time(txid: u64) -> i64 {
    1000 + txid as i64
}

fn payload(txid: u64) -> Bytes {
    let mut encoder = SegmentEncoder::new(SegmentHeader {
        page_size: PageSize::new(4096).unwrap(),
        lineage: Lineage(1),
        first: Txid(txid),
        last: Txid(txid),
        checksum_before: Checksum(checksum(txid - 1)),
        kind: SegmentKind::Log,
    });
    encoder.page(PageNumber(1), &page(txid)).unwrap();
    encoder.commit(1, commit_time(txid), Checksum(checksum(txid))).unwrap();
    let (parts, _) = encoder.finish().unwrap();
    parts.concat().into()
}

impl Cluster {
    fn start(change: impl Fn(&mut ConsensusOptions)) -> Self {
        seawall_host::real::install();
        let directory = tempfile::tempdir().unwrap();
        let listed: Vec<ConfiguredNode> =
            (1..=3).map(|id| ConfiguredNode { id, address: format!("127.0.0.1:{}", free_port()) }).collect();
        let nodes = (1..=3).map(|id| {
            let data_dir = directory.path().join(format!("n{id}"));
            let mut options = ConsensusOptions::new("test".to_owned(), id, data_dir, listed.clone());
            change(&mut options);
            Node { options, running: None }
        });
        let nodes = nodes.collect();
        let mut cluster = Self { nodes, _directory: directory, epoch: 0, txid: 0, acknowledged: BTreeMap::new() };
        for node in &mut cluster.nodes {
            node.start();
        }
        cluster
    }

    fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.running.is_some())
    }

    fn leader(&self) -> usize {
        wait_for("a leader", || {
            self.nodes.iter().position(|node| node.running.is_some() && node.replica().leadership().is_leader)
        })
    }

    fn propose(&self, at: usize, command: Command, payload: Bytes, limit: Duration) -> Result<Applied, ProposeError> {
        let node = &self.nodes[at];
        let answer = node.replica().propose(v1::Command { command: Some(command) }, payload);
        node.block_on(async { tokio::time::timeout(limit, answer).await })
            .unwrap_or_else(|_| Err(ProposeError::Unknown("no answer in time".to_owned())))
    }

    fn claim(&mut self) {
        let claim = v1::ClaimCommand { database: "app".to_owned(), agent_id: 1, agent_label: "test".to_owned() };
        let granted = wait_for("a claim", || {
            match self.propose(self.leader(), Command::Claim(claim.clone()), Bytes::new(), Duration::from_secs(5)) {
                Ok(Applied::Claimed { epoch, head }) => Some((epoch.0, head.txid)),
                _ => None,
            }
        });
        (self.epoch, self.txid) = granted;
    }

    fn append_command(&self, txid: u64) -> Command {
        let part = v1::SegmentPart {
            first: txid,
            last: txid,
            checksum_before: checksum(txid - 1),
            checksum_after: checksum(txid),
            page_count: 1,
            commit_time_ms: commit_time(txid),
            page_size: 4096,
            is_last: true,
            ..v1::SegmentPart::default()
        };
        Command::Append(v1::AppendCommand {
            database: "app".to_owned(),
            lineage: 1,
            epoch: self.epoch,
            part: Some(part),
            payload_len: payload(txid).len() as u32,
            stream: 1,
        })
    }

    /// Appends one transaction, whoever leads, as often as it takes.
    fn append(&mut self) {
        let txid = self.txid + 1;
        wait_for("an acknowledgement", || {
            let leader = self.leader();
            let command = self.append_command(txid);
            match self.propose(leader, command, payload(txid), Duration::from_secs(5)) {
                Ok(Applied::Appended { head }) => (head.txid >= txid).then_some(()),
                // An earlier attempt, whose outcome was unknown, got through.
                Ok(Applied::Refused { head, .. }) if head.txid >= txid => Some(()),
                Ok(other) => panic!("{other:?}"),
                Err(_) => None,
            }
        });
        self.txid = txid;
        self.acknowledged.insert(txid, checksum(txid));
    }

    fn assert_everyone_has_all_of_it(&self) {
        for node in self.running() {
            wait_for("everyone to catch up", || (node.head() >= self.txid).then_some(()));
            let mut txid = 0;
            for record in node.segments() {
                assert_eq!(record.first.0, txid + 1, "node {} has a gap", node.options.id);
                assert_eq!(record.checksum_before.0, checksum(txid));
                txid = record.last.0;
                assert_eq!(record.checksum_after.0, checksum(txid));
            }
            let images = &node.running.as_ref().unwrap().images;
            let image = wait_for("an image", || images.get(&name(), Lineage(1)));
            let folded = node.block_on(image.wait_folded(Txid(self.txid), LIMIT)).unwrap();
            assert_eq!(folded.position.checksum.0, checksum(folded.position.txid.0), "node {}", node.options.id);
            assert!(txid >= self.txid, "node {} lost what was acknowledged: {txid} of {}", node.options.id, self.txid);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if node.running.is_some() {
                node.kill();
            }
        }
    }
}

fn positions(options: &ConsensusOptions) -> PathBuf {
    Path::new(&options.data_dir).join("positions")
}

#[test]
fn three_empty_nodes_form_a_cluster_and_hold_what_is_acknowledged() {
    let mut cluster = Cluster::start(|_| {});
    cluster.claim();
    for _ in 0..50 {
        cluster.append();
    }
    cluster.assert_everyone_has_all_of_it();
    for node in cluster.running() {
        for record in node.segments() {
            let parts = node.block_on(node.replica().segment_bytes(&record)).unwrap().unwrap();
            assert_eq!(parts, [payload(record.first.0)]);
        }
        let index = node.block_on(node.replica().read_index(Duration::from_secs(5))).unwrap();
        assert!(node.block_on(node.replica().wait_applied(index, Duration::from_secs(5))));
        let view = node.replica().cluster();
        assert_eq!((view.members.len(), view.problem), (3, None));
    }
}

#[test]
fn the_time_is_known_where_the_clocks_of_a_majority_are() {
    let mut cluster = Cluster::start(|_| {});
    cluster.claim();
    for node in &cluster.nodes {
        let time = wait_for("the clocks", || node.replica().cluster_time());
        assert!(time.0.abs_diff(UnixMillis::now().0) < 10_000, "{time:?}");
    }
    for node in &mut cluster.nodes {
        node.stop();
    }
    cluster.nodes[0].start();
    assert_eq!(cluster.nodes[0].replica().cluster_time(), None, "its own clock is no majority");
    cluster.nodes[1].start();
    wait_for("the clocks of a majority", || cluster.nodes[0].replica().cluster_time());
}

#[test]
fn nothing_acknowledged_is_lost_when_the_leader_dies_again_and_again() {
    let mut cluster = Cluster::start(|_| {});
    cluster.claim();
    for _ in 0..3 {
        for _ in 0..20 {
            cluster.append();
        }
        let leader = cluster.leader();
        cluster.nodes[leader].kill();
        for _ in 0..20 {
            cluster.append();
        }
        cluster.nodes[leader].start();
        cluster.assert_everyone_has_all_of_it();
    }
    assert_eq!(cluster.acknowledged.len(), 120);
}

#[test]
fn proposals_of_one_task_stay_in_order() {
    let mut cluster = Cluster::start(|_| {});
    cluster.claim();
    let leader = cluster.leader();
    let node = &cluster.nodes[leader];
    let answers = (1..=300).map(|txid| {
        let command = v1::Command { command: Some(cluster.append_command(txid)) };
        node.replica().propose(command, payload(txid))
    });
    let answers = node.block_on(futures::future::join_all(answers.collect::<Vec<_>>()));
    for (txid, answer) in (1..).zip(answers) {
        assert!(matches!(answer, Ok(Applied::Appended { head }) if head.txid == txid));
    }
}

#[test]
fn with_two_nodes_down_nothing_is_acknowledged_and_all_arrives_once_they_are_back() {
    let mut cluster = Cluster::start(|_| {});
    cluster.claim();
    cluster.append();
    let leader = cluster.leader();
    let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    for &at in &others {
        cluster.nodes[at].kill();
    }
    let answer = cluster.propose(leader, cluster.append_command(2), payload(2), Duration::from_secs(3));
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(cluster.nodes[leader].head(), 1);
    for &at in &others {
        cluster.nodes[at].start();
    }
    for _ in 0..5 {
        cluster.append();
    }
    cluster.assert_everyone_has_all_of_it();
}

#[test]
fn a_wiped_node_is_refused_as_its_old_self() {
    let mut cluster = Cluster::start(|_| {});
    cluster.claim();
    cluster.append();
    let wiped = (cluster.leader() + 1) % 3;
    cluster.nodes[wiped].kill();
    std::fs::remove_dir_all(&cluster.nodes[wiped].options.data_dir).unwrap();
    cluster.nodes[wiped].start();
    let id = cluster.nodes[wiped].options.id;
    wait_for("the refusal", || {
        let problem = cluster.nodes[wiped].replica().cluster().problem?;
        problem.contains(&format!("replace-node {id}")).then_some(())
    });
    for _ in 0..5 {
        cluster.append();
    }
    assert_eq!(cluster.nodes[wiped].head(), 0);
    // Without its vote, one node more down is one too many.
    let other = (0..3).find(|at| *at != wiped && *at != cluster.leader()).unwrap();
    cluster.nodes[other].kill();
    let at = (0..3).find(|at| *at != wiped && *at != other).unwrap();
    let answer = cluster.propose(at, cluster.append_command(7), payload(7), Duration::from_secs(3));
    assert!(answer.is_err(), "{answer:?}");
}

#[test]
fn a_node_far_behind_catches_up_by_a_snapshot() {
    let mut cluster = Cluster::start(|options| {
        options.snapshot_bytes = 64 << 10;
        options.keep_entries = 0;
    });
    cluster.claim();
    cluster.append();
    cluster.assert_everyone_has_all_of_it();
    // Nothing tells from outside when the others' logs have become too short, so it is tried, with more and more time
    // for that, until they were.
    let came_by_a_snapshot = (1..=8).any(|seconds| {
        let behind = (cluster.leader() + 1) % 3;
        let before = Txid(cluster.nodes[behind].head());
        cluster.nodes[behind].kill();
        for _ in 0..100 {
            cluster.append();
        }
        wait_for("the others to build a snapshot", || {
            let snapshot = |node: &Node| node.options.data_dir.join("snapshot").exists();
            (cluster.running().all(snapshot)).then_some(())
        });
        std::thread::sleep(Duration::from_secs(seconds));
        for _ in 0..30 {
            cluster.append();
        }
        cluster.nodes[behind].start();
        cluster.assert_everyone_has_all_of_it();
        let node = &cluster.nodes[behind];
        let record = node.replica().segments(&name(), Lineage(1), before, 1).remove(0);
        node.block_on(node.replica().segment_bytes(&record)).unwrap().is_none()
    });
    assert!(came_by_a_snapshot, "the entries came by the log every time");
    cluster.append();
    cluster.assert_everyone_has_all_of_it();
}

#[test]
fn the_position_log_survives_orderly_stops_crashes_and_damage() {
    let mut cluster = Cluster::start(|options| options.snapshot_bytes = 16 << 10);
    cluster.claim();
    for round in 0..3 {
        for _ in 0..20 {
            cluster.append();
        }
        let at = (cluster.leader() + 1) % 3;
        match round {
            0 => cluster.nodes[at].stop(),
            1 => cluster.nodes[at].kill(),
            _ => {
                cluster.nodes[at].stop();
                std::fs::write(positions(&cluster.nodes[at].options).join("conf"), b"no sled configuration").unwrap();
            }
        }
        cluster.append();
        cluster.nodes[at].start();
        cluster.assert_everyone_has_all_of_it();
    }
}

/// No payload stays in memory, and the log has many pieces.
const FROM_DISK: LogOptions = LogOptions { piece_bytes: 32 << 10, cache_bytes: 0 };

#[test]
fn damaged_payloads_of_a_leaders_log_are_had_from_other_nodes_once() {
    let mut cluster = Cluster::start(|options| options.log = FROM_DISK);
    cluster.claim();
    cluster.append();
    cluster.assert_everyone_has_all_of_it();
    let leader = cluster.leader();
    let late = (leader + 1) % 3;
    cluster.nodes[late].kill();
    for _ in 0..30 {
        cluster.append();
    }
    cluster.nodes[leader].damage(1..=20);
    // What the leader sends is whole.
    cluster.nodes[late].start();
    cluster.assert_everyone_has_all_of_it();
    cluster.nodes[late].assert_gives_all_segments();
    cluster.nodes[leader].assert_gives_all_segments();
    for other in (0..3).filter(|node| *node != leader) {
        cluster.nodes[other].kill();
    }
    cluster.nodes[leader].assert_gives_all_segments();
}

#[test]
fn a_node_starts_with_damaged_payloads_and_folds_them() {
    let mut cluster = Cluster::start(|options| options.log = FROM_DISK);
    cluster.claim();
    for _ in 0..30 {
        cluster.append();
    }
    cluster.assert_everyone_has_all_of_it();
    let damaged = (cluster.leader() + 1) % 3;
    cluster.nodes[damaged].kill();
    cluster.nodes[damaged].damage(1..=29);
    std::fs::remove_dir_all(cluster.nodes[damaged].options.data_dir.join("images")).unwrap();
    cluster.nodes[damaged].start();
    cluster.append();
    cluster.assert_everyone_has_all_of_it();
    cluster.nodes[damaged].assert_gives_all_segments();
}

#[test]
fn an_image_is_had_from_another_node_where_no_log_has_a_payload_any_more() {
    let mut cluster = Cluster::start(|options| options.log = FROM_DISK);
    cluster.claim();
    for _ in 0..30 {
        cluster.append();
    }
    cluster.assert_everyone_has_all_of_it();
    for node in &cluster.nodes {
        node.damage(7..=7);
    }
    let damaged = (cluster.leader() + 1) % 3;
    cluster.nodes[damaged].kill();
    std::fs::remove_dir_all(cluster.nodes[damaged].options.data_dir.join("images")).unwrap();
    cluster.nodes[damaged].start();
    cluster.append();
    cluster.assert_everyone_has_all_of_it();
    let node = &cluster.nodes[damaged];
    let record = node.replica().segments(&name(), Lineage(1), Txid(6), 1).remove(0);
    assert!(node.block_on(node.replica().segment_bytes(&record)).unwrap().is_none());
}

#[test]
fn a_leader_that_stops_in_order_hands_over() {
    let mut cluster = Cluster::start(|_| {});
    cluster.claim();
    cluster.append();
    let leader = cluster.leader();
    let term = cluster.nodes[leader].replica().leadership().term;
    cluster.nodes[leader].stop();
    let heir = cluster.leader();
    assert_ne!(heir, leader);
    assert_eq!(cluster.nodes[heir].replica().leadership().term, term + 1);
    cluster.append();
    cluster.nodes[leader].start();
    cluster.assert_everyone_has_all_of_it();
}

#[test]
fn a_removed_log_is_no_empty_directory() {
    let mut cluster = Cluster::start(|options| options.snapshot_bytes = 1 << 10);
    cluster.claim();
    for _ in 0..10 {
        cluster.append();
    }
    let at = (cluster.leader() + 1) % 3;
    let options = cluster.nodes[at].options.clone();
    wait_for("a snapshot", || options.data_dir.join("snapshot").exists().then_some(()));
    cluster.nodes[at].stop();
    std::fs::remove_dir_all(options.data_dir.join("log")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let refused = runtime.block_on(Consensus::start(options, SledKv::opener()));
    assert!(matches!(refused.map(|_| ()), Err(StartError::LogMissing(_))));
}
