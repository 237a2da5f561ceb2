//! What a node answers to its peers. Whatever is meant for another cluster, or for who this node was before its
//! directory was wiped, is refused before consensus sees it.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::BytesMut;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use openraft::raft::{TransferLeaderRequest, VoteRequest};
use openraft::storage::Snapshot;
use seawall_host::probe::mutant;
use seawall_host::time::{self, UnixMillis};
use seawall_proto::v1;
use seawall_proto::v1::peer_server::Peer;
use tonic::{Code, Request, Response, Status, Streaming};

use super::blobs::{self, Blobs, Giver, Need};
use super::identity::Identity;
use super::live_state::LiveState;
use super::network::Network;
use super::payloads::Payloads;
use super::replica::own_read_index;
use super::snapshot::{self, MAX_MANIFEST_BYTES};
use super::space::SpaceBoard;
use super::watch_membership::removal_notice;
use super::wire::{self, WireError};
use super::{ConfiguredNode, Raft, bootstrap, holdings};
use crate::replica::ProposeError;
use crate::space::Room;

/// The longest a follower waits for the leader's word on a read index.
const MAX_READ_WAIT: Duration = Duration::from_secs(60);

/// The service.
pub(super) struct PeerService {
    pub(super) raft: Raft,
    pub(super) live: Arc<LiveState>,
    pub(super) identity: Arc<Identity>,
    pub(super) network: Network,
    pub(super) payloads: Payloads,
    pub(super) blobs: Arc<OnceLock<Blobs>>,
    pub(super) space: Arc<SpaceBoard>,
    pub(super) nodes: Vec<ConfiguredNode>,
    /// One snapshot at a time.
    pub(super) installing: tokio::sync::Mutex<()>,
}

impl From<WireError> for Status {
    fn from(error: WireError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(error.to_string())
}

#[tonic::async_trait]
impl Peer for PeerService {
    type AppendStream = BoxStream<'static, Result<v1::PeerAppendResponse, Status>>;
    type ReadBlobStream = BoxStream<'static, Result<v1::Chunk, Status>>;

    async fn identify(&self, request: Request<v1::IdentifyRequest>) -> Result<Response<v1::IdentifyResponse>, Status> {
        self.check_name(&request.get_ref().cluster)?;
        let empty = bootstrap::is_empty(&self.live);
        let members = if empty {
            let listed = self.nodes.iter();
            listed
                .map(|node| v1::Member { raft_id: 0, configured_id: node.id, address: node.address.clone() })
                .collect()
        } else {
            wire::membership(self.live.lock().membership.membership()).members
        };
        Ok(Response::new(v1::IdentifyResponse {
            cluster: self.identity.name().to_owned(),
            cluster_uuid: self.identity.cluster().map(|uuid| uuid.to_vec()).unwrap_or_default().into(),
            raft_id: self.identity.raft_id(),
            configured_id: self.identity.configured_id(),
            empty,
            members,
        }))
    }

    async fn adopt(&self, request: Request<v1::AdoptRequest>) -> Result<Response<v1::AdoptResponse>, Status> {
        let request = request.into_inner();
        self.check_name(&request.cluster)?;
        let cluster = <[u8; 16]>::try_from(&request.cluster_uuid[..]).ok().filter(|uuid| *uuid != [0; 16]);
        let cluster = cluster.ok_or_else(|| Status::invalid_argument("a cluster's uuid has 16 bytes"))?;
        if request.target != self.identity.raft_id() || !bootstrap::is_empty(&self.live) {
            return Err(Status::failed_precondition("this node is not, or no longer, the empty one this is meant for"));
        }
        if self.identity.cluster() != Some(cluster) {
            self.live.log.save_cluster(cluster).await.map_err(stopped)?;
            self.identity.join(cluster);
        }
        Ok(Response::new(v1::AdoptResponse {}))
    }

    async fn vote(&self, request: Request<v1::VoteRequest>) -> Result<Response<v1::VoteResponse>, Status> {
        let request = request.into_inner();
        self.check(request.envelope.as_ref())?;
        let mut asked = VoteRequest::new(
            wire::read_vote(request.vote.as_ref())?,
            request.last_log_id.as_ref().map(wire::read_log_id),
        );
        asked.leadership_transfer = request.leadership_transfer;
        let answer = if request.pre_vote { self.raft.pre_vote(asked).await } else { self.raft.vote(asked).await };
        let answer = answer.map_err(stopped)?;
        Ok(Response::new(v1::VoteResponse {
            vote: Some(wire::vote(&answer.vote)),
            granted: answer.vote_granted,
            last_log_id: answer.last_log_id.as_ref().map(wire::log_id),
        }))
    }

    async fn append(
        &self,
        request: Request<Streaming<v1::PeerAppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let (identity, live) = (self.identity.clone(), self.live.clone());
        let mut refused = None;
        let (reason, refusal) = tokio::sync::oneshot::channel::<Status>();
        let mut reason = Some(reason);
        let mut requests = request.into_inner();
        // Ends at the first request that is not to be trusted; the reason follows the answers to those before it.
        let accepted = stream::poll_fn(move |cx| {
            use std::task::Poll;
            if refused.is_some() {
                return Poll::Ready(None);
            }
            let next = match futures::ready!(requests.poll_next_unpin(cx)) {
                None => return Poll::Ready(None),
                Some(next) => next.and_then(|request| {
                    check(&identity, &live, request.envelope.as_ref())?;
                    Ok(wire::read_append_request(request)?)
                }),
            };
            match next {
                Ok(request) => Poll::Ready(Some(request)),
                Err(status) => {
                    refused = Some(());
                    if let Some(reason) = reason.take() {
                        let _ = reason.send(status);
                    }
                    Poll::Ready(None)
                }
            }
        });
        let answers = self.raft.stream_append(accepted);
        let answers = answers.map(|answer| answer.map(|result| wire::append_response(&result)).map_err(stopped));
        let last = stream::once(refusal).filter_map(|refusal| futures::future::ready(refusal.ok().map(Err)));
        Ok(Response::new(answers.chain(last).boxed()))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<v1::SnapshotPart>>,
    ) -> Result<Response<v1::InstallSnapshotResponse>, Status> {
        let mut parts = request.into_inner();
        let header = parts.message().await?.and_then(|part| part.header);
        let header = header.ok_or_else(|| Status::invalid_argument("a snapshot begins with its header"))?;
        self.check(header.envelope.as_ref())?;
        let _installing = self.installing.lock().await;
        let vote = wire::read_vote(header.vote.as_ref())?;
        let meta = header.meta.as_ref().ok_or_else(|| Status::invalid_argument("a snapshot has a log id"))?;
        let meta = wire::read_snapshot_meta(meta)?;
        let mut manifest = BytesMut::new();
        while let Some(part) = parts.message().await? {
            if (manifest.len() + part.data.len()) as u64 > header.length.min(MAX_MANIFEST_BYTES as u64) {
                return Err(Status::invalid_argument("the manifest is longer than announced"));
            }
            manifest.extend_from_slice(&part.data);
        }
        let manifest = manifest.freeze();
        if manifest.len() as u64 != header.length || crc32c::crc32c(&manifest) != header.checksum {
            return Err(Status::data_loss("the manifest was damaged on its way"));
        }
        let cluster =
            snapshot::decode(manifest.clone()).map_err(|error| Status::invalid_argument(error.to_string()))?.cluster;
        let sender = header.envelope.map(|envelope| envelope.sender).unwrap_or_default();
        let members = meta.last_membership.membership();
        if members.get_node(&sender).is_none() {
            return Err(Status::failed_precondition("the sender is no member of its own cluster"));
        }
        if !mutant("snapshot-without-its-blobs") {
            let mut givers = Giver::all(members.nodes(), &self.identity, &self.network, None);
            // The sender first: it has the parts of segments, too.
            givers.sort_by_key(|giver| giver.envelope.target != sender);
            let pulled = blobs::pull(&mut givers, &cluster, &self.payloads, self.blobs.get());
            pulled
                .await
                .map_err(|error| Status::unavailable(format!("cannot pull what belongs to the snapshot: {error}")))?;
        }
        let installed =
            self.raft.install_full_snapshot(vote, Snapshot { meta, snapshot: manifest }).await.map_err(stopped)?;
        Ok(Response::new(v1::InstallSnapshotResponse { vote: Some(wire::vote(&installed.vote)) }))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        let request = request.into_inner();
        self.check(request.envelope.as_ref())?;
        let transfer = TransferLeaderRequest::new(
            wire::read_vote(request.from.as_ref())?,
            self.identity.raft_id(),
            request.last_log_id.as_ref().map(wire::read_log_id),
        );
        let outcome = self.raft.handle_transfer_leader(transfer).await.map_err(stopped)?;
        let refused = outcome.err().map(|error| error.to_string()).unwrap_or_default();
        Ok(Response::new(v1::TransferLeaderResponse { refused }))
    }

    async fn read_index(
        &self,
        request: Request<v1::ReadIndexRequest>,
    ) -> Result<Response<v1::ReadIndexResponse>, Status> {
        use v1::read_index_response::Outcome;
        let request = request.into_inner();
        self.check(request.envelope.as_ref())?;
        let limit = Duration::from_millis(u64::from(request.timeout_ms)).min(MAX_READ_WAIT);
        let outcome = match time::timeout(limit, own_read_index(&self.raft)).await {
            Ok(Ok(index)) => Outcome::Index(index),
            Ok(Err(ProposeError::NotLeader { leader_address })) => {
                Outcome::NotLeader(v1::NotLeader { leader_address: leader_address.unwrap_or_default() })
            }
            Ok(Err(error)) => Outcome::Failed(error.to_string()),
            Err(elapsed) => Outcome::Failed(elapsed.to_string()),
        };
        Ok(Response::new(v1::ReadIndexResponse { outcome: Some(outcome) }))
    }

    async fn list_blobs(
        &self,
        request: Request<v1::ListBlobsRequest>,
    ) -> Result<Response<v1::ListBlobsResponse>, Status> {
        let request = request.into_inner();
        self.check(request.envelope.as_ref())?;
        let needs: Result<Vec<Need>, Status> = request
            .needs
            .into_iter()
            .map(|need| {
                let database = need.database.parse();
                let database = database.map_err(|error: seawall_proto::database_name::InvalidDatabaseName| {
                    Status::invalid_argument(error.to_string())
                })?;
                let (lineage, txid) = (need.lineage, need.txid);
                Ok(Need {
                    database,
                    lineage: seawall_proto::position::Lineage(lineage),
                    txid: seawall_proto::position::Txid(txid),
                })
            })
            .collect();
        let needs = needs?;
        let blobs = match self.blobs.get() {
            Some(blobs) => blobs.source.list(needs).await.map_err(stopped)?,
            None => Vec::new(),
        };
        Ok(Response::new(v1::ListBlobsResponse { blobs }))
    }

    async fn read_blob(&self, request: Request<v1::ReadBlobRequest>) -> Result<Response<Self::ReadBlobStream>, Status> {
        let request = request.into_inner();
        self.check(request.envelope.as_ref())?;
        let bytes = blobs::read(&self.payloads, self.blobs.get(), request.id, request.offset).await;
        let bytes = bytes.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Status::not_found(error.to_string()),
            _ => stopped(error),
        })?;
        let chunks = bytes.map_ok(|data| v1::Chunk { data }).map_err(stopped);
        Ok(Response::new(chunks.boxed()))
    }

    async fn report_space(
        &self,
        request: Request<v1::ReportSpaceRequest>,
    ) -> Result<Response<v1::ReportSpaceResponse>, Status> {
        self.check(request.get_ref().envelope.as_ref())?;
        let Room { free, reserve, destination_limit } = self.space.own().room();
        let wall_clock_ms = UnixMillis::now().0;
        Ok(Response::new(v1::ReportSpaceResponse { free, reserve, destination_limit, wall_clock_ms }))
    }

    async fn report_holdings(
        &self,
        request: Request<v1::ReportHoldingsRequest>,
    ) -> Result<Response<v1::ReportHoldingsResponse>, Status> {
        let request = request.into_inner();
        self.check(request.envelope.as_ref())?;
        Ok(Response::new(holdings::report(&self.live, self.blobs.get(), &self.nodes, &request).await))
    }
}

/// Refuses what is not meant for this node, and whoever was removed from the cluster, or is removed itself.
fn check(identity: &Identity, live: &LiveState, envelope: Option<&v1::Envelope>) -> Result<(), Status> {
    identity.check(envelope)?;
    let inner = live.lock();
    if inner.removed {
        let message = format!("node {} was removed from the cluster", identity.configured_id());
        return Err(Status::failed_precondition(message));
    }
    match envelope.filter(|envelope| inner.cluster.retired().contains(&envelope.sender)) {
        Some(envelope) => {
            let notice = removal_notice(identity, envelope.sender);
            let message = "the sender was removed from the cluster";
            Err(Status::with_details(Code::PermissionDenied, message, notice))
        }
        None => Ok(()),
    }
}

impl PeerService {
    fn check(&self, envelope: Option<&v1::Envelope>) -> Result<(), Status> {
        check(&self.identity, &self.live, envelope)
    }

    fn check_name(&self, cluster: &str) -> Result<(), Status> {
        if cluster == self.identity.name() {
            return Ok(());
        }
        let message = format!("node {} belongs to the cluster {}", self.identity.configured_id(), self.identity.name());
        Err(Status::failed_precondition(message))
    }
}
