//! What consensus says, as messages between nodes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::alias::{EntryOf, LogIdOf, SnapshotMetaOf, StoredMembershipOf, VoteOf};
use openraft::entry::{EntryPayload, RaftEntry};
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use openraft::storage::SnapshotMeta;
use openraft::vote::{RaftLeaderId, RaftVote};
use openraft::{LogId, Membership, StoredMembership};
use seawall_proto::v1;

use super::types::{Member, Membership as RaftMembership, Payload, Request, TypeConfig};

type LeaderId = <TypeConfig as openraft::RaftTypeConfig>::LeaderId;

/// A message that says nothing consensus could mean.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a peer's message is damaged: {0}")]
pub struct WireError(pub(super) &'static str);

pub(super) fn log_id(id: &LogIdOf<TypeConfig>) -> v1::LogId {
    let leader = id.committed_leader_id();
    v1::LogId { term: leader.term, node_id: leader.node_id, index: id.index() }
}

pub(super) fn read_log_id(id: &v1::LogId) -> LogIdOf<TypeConfig> {
    LogId::new(LeaderId::new(id.term, id.node_id).to_committed(), id.index)
}

pub(super) fn vote(vote: &VoteOf<TypeConfig>) -> v1::Vote {
    let leader = vote.leader_id();
    v1::Vote { term: leader.term, node_id: leader.node_id, committed: vote.is_committed() }
}

pub(super) fn read_vote(vote: Option<&v1::Vote>) -> Result<VoteOf<TypeConfig>, WireError> {
    let vote = vote.ok_or(WireError("it carries no vote"))?;
    Ok(VoteOf::<TypeConfig>::from_leader_id(LeaderId::new(vote.term, vote.node_id), vote.committed))
}

pub(super) fn membership(membership: &RaftMembership) -> v1::MembershipEntry {
    let configs = membership.get_joint_config().iter();
    v1::MembershipEntry {
        configs: configs.map(|set| v1::VoterSet { raft_ids: set.iter().copied().collect() }).collect(),
        members: membership
            .nodes()
            .map(|(raft_id, node)| v1::Member {
                raft_id: *raft_id,
                configured_id: node.configured_id,
                address: node.address.clone(),
            })
            .collect(),
    }
}

pub(super) fn read_membership(entry: &v1::MembershipEntry) -> Result<RaftMembership, WireError> {
    let configs: Vec<BTreeSet<u64>> = entry.configs.iter().map(|set| set.raft_ids.iter().copied().collect()).collect();
    let nodes: BTreeMap<u64, Member> = entry
        .members
        .iter()
        .map(|member| (member.raft_id, Member { configured_id: member.configured_id, address: member.address.clone() }))
        .collect();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(RaftMembership::default());
    }
    Membership::new(configs, nodes).map_err(|_| WireError("its membership makes no sense"))
}

pub(super) fn snapshot_meta(meta: &SnapshotMetaOf<TypeConfig>) -> v1::SnapshotMeta {
    v1::SnapshotMeta {
        last_log_id: meta.last_log_id.as_ref().map(log_id),
        membership_log_id: meta.last_membership.log_id().as_ref().map(log_id),
        membership: Some(membership(meta.last_membership.membership())),
    }
}

pub(super) fn read_snapshot_meta(meta: &v1::SnapshotMeta) -> Result<SnapshotMetaOf<TypeConfig>, WireError> {
    let membership = meta.membership.as_ref().ok_or(WireError("its snapshot has no membership"))?;
    let last_membership: StoredMembershipOf<TypeConfig> =
        StoredMembership::new(meta.membership_log_id.as_ref().map(read_log_id), read_membership(membership)?);
    Ok(SnapshotMeta { last_log_id: meta.last_log_id.as_ref().map(read_log_id), last_membership })
}

pub(super) fn entry(entry: EntryOf<TypeConfig>) -> Result<v1::PeerEntry, WireError> {
    let id = Some(log_id(&entry.log_id()));
    let (entry, payload) = match entry.payload {
        EntryPayload::Blank => (None, Bytes::new()),
        EntryPayload::Normal(request) => {
            let payload = match request.payload {
                Payload::Empty => Bytes::new(),
                Payload::Bytes(bytes) => bytes,
                Payload::Elsewhere { .. } => return Err(WireError("the payload was left in the log file")),
            };
            (Some(v1::peer_entry::Entry::Command(request.command)), payload)
        }
        EntryPayload::Membership(members) => {
            (Some(v1::peer_entry::Entry::Membership(membership(&members))), Bytes::new())
        }
    };
    Ok(v1::PeerEntry { log_id: id, entry, payload })
}

pub(super) fn read_entry(entry: v1::PeerEntry) -> Result<EntryOf<TypeConfig>, WireError> {
    let id = read_log_id(entry.log_id.as_ref().ok_or(WireError("an entry has no log id"))?);
    Ok(match entry.entry {
        None => EntryOf::<TypeConfig>::new(id, EntryPayload::Blank),
        Some(v1::peer_entry::Entry::Command(command)) => {
            let payload = if entry.payload.is_empty() { Payload::Empty } else { Payload::Bytes(entry.payload) };
            EntryOf::<TypeConfig>::new(id, EntryPayload::Normal(Request { command, payload }))
        }
        Some(v1::peer_entry::Entry::Membership(members)) => {
            EntryOf::<TypeConfig>::new(id, EntryPayload::Membership(read_membership(&members)?))
        }
    })
}

pub(super) fn append_request(
    request: AppendEntriesRequest<TypeConfig>,
    envelope: v1::Envelope,
) -> Result<v1::PeerAppendRequest, WireError> {
    Ok(v1::PeerAppendRequest {
        envelope: Some(envelope),
        vote: Some(vote(&request.vote)),
        previous: request.prev_log_id.as_ref().map(log_id),
        entries: request.entries.into_iter().map(entry).collect::<Result<_, _>>()?,
        leader_commit: request.leader_commit.as_ref().map(log_id),
    })
}

/// Entries whose ids do not follow one another are refused here: consensus takes their order for granted.
pub(super) fn read_append_request(
    request: v1::PeerAppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, WireError> {
    let prev_log_id = request.previous.as_ref().map(read_log_id);
    let entries = request.entries.into_iter().map(read_entry).collect::<Result<Vec<_>, _>>()?;
    let mut next = prev_log_id.as_ref().map_or(0, |id| id.index().saturating_add(1));
    for entry in &entries {
        if entry.index() != next {
            return Err(WireError("its entries do not follow one another"));
        }
        next = next.saturating_add(1);
    }
    Ok(AppendEntriesRequest {
        vote: read_vote(request.vote.as_ref())?,
        prev_log_id,
        entries,
        leader_commit: request.leader_commit.as_ref().map(read_log_id),
    })
}

pub(super) fn append_response(result: &StreamAppendResult<TypeConfig>) -> v1::PeerAppendResponse {
    use v1::peer_append_response::{Matched, Outcome};
    let outcome = match result {
        Ok(matched) => Outcome::Matched(Matched { log_id: matched.as_ref().map(log_id) }),
        Err(StreamAppendError::Conflict(id)) => Outcome::Conflict(log_id(id)),
        Err(StreamAppendError::HigherVote(higher)) => Outcome::HigherVote(vote(higher)),
    };
    v1::PeerAppendResponse { outcome: Some(outcome) }
}

pub(super) fn read_append_response(
    response: v1::PeerAppendResponse,
) -> Result<StreamAppendResult<TypeConfig>, WireError> {
    use v1::peer_append_response::Outcome;
    Ok(match response.outcome.ok_or(WireError("an answer says nothing"))? {
        Outcome::Matched(matched) => Ok(matched.log_id.as_ref().map(read_log_id)),
        Outcome::Conflict(id) => Err(StreamAppendError::Conflict(read_log_id(&id))),
        Outcome::HigherVote(higher) => Err(StreamAppendError::HigherVote(read_vote(Some(&higher))?)),
    })
}
