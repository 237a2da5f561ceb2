//! The cluster as agents call it: find the leader, follow it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use seawall_host::net::{Address, Channel, ChannelOptions};
use seawall_host::time::{self, Instant, UnixMillis};
use seawall_proto::MAX_MESSAGE_BYTES;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::PageSize;
use seawall_proto::v1::append_response::Refused;
use seawall_proto::v1::ingest_client::IngestClient;
use seawall_proto::v1::{self, await_receipt_response, claim_response, get_cluster_time_response, get_head_response};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::capture::PageVector;
use crate::cluster_clock::ClusterClock;
use crate::roster::Roster;

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a node may take to have the hashes asked for, and between two chunks of them.
const HASHES_TIMEOUT: Duration = Duration::from_secs(60);
/// Parts handed to the network at once.
const PARTS_AHEAD: usize = 16;

/// Why the cluster did not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    /// No node leads, or none that leads could be reached.
    #[error("no leader answers; tried {0}")]
    Leaderless(String),
    /// No node has the page hashes.
    #[error("no node gives the page hashes of the head: {0}")]
    HashesMissing(String),
    /// Every node has found its copy to be wrong.
    #[error("every node has found its copy to be wrong: {0}")]
    CopiesLost(String),
}

/// A stream of parts to the leader, and its answers.
pub(super) struct Link {
    pub(super) parts: mpsc::Sender<v1::AppendRequest>,
    pub(super) answers: Streaming<v1::AppendResponse>,
}

/// What a call to one node gave.
enum Reply<T> {
    Answer(T),
    Elsewhere(v1::NotLeader),
}

/// The way to a cluster.
pub(crate) struct Cluster {
    roster: Roster,
    leader: Option<Address>,
    channels: BTreeMap<Address, Channel>,
    clock: Arc<ClusterClock>,
}

impl Cluster {
    /// The cluster whose nodes are on `roster`; `clock` hears what time it is there.
    pub(crate) fn new(roster: Roster, clock: Arc<ClusterClock>) -> Self {
        Self { roster, leader: None, channels: BTreeMap::new(), clock }
    }

    /// What time it is there.
    pub(super) fn clock(&self) -> &Arc<ClusterClock> {
        &self.clock
    }

    /// A node says what time it is, after `asked` if that was an answer; 0 if it does not know.
    pub(super) fn hear(&self, cluster_time_ms: i64, asked: Option<Instant>) {
        if cluster_time_ms != 0 {
            self.clock.hear(UnixMillis(cluster_time_ms), asked);
        }
    }

    /// A node says where the members of the cluster are; nothing where it says nothing.
    pub(super) fn hear_nodes(&self, nodes: &[String]) {
        self.roster.hear(nodes);
    }

    /// The leader is not where it was.
    pub(super) fn forget_leader(&mut self, hint: &str) {
        self.leader = hint.parse().ok();
    }

    fn client(&mut self, address: &Address) -> IngestClient<Channel> {
        let channel = self
            .channels
            .entry(address.clone())
            .or_insert_with(|| Channel::new(address, ChannelOptions::default()))
            .clone();
        IngestClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Calls the leader: where it was last, where other nodes say it is, then everywhere.
    async fn ask_leader<T>(
        &mut self,
        timeout: Duration,
        call: impl Fn(IngestClient<Channel>) -> BoxFuture<'static, Result<Reply<T>, tonic::Status>>,
    ) -> Result<T, ClusterError> {
        let mut queue = self.roster.addresses();
        queue.reverse();
        queue.extend(self.leader.take());
        let mut tried = BTreeMap::new();
        while let Some(address) = queue.pop() {
            if tried.contains_key(&address) {
                continue;
            }
            let client = self.client(&address);
            let said = match time::timeout(timeout, call(client)).await {
                Ok(Ok(Reply::Answer(answer))) => {
                    self.leader = Some(address);
                    return Ok(answer);
                }
                Ok(Ok(Reply::Elsewhere(hint))) => {
                    queue.extend(hint.leader_address.parse::<Address>());
                    "does not lead".to_owned()
                }
                Ok(Err(status)) => status.message().to_owned(),
                Err(time::Elapsed) => "does not answer".to_owned(),
            };
            tried.insert(address, said);
        }
        let tried: Vec<String> = tried.iter().map(|(address, said)| format!("{address} ({said})")).collect();
        Err(ClusterError::Leaderless(tried.join(", ")))
    }

    /// Claims a database.
    pub(super) async fn claim(&mut self, request: &v1::ClaimRequest) -> Result<claim_response::Outcome, ClusterError> {
        use claim_response::Outcome;
        let asking = self.ask_leader(CALL_TIMEOUT, |mut client| {
            let (request, asked) = (request.clone(), Instant::now());
            let call = async move {
                match client.claim(request).await?.into_inner().outcome {
                    Some(Outcome::NotLeader(hint)) => Ok(Reply::Elsewhere(hint)),
                    Some(outcome) => Ok(Reply::Answer((outcome, asked))),
                    None => Err(tonic::Status::internal("an empty answer")),
                }
            };
            call.boxed()
        });
        let (outcome, asked) = asking.await?;
        if let Outcome::Granted(granted) = &outcome {
            self.hear(granted.cluster_time_ms, Some(asked));
            self.hear_nodes(&granted.nodes);
        }
        Ok(outcome)
    }

    /// Asks what time it is there.
    pub(super) async fn ask_time(&mut self) -> Result<(), ClusterError> {
        use get_cluster_time_response::Outcome;
        let asking = self.ask_leader(CALL_TIMEOUT, |mut client| {
            let asked = Instant::now();
            let call = async move {
                let answer = client.get_cluster_time(v1::GetClusterTimeRequest {}).await?.into_inner();
                match answer.outcome {
                    Some(Outcome::NotLeader(hint)) => Ok(Reply::Elsewhere(hint)),
                    Some(Outcome::ClusterTimeMs(time)) => Ok(Reply::Answer((time, answer.nodes, asked))),
                    None => Err(tonic::Status::internal("an empty answer")),
                }
            };
            call.boxed()
        });
        let (time, nodes, asked) = asking.await?;
        self.hear(time, Some(asked));
        self.hear_nodes(&nodes);
        Ok(())
    }

    /// The newest committed state and its epoch, read linearizably; `None` if there is no such database.
    pub(super) async fn head(&mut self, database: &DatabaseName) -> Result<Option<(v1::Head, u64)>, ClusterError> {
        use get_head_response::Outcome;
        let asking = self.ask_leader(CALL_TIMEOUT, |mut client| {
            let request = v1::GetHeadRequest { database: database.to_string(), allow_stale: false };
            let asked = Instant::now();
            let call = async move {
                match client.get_head(request).await?.into_inner().outcome {
                    Some(Outcome::NotLeader(hint)) => Ok(Reply::Elsewhere(hint)),
                    Some(Outcome::Absent(_)) => Ok(Reply::Answer(None)),
                    Some(Outcome::Found(found)) => {
                        let head = found.head.ok_or_else(|| tonic::Status::internal("an empty answer"))?;
                        Ok(Reply::Answer(Some((head, found.epoch, found.cluster_time_ms, found.nodes, asked))))
                    }
                    None => Err(tonic::Status::internal("an empty answer")),
                }
            };
            call.boxed()
        });
        let Some((head, epoch, cluster_time_ms, nodes, asked)) = asking.await? else { return Ok(None) };
        self.hear_nodes(&nodes);
        self.hear(cluster_time_ms, Some(asked));
        Ok(Some((head, epoch)))
    }

    /// Waits until destinations hold a txid.
    pub(crate) async fn await_receipt(
        &mut self,
        request: &v1::AwaitReceiptRequest,
    ) -> Result<await_receipt_response::Receipt, ClusterError> {
        use await_receipt_response::Outcome;
        let timeout = CALL_TIMEOUT + Duration::from_millis(u64::from(request.timeout_ms));
        self.ask_leader(timeout, |mut client| {
            let request = request.clone();
            let call = async move {
                match client.await_receipt(request).await?.into_inner().outcome {
                    Some(Outcome::NotLeader(hint)) => Ok(Reply::Elsewhere(hint)),
                    Some(Outcome::Receipt(receipt)) => Ok(Reply::Answer(receipt)),
                    None => Err(tonic::Status::internal("an empty answer")),
                }
            };
            call.boxed()
        })
        .await
    }

    /// Opens a stream to the node that last answered as the leader.
    pub(super) async fn append(&mut self, open: v1::AppendOpen) -> Result<Link, ClusterError> {
        let Some(address) = self.leader.clone() else {
            return Err(ClusterError::Leaderless("none yet".to_owned()));
        };
        let mut client = self.client(&address);
        let (parts, receiver) = mpsc::channel(PARTS_AHEAD);
        let message = v1::append_request::Message::Open(open);
        // The channel is empty and has room.
        let _ = parts.try_send(v1::AppendRequest { message: Some(message) });
        let answered = time::timeout(CALL_TIMEOUT, client.append(ReceiverStream::new(receiver))).await;
        let failed = match answered {
            Ok(Ok(response)) => return Ok(Link { parts, answers: response.into_inner() }),
            Ok(Err(status)) => status.message().to_owned(),
            Err(time::Elapsed) => "does not answer".to_owned(),
        };
        self.leader = None;
        Err(ClusterError::Leaderless(format!("{address} ({failed})")))
    }

    /// The page hashes of `head`, from whichever node has them; they prove themselves.
    pub(super) async fn page_hashes(
        &mut self,
        database: &DatabaseName,
        head: &v1::Head,
    ) -> Result<PageVector, ClusterError> {
        let mut errors = Vec::new();
        let mut every_copy_lost = true;
        let page_size =
            PageSize::new(head.page_size).map_err(|error| ClusterError::HashesMissing(error.to_string()))?;
        let mut order: Vec<Address> = self.leader.iter().cloned().collect();
        order.extend(self.roster.addresses().into_iter().filter(|address| Some(address) != self.leader.as_ref()));
        for address in order {
            match self.page_hashes_from(&address, database, head).await {
                Ok(hashes) => {
                    let vector = PageVector::from_hashes(page_size, hashes);
                    if vector.page_count() == head.page_count && vector.checksum().0 == head.checksum {
                        return Ok(vector);
                    }
                    errors.push(format!("{address} gave hashes that don't sum up to the head's checksum"));
                }
                Err(status) => {
                    every_copy_lost &= status.code() == tonic::Code::DataLoss;
                    errors.push(format!("{address}: {}", status.message()));
                }
            }
        }
        let errors = errors.join("; ");
        Err(if every_copy_lost { ClusterError::CopiesLost(errors) } else { ClusterError::HashesMissing(errors) })
    }

    async fn page_hashes_from(
        &mut self,
        address: &Address,
        database: &DatabaseName,
        head: &v1::Head,
    ) -> Result<Vec<u64>, tonic::Status> {
        let mut client = self.client(address);
        let request = v1::PageHashesRequest { database: database.to_string(), lineage: head.lineage, txid: head.txid };
        let late = |_: time::Elapsed| tonic::Status::deadline_exceeded("does not answer");
        let response = time::timeout(HASHES_TIMEOUT, client.page_hashes(request)).await.map_err(late)?;
        let mut chunks = response?.into_inner();
        let mut hashes = Vec::new();
        while let Some(chunk) = time::timeout(HASHES_TIMEOUT, chunks.message()).await.map_err(late)?? {
            if hashes.len() + chunk.hashes.len() > head.page_count as usize {
                let message = format!("more hashes than the head's {} pages", head.page_count);
                return Err(tonic::Status::internal(message));
            }
            hashes.extend(chunk.hashes);
        }
        Ok(hashes)
    }
}

/// A refusal in words.
pub(super) fn describe(refused: &Refused) -> String {
    if refused.message.is_empty() { format!("{:?}", refused.reason()) } else { refused.message.clone() }
}
