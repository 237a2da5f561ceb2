//! What decisions about the membership rest on, and carrying them out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::ClientWriteResponse;
use openraft::{ChangeMembers, Precondition};
use seawall_host::task::JoinHandle;
use seawall_host::{task, time};
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, Txid};
use seawall_proto::v1;
use tonic::Code;

use super::network::Purpose;
use super::replica::{ReplicaCore, own_read_index};
use super::types::{self, RaftLogId, TypeConfig};
use super::{hand_over, holdings};
use crate::membership::{Held, Listed, Member, Newcomer, Step};
use crate::replica::ProposeError;

/// How long a node that is to be added may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// What an answer may take beyond the time that it may wait.
const ANSWER_MARGIN: Duration = Duration::from_secs(1);
/// How long a change may take to be agreed on, before whoever asks is told that it goes on.
const AGREE_LIMIT: Duration = Duration::from_secs(10);

/// The membership, as the leader read it.
#[derive(Clone, Debug)]
pub struct KnownMembership {
    /// The log's index that everything applied by then is up to.
    pub log_index: u64,
    /// The Raft id of the leader: this node.
    pub leader: u64,
    /// Every member, by configured id.
    pub members: Vec<Member>,
    /// The Raft ids of those that vote.
    pub voters: BTreeSet<u64>,
    /// Who is to vote instead, while that is being changed.
    pub incoming: Option<BTreeSet<u64>>,
    /// The entry that says so: a step is taken only while it is the newest.
    said_by: Option<RaftLogId>,
}

/// What a member says that it holds.
#[derive(Clone, Debug, Default)]
pub struct Holdings {
    /// The last entry that is applied there.
    pub applied: u64,
    /// Of each database, if that was asked for.
    pub databases: BTreeMap<DatabaseName, Held>,
    /// The nodes that its configuration lists.
    pub listed: Vec<Listed>,
}

/// Why a step was not taken, or not knowingly.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StepError {
    /// Another node leads.
    #[error("this node is not the leader")]
    NotLeader {
        /// Where the leader is, if known.
        leader_address: Option<String>,
    },
    /// Look again in a moment; why, in words.
    #[error("{0}")]
    Later(String),
}

impl ReplicaCore {
    /// As [`Replica::membership`](crate::replica::Replica::membership).
    pub(crate) async fn membership(&self, limit: Duration) -> Result<KnownMembership, ProposeError> {
        let asked = time::timeout(limit, own_read_index(&self.raft)).await;
        let log_index = asked.unwrap_or_else(|elapsed| Err(ProposeError::Unknown(elapsed.to_string())))?;
        if !self.wait_applied(log_index, limit).await {
            return Err(ProposeError::Unknown(format!("log index {log_index} is not applied yet")));
        }
        let known = self.raft.metrics().borrow_watched().membership_config.clone();
        if known.log_id() != self.live.lock().membership.log_id() {
            // It may yet come to nothing: with another leader.
            return Err(ProposeError::Unknown("a change of the membership is not agreed on yet".to_owned()));
        }
        let members = known.nodes().map(|(raft_id, member)| view(*raft_id, member));
        let mut members: Vec<Member> = members.collect();
        members.sort_by_key(|member| member.id);
        let mut configs = known.membership().get_joint_config().iter().cloned();
        Ok(KnownMembership {
            log_index,
            leader: self.identity.raft_id(),
            members,
            voters: configs.next().unwrap_or_default(),
            incoming: configs.next(),
            said_by: *known.log_id(),
        })
    }

    /// As [`Replica::member_addresses`](crate::replica::Replica::member_addresses).
    pub(crate) fn member_addresses(&self) -> Vec<String> {
        let inner = self.live.lock();
        let mut members: Vec<_> = inner.membership.nodes().map(|(_, member)| member.clone()).collect();
        members.sort_by_key(|member| member.configured_id);
        members.into_iter().map(|member| member.address).collect()
    }

    /// As [`Replica::membership_index`](crate::replica::Replica::membership_index).
    pub(crate) fn membership_index(&self) -> u64 {
        self.live.lock().membership.log_id().map_or(0, |id| id.index)
    }

    /// As [`Replica::holdings`](crate::replica::Replica::holdings).
    pub(crate) async fn holdings(
        &self,
        member: &Member,
        applied: u64,
        databases: bool,
        limit: Duration,
    ) -> Result<Holdings, String> {
        let timeout_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        let envelope = Some(self.identity.envelope(member.raft_id));
        let mut request = v1::ReportHoldingsRequest { envelope, applied, timeout_ms, databases, after: String::new() };
        let mut held = Holdings::default();
        loop {
            let answer = if member.raft_id == self.identity.raft_id() {
                holdings::report(&self.live, self.blobs.get(), &self.nodes, &request).await
            } else {
                let mut peer = self.network.peer(&member.address, Purpose::Control);
                let answer = time::timeout(limit + ANSWER_MARGIN, peer.report_holdings(request.clone())).await;
                let answer = answer.map_err(|_elapsed| "no answer".to_owned())?;
                answer.map_err(|status| status.message().to_owned())?.into_inner()
            };
            held.applied = answer.applied;
            held.listed = answer.listed.into_iter().map(listed).collect();
            let last = answer.databases.last().map(|holding| holding.database.clone());
            for holding in answer.databases {
                let name = holding.database.parse::<DatabaseName>().map_err(|error| error.to_string())?;
                let (image, held_after) = (Txid(holding.image), Txid(holding.held_after));
                held.databases.insert(name, Held { lineage: Lineage(holding.lineage), image, held_after });
            }
            match last {
                // Each page goes on behind the last, or it would never end.
                Some(last) if answer.more && last > request.after => request.after = last,
                _ => return Ok(held),
            }
        }
    }

    /// As [`Replica::newcomer`](crate::replica::Replica::newcomer).
    pub(crate) async fn newcomer(&self, id: u64, address: &str) -> Newcomer {
        let answer = match self.identify(address).await {
            Ok(answer) => answer,
            Err(status) if status.code() == Code::FailedPrecondition => {
                return Newcomer::Answers { raft_id: 0, id, fit: Err(format!("{address}: {}", status.message())) };
            }
            Err(status) => return Newcomer::Silent(status.message().to_owned()),
        };
        let node = answer.configured_id;
        let own = self.identity.cluster().unwrap_or_default();
        let retired = self.live.lock().cluster.retired().contains(&answer.raft_id);
        let fit = if retired {
            Err(format!(
                "the data directory of node {node} was a member's that was removed, and is never let in again: \
                 start node {node} with an empty one"
            ))
        } else if !answer.cluster_uuid.is_empty() && answer.cluster_uuid[..] != own {
            Err(format!(
                "the data directory of node {node} belongs to another cluster. If it has begun one by itself, its \
                 node.yml does not list the nodes of this one: mend that, empty the directory, and start it again"
            ))
        } else {
            Ok(())
        };
        Newcomer::Answers { raft_id: answer.raft_id, id: node, fit }
    }

    async fn identify(&self, address: &str) -> Result<v1::IdentifyResponse, tonic::Status> {
        let mut peer = self.network.peer(address, Purpose::Control);
        let request = v1::IdentifyRequest { cluster: self.identity.name().to_owned() };
        let answer = time::timeout(ANSWER_LIMIT, peer.identify(request)).await;
        let answer = answer.map_err(|_elapsed| tonic::Status::deadline_exceeded("no answer"))?;
        answer.map(tonic::Response::into_inner)
    }

    /// As [`Replica::carry_out`](crate::replica::Replica::carry_out).
    pub(crate) async fn carry_out(&self, step: &Step, known: &KnownMembership) -> Result<(), StepError> {
        match step {
            Step::HandOver { to } => {
                if hand_over::to(&self.raft, &self.live, self.identity.raft_id(), *to).await {
                    return Ok(());
                }
                return Err(StepError::Later("the other node has not begun to lead yet".to_owned()));
            }
            Step::AddLearner(member) => self.adopt(member).await?,
            Step::ChangeVoters { .. } | Step::Settle | Step::RemoveLearner(_) => {}
        }
        let changes = match step {
            Step::AddLearner(new) => {
                let member = types::Member { configured_id: new.id, address: new.address.clone() };
                ChangeMembers::AddNodes(BTreeMap::from([(new.raft_id, member)]))
            }
            Step::ChangeVoters { add, remove } => ChangeMembers::Batch(vec![
                ChangeMembers::AddVoterIds(add.clone()),
                ChangeMembers::RemoveVoters(remove.clone()),
            ]),
            Step::RemoveLearner(raft_id) => ChangeMembers::RemoveNodes(BTreeSet::from([*raft_id])),
            // Any change ends one that was begun.
            Step::Settle | Step::HandOver { .. } => ChangeMembers::AddVoterIds(BTreeSet::new()),
        };
        let seen = Precondition::LastMembershipLogId { last_membership_log_id: known.said_by };
        tracing::info!(?step, "changing the membership");
        let raft = self.raft.clone();
        // A task of its own: the second half of a change of voters is its caller's, who may go away in the middle.
        let change = task::spawn(async move { raft.change_membership_if(changes, true, [seen]).await });
        agreed(change).await
    }

    /// Gives a node that is to be added the cluster's uuid, so that it listens to its members.
    async fn adopt(&self, new: &Member) -> Result<(), StepError> {
        let later = |status: tonic::Status| StepError::Later(format!("{new}: {}", status.message()));
        let own = self.identity.cluster().unwrap_or_default();
        // It may have been let in before, by a leader that did not get to the end of it.
        let answer = self.identify(&new.address).await.map_err(later)?;
        if answer.raft_id != new.raft_id {
            return Err(StepError::Later(format!("{new} has another data directory than it had just now")));
        }
        if answer.cluster_uuid[..] == own {
            return Ok(());
        }
        let request = v1::AdoptRequest {
            cluster: self.identity.name().to_owned(),
            cluster_uuid: own.to_vec().into(),
            target: new.raft_id,
        };
        let mut peer = self.network.peer(&new.address, Purpose::Control);
        let adopted = time::timeout(ANSWER_LIMIT, peer.adopt(request)).await;
        let adopted = adopted.map_err(|_elapsed| later(tonic::Status::deadline_exceeded("no answer")))?;
        adopted.map(|_answer| ()).map_err(later)
    }
}

type Changed = Result<ClientWriteResponse<TypeConfig>, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>;

async fn agreed(change: JoinHandle<Changed>) -> Result<(), StepError> {
    let Ok(outcome) = time::timeout(AGREE_LIMIT, change).await else {
        return Err(StepError::Later("the change is not agreed on yet".to_owned()));
    };
    match outcome.map_err(|error| StepError::Later(error.to_string()))? {
        Ok(_written) => Ok(()),
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(leader))) => match leader.leader_node {
            Some(leader) => Err(StepError::NotLeader { leader_address: Some(leader.address) }),
            None => Err(StepError::Later("the leader is not sure that it still leads".to_owned())),
        },
        Err(error) => Err(StepError::Later(error.to_string())),
    }
}

fn view(raft_id: u64, member: &types::Member) -> Member {
    Member { raft_id, id: member.configured_id, address: member.address.clone() }
}

fn listed(member: v1::Member) -> Listed {
    Listed { id: member.configured_id, address: member.address }
}
