//! Restoring from a cluster: from any node's image and log, and through it from the destinations.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryFutureExt, stream};
use seawall_host::net::{Address, Channel, ChannelOptions};
use seawall_host::time;
use seawall_proto::MAX_MESSAGE_BYTES;
use seawall_proto::checksum::Checksum;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::object_name::ObjectName;
use seawall_proto::position::{Lineage, Position, Txid};
use seawall_proto::v1::restore_client::RestoreClient;
use seawall_proto::v1::{Chunk, DescribeRequest, DescribeResponse, ReadObjectRequest, RestoreObject};
use tonic::{Code, Status, Streaming};

use super::source::{Breadth, ByteStream, Listing, RestoreSource, SourceError, SourceObject};

/// How long a node may take to say what it holds itself; with the destinations, which it lists then, longer.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(15);
const DESCRIBE_WIDE_TIMEOUT: Duration = Duration::from_secs(120);

/// A node that sends nothing for so long is given up.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The name under which a node offers its own image and log.
const NODE: &str = "node";

/// A database in a cluster.
pub struct ClusterSource {
    nodes: Vec<(Address, Channel)>,
    database: DatabaseName,
    allow_stale: bool,
    shown: String,
}

impl ClusterSource {
    /// `database` in the cluster that `nodes` belong to. With `allow_stale` nodes that have no leader answer from
    /// what they have.
    pub fn new(nodes: Vec<Address>, database: DatabaseName, allow_stale: bool) -> Self {
        let addresses: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        let shown = format!("seawall://{}/{database}", addresses.join(","));
        let connect = |address: Address| {
            let channel = Channel::new(&address, ChannelOptions::default());
            (address, channel)
        };
        Self { nodes: nodes.into_iter().map(connect).collect(), database, allow_stale, shown }
    }

    fn client(&self, node: usize) -> RestoreClient<Channel> {
        let channel = self.nodes[node].1.clone();
        RestoreClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    async fn describe_node(&self, node: usize, wide: bool) -> Result<DescribeResponse, Status> {
        let mut client = self.client(node);
        let request = DescribeRequest {
            database: self.database.to_string(),
            allow_stale: self.allow_stale,
            include_destinations: wide,
        };
        let limit = if wide { DESCRIBE_WIDE_TIMEOUT } else { DESCRIBE_TIMEOUT };
        let answer = time::timeout(limit, client.describe(request)).await;
        answer.map_err(|_| Status::deadline_exceeded("no answer"))?.map(tonic::Response::into_inner)
    }

    async fn list_nodes(&self, breadth: Breadth) -> Result<Listing, SourceError> {
        let mut listing = Listing::default();
        let mut failures = Vec::new();
        let mut answered = 0;
        let mut destinations_seen = false;
        for node in 0..self.nodes.len() {
            let wide = breadth == Breadth::Wide && !destinations_seen;
            let address = &self.nodes[node].0;
            let answer = match self.describe_node(node, wide).await {
                Ok(answer) => answer,
                // The database is not there: an answer, and no failure.
                Err(status) if status.code() == Code::NotFound => {
                    answered += 1;
                    continue;
                }
                Err(status) => {
                    failures.push(format!("{address}: {}", status.message()));
                    continue;
                }
            };
            answered += 1;
            destinations_seen |= wide && answer.unreachable.is_empty();
            let unreachable = answer.unreachable.iter();
            listing.warnings.extend(unreachable.map(|(name, cause)| format!("destination {name}: {cause}")));
            self.add(&mut listing, node, &answer);
            if breadth == Breadth::Narrow && !self.allow_stale {
                break;
            }
        }
        if answered == 0 {
            let advice = if self.allow_stale { "" } else { " (--allow-stale restores from a node without a leader)" };
            let cause = format!("no node could answer{advice}: {}", failures.join("; "));
            return Err(SourceError::Unusable { origin: self.shown.clone(), cause });
        }
        listing.warnings.extend(failures);
        Ok(listing)
    }

    fn add(&self, listing: &mut Listing, node: usize, answer: &DescribeResponse) {
        let address = &self.nodes[node].0;
        if let Some(head) = &answer.head {
            let head =
                Position { lineage: Lineage(head.lineage), txid: Txid(head.txid), checksum: Checksum(head.checksum) };
            let newer = |known: &Position| (head.lineage, head.txid) > (known.lineage, known.txid);
            if head.txid > Txid::NONE && listing.head.as_ref().is_none_or(newer) {
                if answer.stale {
                    listing.warnings.push(format!("{address} has no leader: its own newest state is {head}"));
                }
                listing.head = Some(head);
                listing.head_is_stale = answer.stale;
            }
        }
        let known: BTreeSet<(String, String)> =
            listing.objects.iter().map(|object| (object.origin.to_string(), object.name.to_string())).collect();
        for object in &answer.objects {
            let Some(name) = parse_name(object) else { continue };
            let origin = if object.source == NODE { format!("node {address}") } else { object.source.clone() };
            // A destination is the same whichever node reads it.
            if known.contains(&(origin.clone(), name.to_string())) {
                continue;
            }
            listing.objects.push(SourceObject {
                origin: Arc::from(origin),
                route: node as u32,
                name,
                size: object.size,
                commit_time_ms: (object.commit_time_ms != 0).then_some(object.commit_time_ms),
            });
        }
    }
}

/// The name of an object as a node describes it; `None` for nonsense.
fn parse_name(object: &RestoreObject) -> Option<ObjectName> {
    let name = ObjectName {
        lineage: Lineage(object.lineage),
        level: object.level.parse().ok()?,
        first: Txid(object.first),
        last: Txid(object.last),
        checksum_after: Checksum(object.checksum_after),
    };
    (1 <= object.first && object.first <= object.last && object.lineage >= 1).then_some(name)
}

impl RestoreSource for ClusterSource {
    fn describe(&self) -> &str {
        &self.shown
    }

    fn list(&self, breadth: Breadth) -> BoxFuture<'_, Result<Listing, SourceError>> {
        self.list_nodes(breadth).boxed()
    }

    fn read(&self, object: &SourceObject) -> ByteStream {
        let own = object.origin.starts_with("node ");
        let source = if own { NODE.to_owned() } else { object.origin.to_string() };
        let request = ReadObjectRequest {
            database: self.database.to_string(),
            object: Some(RestoreObject {
                source,
                lineage: object.name.lineage.0,
                first: object.name.first.0,
                last: object.name.last.0,
                checksum_after: object.name.checksum_after.0,
                level: object.name.level.to_string(),
                size: object.size,
                commit_time_ms: object.commit_time_ms.unwrap_or_default(),
            }),
            offset: 0,
            length: 0,
        };
        let mut client = self.client(object.route as usize);
        let origin = Arc::clone(&object.origin);
        let shown = object.name.to_string();
        let error = move |status: Status| {
            let (origin, object, cause) = (origin.to_string(), shown.clone(), status.message().to_owned());
            match status.code() {
                Code::FailedPrecondition => SourceError::Changed { origin, cause },
                Code::Unavailable if own => SourceError::Unusable { origin, cause },
                // The others of its objects would be waited for in vain, one by one.
                Code::DeadlineExceeded => SourceError::Unusable { origin, cause },
                _ => SourceError::Object { origin, object, cause },
            }
        };
        let on_open = error.clone();
        let open = async move {
            let opened = time::timeout(IDLE_TIMEOUT, client.read_object(request)).await;
            opened.map_err(|_| late())?.map(tonic::Response::into_inner)
        };
        open.map_ok(move |stream| pieces(stream).map(move |piece| piece.map_err(&error)).boxed())
            .unwrap_or_else(move |status| stream::iter([Err(on_open(status))]).boxed())
            .flatten_stream()
            .boxed()
    }
}

fn late() -> Status {
    Status::deadline_exceeded(format!("nothing came for {IDLE_TIMEOUT:?}"))
}

/// The bytes of a stream of chunks, each within [`IDLE_TIMEOUT`].
fn pieces(chunks: Streaming<Chunk>) -> impl futures::Stream<Item = Result<Bytes, Status>> + Send {
    stream::try_unfold(chunks, |mut chunks| async move {
        let next = time::timeout(IDLE_TIMEOUT, chunks.message()).await;
        match next.map_err(|_| late())?? {
            Some(chunk) => Ok(Some((chunk.data, chunks))),
            None => Ok(None),
        }
    })
}
