//! The service of a whole node, as an agent meets it.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use seawall_host::net::{Channel, ChannelOptions};
use seawall_host::real::free_port;
use seawall_host::time;
use seawall_proto::position::{Lineage, Txid};
use seawall_proto::v1::append_request::Message;
use seawall_proto::v1::append_response::{Outcome, Reason, Refused};
use seawall_proto::v1::ingest_client::IngestClient;
use seawall_proto::v1::{self, claim_response, get_head_response};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::head_vector::tests::parts;
use crate::config::NodeConfig;
use crate::node::{Node, NodeParts};
use crate::store::image::ImageError;
use crate::store::image::testing::{Change, Model};
use crate::store::sled_kv::SledKv;

const LIMIT: Duration = Duration::from_secs(30);

type Client = IngestClient<Channel>;

async fn start(directory: &Path) -> (Node, Client) {
    seawall_host::real::install();
    let port = free_port();
    let text = format!(
        "node: {{ id: 1, data-dir: ./n1, listen: 127.0.0.1:{port} }}\n\
         cluster:\n  name: test\n  nodes: [ {{ id: 1, address: 127.0.0.1:{port} }} ]\n\
         destinations:\n  - {{ name: local, url: \"file://{}/objects\", upload-interval: 1h }}\n",
        directory.display()
    );
    let config = NodeConfig::parse(&directory.join("node.yml"), &text, &|_| None).unwrap();
    let parts = NodeParts::new(&config, SledKv::opener()).unwrap();
    let node = Node::start(config, parts).await.unwrap();
    let mut seen = 0;
    let leading = async {
        while !node.replica().leadership().is_leader {
            seen = node.replica().changed(seen).await;
        }
    };
    time::timeout(LIMIT, leading).await.expect("the node leads");
    let channel = Channel::new(node.address(), ChannelOptions::default());
    (node, IngestClient::new(channel))
}

async fn claim(client: &mut Client, agent_id: u64, take_over: bool) -> claim_response::Outcome {
    let agent_label = format!("agent {agent_id}");
    let request = v1::ClaimRequest { database: "app".to_owned(), agent_id, agent_label, take_over };
    client.claim(request).await.unwrap().into_inner().outcome.unwrap()
}

/// An agent's stream.
struct Stream {
    requests: mpsc::Sender<v1::AppendRequest>,
    answers: Streaming<v1::AppendResponse>,
}

impl Stream {
    async fn open(client: &mut Client, agent_id: u64, epoch: u64) -> Self {
        let (requests, receiver) = mpsc::channel(1000);
        let open = v1::AppendOpen { database: "app".to_owned(), lineage: 1, epoch, agent_id };
        requests.send(v1::AppendRequest { message: Some(Message::Open(open)) }).await.unwrap();
        let answers = client.append(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Self { requests, answers }
    }

    async fn send(&self, parts: &[v1::SegmentPart]) {
        for part in parts {
            let message = Some(Message::Part(part.clone()));
            self.requests.send(v1::AppendRequest { message }).await.unwrap();
        }
    }

    async fn wait_committed(&mut self, txid: Txid) {
        loop {
            match time::timeout(LIMIT, self.answers.message()).await.unwrap().unwrap().unwrap().outcome.unwrap() {
                Outcome::Committed(committed) if committed < txid.0 => {}
                Outcome::Committed(committed) => return assert_eq!(committed, txid.0),
                Outcome::Refused(refused) => panic!("{refused:?}"),
            }
        }
    }

    /// The refusal that ends the stream.
    async fn wait_refused(&mut self) -> Refused {
        loop {
            if let Outcome::Refused(refused) =
                time::timeout(LIMIT, self.answers.message()).await.unwrap().unwrap().unwrap().outcome.unwrap()
            {
                let end = time::timeout(LIMIT, self.answers.message()).await.unwrap().unwrap();
                assert_eq!(end, None);
                return refused;
            }
        }
    }
}

/// Commits and gives the parts that an agent sends of it.
fn segment(model: &mut Model, size: u32, fill: u8, part_bytes: usize) -> Vec<v1::SegmentPart> {
    let before = model.clone();
    let change = |page| Change { size, writes: vec![(page, fill)], other_page_size: false };
    let segment = model.segment(&[change(1), change(3)]);
    parts(&before, model, &segment, part_bytes)
}

async fn head(client: &mut Client) -> (v1::Head, u64) {
    let request = v1::GetHeadRequest { database: "app".to_owned(), allow_stale: false };
    match client.get_head(request).await.unwrap().into_inner().outcome.unwrap() {
        get_head_response::Outcome::Found(found) => (found.head.unwrap(), found.epoch),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_agent_claims_appends_and_is_fenced_by_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let (node, mut client) = start(directory.path()).await;
    let mut model = Model::new();

    let claim_response::Outcome::Granted(granted) = claim(&mut client, 1, false).await else { panic!("not granted") };
    assert_eq!((granted.epoch, granted.head.unwrap().txid), (1, 0));
    let mut stream = Stream::open(&mut client, 1, 1).await;
    // Pipelined, whole and in parts.
    for (fill, part_bytes) in [(1, 1 << 19), (2, 300), (3, 100), (4, 1 << 19)] {
        stream.send(&segment(&mut model, 10 + u32::from(fill), fill, part_bytes)).await;
    }
    stream.wait_committed(model.txid).await;
    assert_eq!(head(&mut client).await, (model.head(), 1));

    let hashes = v1::PageHashesRequest { database: "app".to_owned(), lineage: 1, txid: model.txid.0 };
    let hashes: Vec<_> = client.page_hashes(hashes).await.unwrap().into_inner().try_collect().await.unwrap();
    assert_eq!(hashes.into_iter().flat_map(|chunk| chunk.hashes).collect::<Vec<_>>(), model.hashes());

    // Another agent gives way while the stream lives, unless told otherwise.
    let held = claim(&mut client, 2, false).await;
    let claim_response::Outcome::Held(held) = held else { panic!("{held:?}") };
    assert_eq!((held.agent_label.as_str(), held.epoch), ("agent 1", 1));
    let claim_response::Outcome::Granted(granted) = claim(&mut client, 2, true).await else { panic!("not granted") };
    assert_eq!((granted.epoch, granted.head), (2, Some(model.head())));
    assert_eq!(stream.wait_refused().await.reason(), Reason::Fenced);
    let mut stale = Stream::open(&mut client, 1, 1).await;
    assert_eq!(stale.wait_refused().await.reason(), Reason::Fenced);

    // The next one goes on where the first was.
    let mut stream = Stream::open(&mut client, 2, 2).await;
    stream.send(&segment(&mut model, 8, 9, 1 << 19)).await;
    stream.wait_committed(model.txid).await;
    assert_eq!(head(&mut client).await, (model.head(), 2));

    node.shutdown(LIMIT).await;
}

#[tokio::test]
async fn a_segment_that_lies_about_its_pages_is_never_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let (node, mut client) = start(directory.path()).await;
    let mut model = Model::new();
    assert!(matches!(claim(&mut client, 1, false).await, claim_response::Outcome::Granted(_)));
    let mut stream = Stream::open(&mut client, 1, 1).await;
    stream.send(&segment(&mut model, 10, 1, 1 << 19)).await;
    stream.wait_committed(model.txid).await;

    let mut after = model.clone();
    after.txid = after.txid.next();
    let poison: Vec<Bytes> = model.claim(&[(3, 77)], 10, model.checksum());
    let mut poison = parts(&model, &after, &poison, 200);
    poison.last_mut().unwrap().commit_time_ms = model.commit_time_ms() + 1;
    stream.send(&poison).await;
    let refused = stream.wait_refused().await;
    assert_eq!((refused.reason(), refused.head), (Reason::Invalid, Some(model.head())));
    assert!(refused.message.contains("leads to checksum"), "{}", refused.message);

    // Nothing is stuck: the same agent opens another stream, and what does not continue the head is told so.
    let mut stream = Stream::open(&mut client, 1, 1).await;
    stream.send(&segment(&mut model, 12, 2, 150)).await;
    stream.wait_committed(model.txid).await;
    let mut ahead = model.clone();
    segment(&mut ahead, 12, 3, 1 << 19);
    stream.send(&segment(&mut ahead, 12, 4, 1 << 19)).await;
    let refused = stream.wait_refused().await;
    assert_eq!((refused.reason(), refused.head), (Reason::NotAdjacent, Some(model.head())));

    let image = node.images().get(&"app".parse().unwrap(), Lineage(1)).unwrap();
    image.wait_folded(model.txid, LIMIT).await.unwrap();
    let snapshot: Vec<Bytes> = image.hold(LIMIT).await.unwrap().snapshot().try_collect().await.unwrap();
    assert_eq!(Model::from_snapshot(snapshot), model);
    node.shutdown(LIMIT).await;
}

#[tokio::test]
async fn a_held_image_keeps_no_new_stream_from_appending() {
    let directory = tempfile::tempdir().unwrap();
    let (node, mut client) = start(directory.path()).await;
    let mut model = Model::new();
    assert!(matches!(claim(&mut client, 1, false).await, claim_response::Outcome::Granted(_)));
    let mut stream = Stream::open(&mut client, 1, 1).await;
    stream.send(&segment(&mut model, 10, 1, 1 << 19)).await;
    stream.wait_committed(model.txid).await;

    // As a snapshot does that a slow destination takes its time for.
    let database = "app".parse().unwrap();
    let held = node.images().hold_from(&database, Lineage(1), model.txid, 20 * LIMIT, LIMIT).await.unwrap();
    let image = node.images().get(&database, Lineage(1)).unwrap();
    for (fill, part_bytes) in [(2, 1 << 19), (3, 100)] {
        stream.send(&segment(&mut model, 10 + u32::from(fill), fill, part_bytes)).await;
    }
    stream.wait_committed(model.txid).await;
    drop(stream);

    // It knows nothing of the pages yet, and the image does not get to the head.
    let mut stream = Stream::open(&mut client, 1, 1).await;
    stream.send(&segment(&mut model, 12, 4, 1 << 19)).await;
    stream.wait_committed(model.txid).await;
    // Nor is anybody kept from reading the image, unless the fold had to wait longer for it.
    assert!(time::timeout(LIMIT, image.hold(LIMIT)).await.unwrap().is_ok());
    assert!(image.status().position.txid < model.txid);
    drop(held);
    image.wait_folded(model.txid, LIMIT).await.unwrap();
    node.shutdown(LIMIT).await;
}

#[tokio::test]
async fn a_receipt_closes_the_window_and_names_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let (node, mut client) = start(directory.path()).await;
    let mut model = Model::new();
    assert!(matches!(claim(&mut client, 1, false).await, claim_response::Outcome::Granted(_)));
    let mut stream = Stream::open(&mut client, 1, 1).await;
    stream.send(&segment(&mut model, 10, 1, 1 << 19)).await;
    stream.wait_committed(model.txid).await;

    let request = |destinations: &[&str], txid: Txid, timeout_ms| v1::AwaitReceiptRequest {
        database: "app".to_owned(),
        lineage: 1,
        txid: txid.0,
        destinations: destinations.iter().map(|name| (*name).to_owned()).collect(),
        timeout_ms,
    };
    let mut receipt = async |request| match client.await_receipt(request).await.unwrap().into_inner().outcome {
        Some(v1::await_receipt_response::Outcome::Receipt(receipt)) => receipt,
        other => panic!("{other:?}"),
    };
    // The window is an hour.
    let reached = receipt(request(&[], model.txid, 20_000)).await;
    assert!(reached.reached, "{reached:?}");
    assert_eq!(reached.destinations["local"], model.txid.0);
    let unknown = receipt(request(&["elsewhere"], model.txid, 20_000)).await;
    assert!(!unknown.reached && unknown.errors["elsewhere"].contains("local"), "{unknown:?}");
    let early = receipt(request(&["local"], model.txid.next(), 50)).await;
    assert!(!early.reached && early.destinations["local"] == model.txid.0, "{early:?}");
    node.shutdown(LIMIT).await;
}

/// Three nodes whose logs are cut short all the time, in the order of their ids.
async fn start_three(directory: &Path) -> Vec<Node> {
    seawall_host::real::install();
    let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
    let members: Vec<String> =
        (1..).zip(&ports).map(|(id, port)| format!("{{ id: {id}, address: 127.0.0.1:{port} }}")).collect();
    let starting = (1..).zip(&ports).map(|(id, port)| {
        let text = format!(
            "node: {{ id: {id}, data-dir: ./n{id}, listen: 127.0.0.1:{port} }}\n\
             cluster:\n  name: test\n  nodes: [ {} ]\n\
             destinations:\n  - {{ name: local, url: \"file://{}/objects\", upload-interval: 100ms }}\n",
            members.join(", "),
            directory.display()
        );
        let config = NodeConfig::parse(&directory.join("node.yml"), &text, &|_| None).unwrap();
        let mut parts = NodeParts::new(&config, SledKv::opener()).unwrap();
        parts.sizes.log.piece_bytes = 8 << 10;
        parts.sizes.snapshot_bytes = 8 << 10;
        parts.sizes.keep_entries = 0;
        parts.sizes.images.checkpoint_interval = Duration::from_millis(50);
        Node::start(config, parts)
    });
    futures::future::join_all(starting).await.into_iter().map(Result::unwrap).collect()
}

async fn leader(nodes: &[Node]) -> usize {
    let finding = async {
        loop {
            match nodes.iter().position(|node| node.replica().leadership().is_leader) {
                Some(leader) => return leader,
                None => time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    time::timeout(LIMIT, finding).await.expect("a node leads")
}

/// The file with the pages of the one image under `directory`.
#[allow(clippy::disallowed_methods, reason = "a test looks where the node keeps it")]
fn pages_file(directory: &Path) -> std::path::PathBuf {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut found = entries.filter_map(|path| match path.is_dir() {
        true => Some(pages_file(&path)),
        false => path.file_stem().is_some_and(|stem| stem == "image").then_some(path),
    });
    found.next().unwrap()
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "the disk rots without the node's help")]
async fn a_leader_with_a_damaged_image_goes_on_and_takes_in_anothers() {
    let directory = tempfile::tempdir().unwrap();
    let nodes = start_three(directory.path()).await;
    let leads = leader(&nodes).await;
    let node = &nodes[leads];
    let mut client = IngestClient::new(Channel::new(node.address(), ChannelOptions::default()));
    let mut model = Model::new();
    assert!(matches!(claim(&mut client, 1, false).await, claim_response::Outcome::Granted(_)));
    let mut stream = Stream::open(&mut client, 1, 1).await;
    let database = "app".parse().unwrap();
    let shortening = async {
        // Until the log no longer has how it began.
        while node.replica().held_after(&database, Lineage(1)) == Txid::NONE {
            let fill = model.txid.0 as u8;
            stream.send(&segment(&mut model, 20, fill, 1 << 19)).await;
            stream.wait_committed(model.txid).await;
            time::sleep(Duration::from_millis(20)).await;
        }
    };
    time::timeout(LIMIT, shortening).await.expect("the log is cut short");
    drop(stream);

    let image = node.images().get(&database, Lineage(1)).unwrap();
    image.wait_folded(model.txid, LIMIT).await.unwrap();
    image.checkpoint().await.unwrap();
    let file = pages_file(&directory.path().join(format!("n{}/images", leads + 1)));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[1024 * 4 + 77] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let read: Result<Vec<Bytes>, _> = image.hold(LIMIT).await.unwrap().snapshot().try_collect().await;
    assert!(matches!(read, Err(ImageError::Quarantined { .. })), "{read:?}");

    let mut stream = Stream::open(&mut client, 1, 1).await;
    stream.send(&segment(&mut model, 20, 99, 1 << 19)).await;
    stream.wait_committed(model.txid).await;
    let mending = async {
        while image.status().quarantined.is_some() {
            time::sleep(Duration::from_millis(20)).await;
        }
    };
    time::timeout(LIMIT, mending).await.expect("another node's image is taken in");
    image.wait_folded(model.txid, LIMIT).await.unwrap();
    let snapshot: Vec<Bytes> = image.hold(LIMIT).await.unwrap().snapshot().try_collect().await.unwrap();
    assert_eq!(Model::from_snapshot(snapshot), model);
    assert_eq!(leader(&nodes).await, leads);
}
