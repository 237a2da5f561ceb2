//! What stands behind a [`Replica`](crate::replica::Replica).

use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::{ReadPolicy, ServerState};
use seawall_host::probe::{mutant, sometimes};
use seawall_host::time::{self, UnixMillis};
use seawall_proto::checksum::Checksum;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, Txid};
use seawall_proto::v1;

use super::blobs::{self, Blobs, Giver, Need};
use super::clocks::{ClockBoard, OwnClocks};
use super::identity::Identity;
use super::live_state::{Inner, LiveState};
use super::network::{Network, Purpose};
use super::payloads::Payloads;
use super::proposer::Proposer;
use super::space::{ClusterSpace, SpaceBoard, voter_ids};
use super::types::Member;
use super::{ConfiguredNode, Raft, holdings};
use crate::replica::{Applied, ClusterView, DatabaseView, Leadership, MemberView, ProposeError, Role, SegmentRecord};
use crate::store::log::LogFilePin;

pub(crate) struct ReplicaCore {
    pub(super) raft: Raft,
    pub(super) live: Arc<LiveState>,
    pub(super) identity: Arc<Identity>,
    pub(super) network: Network,
    pub(super) payloads: Payloads,
    pub(super) blobs: Arc<OnceLock<Blobs>>,
    pub(super) space: Arc<SpaceBoard>,
    pub(super) clocks: Arc<ClockBoard>,
    pub(super) proposer: Proposer,
    pub(super) nodes: Vec<ConfiguredNode>,
}

impl ReplicaCore {
    pub(crate) fn databases(&self) -> Vec<DatabaseName> {
        self.live.lock().cluster.databases().keys().cloned().collect()
    }

    pub(crate) fn database(&self, name: &DatabaseName) -> Option<DatabaseView> {
        let inner = self.live.lock();
        inner.cluster.databases().get(name).map(|database| DatabaseView {
            head: database.head.clone(),
            epoch: database.epoch,
            agent_id: database.agent_id,
            agent_label: database.agent_label.clone(),
            claimed_at: database.claimed_at,
            destinations: database.destinations.clone(),
            verifications: database.verifications.clone(),
        })
    }

    pub(crate) fn open_stream(&self, name: &DatabaseName) -> Option<u64> {
        let inner = self.live.lock();
        Some(inner.cluster.databases().get(name)?.open.as_ref()?.stream)
    }

    pub(crate) fn open_parts(&self, name: &DatabaseName) -> usize {
        let inner = self.live.lock();
        let database = inner.cluster.databases().get(name);
        database.and_then(|database| database.open.as_ref()).map_or(0, |open| open.entries.len())
    }

    pub(crate) async fn changed(&self, seen: u64) -> u64 {
        self.live.changed(seen).await
    }

    pub(crate) fn segments(
        &self,
        name: &DatabaseName,
        lineage: Lineage,
        after: Txid,
        limit: usize,
    ) -> Vec<SegmentRecord> {
        self.live.positions.segments(name, lineage, after, limit)
    }

    /// As [`Replica::sync_committed`](crate::replica::Replica::sync_committed).
    pub(crate) async fn sync_committed(&self, index: u64) -> io::Result<()> {
        self.live.log.sync_committed(index).await
    }

    pub(crate) async fn segment_bytes(&self, record: &SegmentRecord) -> io::Result<Option<Vec<Bytes>>> {
        let mut parts = Vec::with_capacity(record.entries.len());
        for &index in &record.entries {
            match self.payloads.get(index).await? {
                Some(part) => parts.push(part),
                None => return Ok(None),
            }
        }
        Ok(Some(parts))
    }

    pub(crate) fn held_after(&self, name: &DatabaseName, lineage: Lineage) -> Txid {
        holdings::held_after(&self.live, name, lineage)
    }

    pub(crate) async fn pull_image(&self, need: Need) -> io::Result<()> {
        let blobs = self.blobs.get().ok_or_else(|| io::Error::other("this node is only starting"))?;
        let mut givers = {
            let inner = self.live.lock();
            // The leader has most to do.
            let members = inner.membership.membership();
            Giver::all(members.nodes(), &self.identity, &self.network, inner.standing.leader)
        };
        let accept = |offered: &v1::Head| {
            let own = self.checksum_at(&need.database, need.lineage, Txid(offered.txid));
            if own.is_none_or(|own| own.0 == offered.checksum) {
                return Ok(());
            }
            Err(format!("its image at txid {} is another than the cluster agreed on", offered.txid))
        };
        blobs::pull_image(&need, &mut givers, blobs, accept).await
    }

    /// The checksum that the cluster agreed on for a state, if a segment ends there.
    pub(crate) fn checksum_at(&self, name: &DatabaseName, lineage: Lineage, txid: Txid) -> Option<Checksum> {
        let head = self.database(name)?.head;
        if (head.lineage, head.txid) == (lineage.0, txid.0) {
            return Some(Checksum(head.checksum));
        }
        let record = self.live.positions.segments(name, lineage, Txid(txid.0.saturating_sub(1)), 1);
        record.first().filter(|record| record.last == txid).map(|record| record.checksum_after)
    }

    pub(crate) fn propose(
        &self,
        command: v1::Command,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Applied, ProposeError>> {
        self.proposer.propose(command, payload)
    }

    pub(crate) async fn read_index(&self, limit: Duration) -> Result<u64, ProposeError> {
        if mutant("read-index-without-leader") {
            return Ok(self.live.lock().last_applied.map_or(0, |id| id.index));
        }
        let deadline = time::Instant::now() + limit;
        let asked = time::timeout_at(deadline, own_read_index(&self.raft)).await;
        match asked.unwrap_or_else(|elapsed| Err(ProposeError::Unknown(elapsed.to_string()))) {
            Err(ProposeError::NotLeader { leader_address: Some(_) }) => {}
            answer => return answer,
        }
        let Some((raft_id, member)) = leader(&self.live.lock()) else {
            return Err(ProposeError::NotLeader { leader_address: None });
        };
        if raft_id == self.identity.raft_id() {
            return Err(ProposeError::Unknown("leadership just changed".to_owned()));
        }
        let timeout_ms = u32::try_from((deadline - time::Instant::now()).as_millis()).unwrap_or(u32::MAX);
        let request = v1::ReadIndexRequest { envelope: Some(self.identity.envelope(raft_id)), timeout_ms };
        let mut peer = self.network.peer(&member.address, Purpose::Control);
        let answer = time::timeout_at(deadline, peer.read_index(request)).await;
        let answer = answer
            .map_err(|elapsed| ProposeError::Unknown(elapsed.to_string()))?
            .map_err(|status| ProposeError::Unknown(format!("{member}: {}", status.message())))?;
        match answer.into_inner().outcome {
            Some(v1::read_index_response::Outcome::Index(index)) => {
                sometimes("read index had from the leader by another node");
                Ok(index)
            }
            Some(v1::read_index_response::Outcome::NotLeader(other)) => {
                let address = Some(other.leader_address).filter(|address| !address.is_empty());
                Err(ProposeError::NotLeader { leader_address: address })
            }
            Some(v1::read_index_response::Outcome::Failed(cause)) => Err(ProposeError::Unknown(cause)),
            None => Err(ProposeError::Unknown(format!("{member} answered nothing"))),
        }
    }

    pub(crate) async fn wait_applied(&self, index: u64, limit: Duration) -> bool {
        self.live.wait(limit, |inner| inner.last_applied.map_or(0, |id| id.index) >= index).await
    }

    pub(crate) fn leadership(&self) -> Leadership {
        let inner = self.live.lock();
        let own = self.identity.raft_id();
        // Its own first entry is applied: so is everything that older leaders committed.
        let caught_up = inner.last_applied.is_some_and(|id| {
            let leader = id.committed_leader_id();
            leader.term == inner.standing.term && leader.node_id == own
        });
        Leadership {
            term: inner.standing.term,
            is_leader: inner.standing.role == ServerState::Leader && inner.standing.leader == Some(own) && caught_up,
            leader_address: leader(&inner).map(|(_, member)| member.address),
        }
    }

    pub(crate) fn cluster(&self) -> ClusterView {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let inner = self.live.lock();
        let own = self.identity.raft_id();
        let mut members: Vec<MemberView> = inner
            .membership
            .nodes()
            .map(|(raft_id, member)| MemberView {
                id: member.configured_id,
                address: member.address.clone(),
                raft_id: *raft_id,
                is_voter: inner.membership.voter_ids().any(|id| id == *raft_id),
                is_self: *raft_id == own,
                is_leader: inner.standing.leader == Some(*raft_id),
                matched: metrics
                    .replication
                    .as_ref()
                    .and_then(|all| all.get(raft_id))
                    .map(|id| id.map_or(0, |id| id.index)),
                last_answer: metrics
                    .heartbeat
                    .as_ref()
                    .and_then(|all| all.get(raft_id))
                    .and_then(|at| at.as_ref().map(|at| openraft::Instant::elapsed(&**at))),
            })
            .collect();
        if members.is_empty() {
            let listed = self.nodes.iter().map(|node| MemberView {
                id: node.id,
                address: node.address.clone(),
                raft_id: if node.id == self.identity.configured_id() { own } else { 0 },
                is_voter: false,
                is_self: node.id == self.identity.configured_id(),
                is_leader: false,
                matched: None,
                last_answer: None,
            });
            members.extend(listed);
        }
        members.sort_by_key(|member| member.id);
        ClusterView {
            name: self.identity.name().to_owned(),
            id: self.identity.configured_id(),
            role: match inner.standing.role {
                ServerState::Leader => Role::Leader,
                ServerState::Follower => Role::Follower,
                ServerState::Candidate => Role::Candidate,
                ServerState::Learner | ServerState::Shutdown => Role::Learner,
            },
            term: inner.standing.term,
            applied: inner.last_applied.map_or(0, |id| id.index),
            leader: leader(&inner).map(|(_, member)| member.configured_id),
            members,
            // What was in the way before this node became a member no longer is.
            problem: inner.problem.clone().filter(|_| inner.removed || inner.membership.get_node(&own).is_none()),
        }
    }

    /// As [`Replica::space`](crate::replica::Replica::space).
    pub(crate) fn space(&self) -> ClusterSpace {
        self.space.known()
    }

    /// As [`Replica::cluster_time`](crate::replica::Replica::cluster_time).
    pub(crate) fn cluster_time(&self) -> Option<UnixMillis> {
        let own = OwnClocks::of(self.identity.raft_id());
        self.clocks.cluster_time(voter_ids(&self.live).into_iter(), own)
    }

    pub(crate) fn pin(self: &Arc<Self>, name: &DatabaseName, reason: &'static str, from: Txid) -> PinCore {
        // Pinned low first: what is looked up must not go meanwhile.
        let pin = self.live.log.pin(0, reason);
        pin.advance(self.first_needed(name, from).1);
        PinCore { core: self.clone(), name: name.clone(), pin: Mutex::new(pin) }
    }

    /// The first entry of the log that holds `from` or anything after it of a database, and in which lineage: the newest.
    fn first_needed(&self, name: &DatabaseName, from: Txid) -> (Lineage, u64) {
        let (lineage, open, next) = {
            let inner = self.live.lock();
            let database = inner.cluster.databases().get(name);
            let open =
                database.and_then(|database| database.open.as_ref()).and_then(|open| open.entries.first().copied());
            let next = inner.last_applied.map_or(0, |id| id.index + 1);
            (database.map_or(1, |database| database.head.lineage), open, next)
        };
        let covering = self.live.positions.segments(name, Lineage(lineage), Txid(from.0.saturating_sub(1)), 1);
        // Whoever has everything before it needs a transaction in parts from its first part on.
        let open = open.filter(|_| !mutant("open-transaction-not-pinned"));
        let index = covering.first().and_then(|record| record.entries.first().copied()).or(open).unwrap_or(next);
        (Lineage(lineage), index)
    }
}

pub(crate) struct PinCore {
    core: Arc<ReplicaCore>,
    name: DatabaseName,
    pin: Mutex<LogFilePin>,
}

impl PinCore {
    pub(crate) fn advance(&self, from: Txid) {
        let (_, index) = self.core.first_needed(&self.name, from);
        self.pin.lock().unwrap_or_else(PoisonError::into_inner).advance(index);
    }

    pub(crate) fn advance_within(&self, lineage: Lineage, from: Txid) {
        let (newest, index) = self.core.first_needed(&self.name, from);
        if newest == lineage {
            self.pin.lock().unwrap_or_else(PoisonError::into_inner).advance(index);
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        let from = self.pin.lock().unwrap_or_else(PoisonError::into_inner).from();
        self.core.live.log.bytes_from(from)
    }
}

/// The leader as far as is known: its Raft id and what the membership says of it.
pub(super) fn leader(inner: &Inner) -> Option<(u64, Member)> {
    let raft_id = inner.standing.leader?;
    inner.membership.membership().get_node(&raft_id).map(|member| (raft_id, member.clone()))
}

/// A read index, if this node leads.
pub(super) async fn own_read_index(raft: &Raft) -> Result<u64, ProposeError> {
    match raft.get_read_log_id(ReadPolicy::ReadIndex).await {
        Ok((read, _applied)) => Ok(read.index()),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(leader))) => {
            Err(ProposeError::NotLeader { leader_address: leader.leader_node.map(|node| node.address) })
        }
        Err(error) => Err(ProposeError::Unknown(error.to_string())),
    }
}
