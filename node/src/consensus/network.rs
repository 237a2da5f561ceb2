//! Consensus' way to the other nodes.
//!
//! Each peer has three connections: votes and heartbeats, replication, snapshots; so that a full one never delays a
//! heartbeat. Every request says whom it is from and for.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, Either, select};
use futures::stream::{self, BoxStream};
use futures::{FutureExt, Stream, StreamExt};
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{RaftNetworkFactory, RaftNetworkV2};
use seawall_host::net::{Address, Channel, ChannelOptions};
use seawall_host::time::{self, Instant};
use seawall_proto::v1::peer_client::PeerClient;
use seawall_proto::{MAX_MESSAGE_BYTES, v1};
use tonic::{Code, Status};

use super::identity::Identity;
use super::lent_stream::{Lease, lend};
use super::refusals::Refusals;
use super::types::{Member, TypeConfig};
use super::wire;
use crate::store::log::LogFile;

/// A replication stream on which answers are due and none comes for this many times the budget of one is given up.
/// A slow fsync takes longer than one budget.
const IDLE_BUDGETS: u32 = 6;
/// Bytes of a snapshot's manifest in one message.
const SNAPSHOT_PART: usize = 256 << 10;

/// A client of a node's peer service.
pub(super) type Peer = PeerClient<Channel>;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// Votes, heartbeats, questions: never behind bulk data.
    Control,
    /// Log entries.
    Replication,
    /// Manifests and blobs.
    Snapshot,
}

/// Connections to the other nodes. Clones share them.
#[derive(Clone)]
pub(super) struct Network {
    identity: Arc<Identity>,
    log: LogFile,
    channels: Arc<Mutex<BTreeMap<(String, Purpose), Channel>>>,
    refusals: Arc<Refusals>,
}

impl Network {
    /// From the node with this identity and this log.
    pub(super) fn new(identity: Arc<Identity>, log: LogFile) -> Self {
        Self { identity, log, channels: Arc::default(), refusals: Arc::default() }
    }

    /// A client of the node at `address`.
    pub(super) fn peer(&self, address: &str, purpose: Purpose) -> Peer {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = channels
            .entry((address.to_owned(), purpose))
            .or_insert_with(|| Channel::new(&Address::Tcp(address.to_owned()), ChannelOptions::default()));
        PeerClient::new(channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn client(&self, target: u64, node: &Member, purpose: Purpose) -> Client {
        Client {
            identity: self.identity.clone(),
            log: self.log.clone(),
            target,
            control: self.peer(&node.address, Purpose::Control),
            bulk: self.peer(&node.address, purpose),
            refusals: self.refusals.clone(),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &Member) -> Client {
        self.client(target, node, Purpose::Replication)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> Client {
        self.client(target, node, Purpose::Control)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Member) -> Client {
        self.client(target, node, Purpose::Snapshot)
    }
}

/// What a target says to one append.
type AppendAnswer = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// Consensus' connection to one other node.
pub(super) struct Client {
    identity: Arc<Identity>,
    log: LogFile,
    target: u64,
    control: Peer,
    bulk: Peer,
    refusals: Arc<Refusals>,
}

impl Client {
    /// One question, one answer, within the budget that consensus gives.
    async fn ask<T>(
        &self,
        action: RPCTypes,
        budget: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, Status>> + Send,
    ) -> Result<T, RPCError<TypeConfig>> {
        match time::timeout(budget, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.failed(&status)),
            Err(_elapsed) => Err(self.timed_out(action, budget)),
        }
    }

    fn failed(&self, status: &Status) -> RPCError<TypeConfig> {
        if status.code() == Code::FailedPrecondition
            && self.refusals.is_news(self.target, status.message(), Instant::now())
        {
            tracing::warn!(cause = status.message(), "a node refused");
        }
        failed(status)
    }

    fn timed_out(&self, action: RPCTypes, timeout: Duration) -> RPCError<TypeConfig> {
        RPCError::Timeout(Timeout { action, id: self.identity.raft_id(), target: self.target, timeout })
    }

    /// Sends requests of one stream and gives the answers.
    fn send_appends<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, AppendAnswer>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        async move {
            // openraft backs off inside this stream, so it is asked first: a target that refuses connections would
            // otherwise be tried again at once, for ever.
            let mut input = input;
            let Some(first) = input.next().await else {
                return Ok(stream::empty().boxed());
            };
            // Whoever sends may keep what it sends longer than this call lasts; and openraft's streams to one target share
            // what they have sent so far.
            let (input, lease) = lend(stream::iter([first]).chain(input));
            let sent = Arc::new(AtomicU64::new(0));
            let (counter, identity, target) = (sent.clone(), self.identity.clone(), self.target);
            let requests = input
                .map(move |request| {
                    counter.fetch_add(1, Ordering::AcqRel);
                    wire::append_request(request, identity.envelope(target))
                })
                .take_while(|request| {
                    if let Err(error) = request {
                        tracing::error!(%error, "cannot replicate");
                    }
                    futures::future::ready(request.is_ok())
                })
                .filter_map(|request| futures::future::ready(request.ok()));
            let mut peer = self.bulk.clone();
            let answers = self.ask(RPCTypes::AppendEntries, option.soft_ttl(), peer.append(requests)).await?;
            let idle = option.soft_ttl() * IDLE_BUDGETS;
            let state = Answers { client: self, answers, sent, received: 0, idle, ended: false, _lease: lease };
            Ok(stream::unfold(state, |mut state| async move { state.next().await.map(|answer| (answer, state)) })
                .boxed())
        }
        .boxed()
    }

    async fn ask_vote(
        &self,
        request: VoteRequest<TypeConfig>,
        pre_vote: bool,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let message = v1::VoteRequest {
            envelope: Some(self.identity.envelope(self.target)),
            vote: Some(wire::vote(&request.vote)),
            last_log_id: request.last_log_id.as_ref().map(wire::log_id),
            leadership_transfer: request.leadership_transfer,
            pre_vote,
        };
        let mut peer = self.control.clone();
        let answer = self.ask(RPCTypes::Vote, option.soft_ttl(), peer.vote(message)).await?;
        let vote = wire::read_vote(answer.vote.as_ref()).map_err(damaged)?;
        Ok(VoteResponse {
            vote,
            vote_granted: answer.granted,
            last_log_id: answer.last_log_id.as_ref().map(wire::read_log_id),
        })
    }
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let last = request.entries.last().map(openraft::entry::RaftEntry::log_id).or(request.prev_log_id);
        let mut answers = self.send_appends(stream::iter([request]), option).await?;
        let answer = answers.next().await.unwrap_or_else(|| Err(failed(&Status::unavailable("no answer came"))))?;
        Ok(match answer {
            Ok(matched) if matched < last => AppendEntriesResponse::PartialSuccess(matched),
            other => other.into(),
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, AppendAnswer>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        let log = self.log.clone();
        let mut was_purged = false;
        // openraft takes up another payload only between two streams. One whose entries were purged under it, because a
        // snapshot goes to the target instead, has nothing to say any more, and would say it for ever.
        let live = input.take_while(move |request| {
            let purged = log.state().purged.map(|id| id.index);
            let is_purged = request.entries.is_empty() && request.prev_log_id.map(|id| id.index) < purged;
            let ends = is_purged && was_purged;
            was_purged = is_purged;
            futures::future::ready(!ends)
        });
        self.send_appends(live, option)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(request, false, option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(request, true, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, Bytes>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let header = v1::SnapshotHeader {
            envelope: Some(self.identity.envelope(self.target)),
            vote: Some(wire::vote(&vote)),
            meta: Some(wire::snapshot_meta(&snapshot.meta)),
            length: snapshot.snapshot.len() as u64,
            checksum: crc32c::crc32c(&snapshot.snapshot),
        };
        let first = v1::SnapshotPart { header: Some(header), data: Bytes::new() };
        let bytes = snapshot.snapshot;
        let rest = (0..bytes.len().div_ceil(SNAPSHOT_PART)).map(move |number| {
            let start = number * SNAPSHOT_PART;
            let data = bytes.slice(start..bytes.len().min(start + SNAPSHOT_PART));
            v1::SnapshotPart { header: None, data }
        });
        let parts = stream::iter(std::iter::once(first).chain(rest));
        let mut peer = self.bulk.clone();
        let sending = pin!(self.ask(RPCTypes::InstallSnapshot, option.soft_ttl(), peer.install_snapshot(parts)));
        match select(sending, pin!(cancel)).await {
            Either::Left((answer, _)) => {
                let vote = wire::read_vote(answer?.vote.as_ref()).map_err(damaged)?;
                Ok(SnapshotResponse::new(vote))
            }
            Either::Right((closed, _)) => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let message = v1::TransferLeaderRequest {
            envelope: Some(self.identity.envelope(self.target)),
            from: Some(wire::vote(request.from_leader())),
            last_log_id: request.last_log_id().map(wire::log_id),
        };
        let mut peer = self.control.clone();
        let answer = self.ask(RPCTypes::TransferLeader, option.soft_ttl(), peer.transfer_leader(message)).await?;
        if answer.refused.is_empty() { Ok(Ok(())) } else { Err(failed(&Status::aborted(answer.refused))) }
    }
}

/// The answers of a replication stream.
struct Answers<'s, S> {
    client: &'s Client,
    answers: tonic::Streaming<v1::PeerAppendResponse>,
    sent: Arc<AtomicU64>,
    received: u64,
    idle: Duration,
    ended: bool,
    /// Of what is sent: nothing more is once nobody waits for answers.
    _lease: Lease<S>,
}

impl<S> Answers<'_, S> {
    async fn next(&mut self) -> Option<AppendAnswer> {
        if self.ended {
            return None;
        }
        let answer = loop {
            // Nothing may be due while the leader has nothing to say: that is no silence.
            let due = self.sent.load(Ordering::Acquire) > self.received;
            match time::timeout(self.idle, self.answers.message()).await {
                Ok(Ok(None)) => return None,
                Ok(Ok(Some(answer))) => break wire::read_append_response(answer).map_err(damaged),
                Ok(Err(status)) => break Err(self.client.failed(&status)),
                Err(_elapsed) if due => break Err(self.client.timed_out(RPCTypes::AppendEntries, self.idle)),
                Err(_elapsed) => {}
            }
        };
        self.received += 1;
        self.ended = !matches!(answer, Ok(Ok(_)));
        Some(answer)
    }
}

fn failed(status: &Status) -> RPCError<TypeConfig> {
    match status.code() {
        Code::Unavailable | Code::FailedPrecondition | Code::Unknown => {
            RPCError::Unreachable(Unreachable::from_string(status.message()))
        }
        _ => RPCError::Network(NetworkError::from_string(status.message())),
    }
}

fn damaged(error: wire::WireError) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::from_string(error))
}
