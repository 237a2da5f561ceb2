//! A node's copy of what the cluster has agreed on: the applied state and the position log, to be looked at by the
//! image store, the fan-out, the services and the commands. Everything openraft stays behind it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use seawall_host::time::UnixMillis;
use seawall_proto::checksum::Checksum;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Epoch, Lineage, PageSize, Txid};
use seawall_proto::v1;

use crate::consensus::{ClusterSpace, Holdings, KnownMembership, Need, PinCore, ReplicaCore, StepError};
use crate::membership::{Member, Newcomer, Step};

/// One accepted segment in the position log: which transactions, with which checksums, and where their bytes lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentRecord {
    /// The history it belongs to.
    pub lineage: Lineage,
    /// The epoch it was accepted under.
    pub epoch: Epoch,
    /// Its first transaction.
    pub first: Txid,
    /// Its last transaction.
    pub last: Txid,
    /// The database's checksum before the first.
    pub checksum_before: Checksum,
    /// The database's checksum after the last.
    pub checksum_after: Checksum,
    /// Commit time of the last transaction, milliseconds since 1970.
    pub commit_time_ms: i64,
    /// Page size after the last.
    pub page_size: PageSize,
    /// Pages after the last.
    pub page_count: u32,
    /// Encoded bytes of the whole segment.
    pub bytes: u64,
    /// Indexes of the log entries that carry its parts, in order.
    pub entries: Vec<u64>,
}

/// A database as this node has applied it.
#[derive(Clone, Debug)]
pub struct DatabaseView {
    /// Newest committed state.
    pub head: v1::Head,
    /// The current epoch.
    pub epoch: Epoch,
    /// Who claimed it.
    pub agent_id: u64,
    /// Who claimed it, for people.
    pub agent_label: String,
    /// Index of the log entry that made the newest claim: appends behind it are of no older epoch.
    pub claimed_at: u64,
    /// Progress of each destination that ever reported any, by name.
    pub destinations: std::collections::BTreeMap<String, v1::DestinationProgress>,
    /// What the last verification of each destination found, by name.
    pub verifications: std::collections::BTreeMap<String, v1::VerificationResult>,
}

/// Who leads, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The current term.
    pub term: u64,
    /// Whether this node leads, and has applied everything older leaders committed.
    pub is_leader: bool,
    /// The leader's address, if one is known.
    pub leader_address: Option<String>,
}

/// Why a proposal was not (or not knowingly) accepted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProposeError {
    /// Another node leads.
    #[error("this node is not the leader")]
    NotLeader {
        /// Where the leader is, if known.
        leader_address: Option<String>,
    },
    /// It may or may not be committed later: read the head.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
}

/// What applying a command gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Applied {
    /// The claim was granted.
    Claimed {
        /// The new epoch.
        epoch: Epoch,
        /// The head it goes on from.
        head: v1::Head,
    },
    /// A part was taken in; the database's head after it (unchanged unless it was the last part).
    Appended {
        /// The newest committed state.
        head: v1::Head,
    },
    /// The append was refused.
    Refused {
        /// Why.
        reason: v1::append_response::Reason,
        /// In words.
        message: String,
        /// The newest committed state.
        head: v1::Head,
    },
    /// Nothing to answer.
    Done,
}

/// What a node does in consensus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It orders what is proposed.
    Leader,
    /// It follows a leader and votes.
    Follower,
    /// It has no vote, or is not yet a member.
    Learner,
    /// It stands for election.
    Candidate,
}

impl Role {
    /// As status and metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Learner => "learner",
            Self::Candidate => "candidate",
        }
    }
}

/// A member of the cluster, as this node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Its configured id.
    pub id: u64,
    /// Where the others reach it.
    pub address: String,
    /// The random id of its data directory; 0 if it is not known yet.
    pub raft_id: u64,
    /// Whether it votes.
    pub is_voter: bool,
    /// Whether it is this node.
    pub is_self: bool,
    /// Whether it leads.
    pub is_leader: bool,
    /// The log index that its log is known to agree to; the leader alone knows.
    pub matched: Option<u64>,
    /// How long ago it last answered a heartbeat; the leader alone knows.
    pub last_answer: Option<Duration>,
}

/// The cluster, as this node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterView {
    /// The cluster's configured name.
    pub name: String,
    /// The configured id of this node.
    pub id: u64,
    /// What this node does.
    pub role: Role,
    /// The current term.
    pub term: u64,
    /// The last log index that is applied here.
    pub applied: u64,
    /// The configured id of the leader, if one is known.
    pub leader: Option<u64>,
    /// Every member, by configured id; the configured nodes while the cluster has not begun.
    pub members: Vec<MemberView>,
    /// Why this node is not a working member, in words.
    pub problem: Option<String>,
}

/// A handle; clones share the replica.
#[derive(Clone)]
pub struct Replica {
    core: Arc<ReplicaCore>,
}

impl Replica {
    pub(crate) fn new(core: Arc<ReplicaCore>) -> Self {
        Self { core }
    }

    /// Every database known here, in the order of names.
    pub fn databases(&self) -> Vec<DatabaseName> {
        self.core.databases()
    }

    /// The state of one database.
    pub fn database(&self, name: &DatabaseName) -> Option<DatabaseView> {
        self.core.database(name)
    }

    /// Completes after the next change of the applied state or of leadership that comes after `seen`
    /// (a counter; start with 0); answers the new counter.
    pub async fn changed(&self, seen: u64) -> u64 {
        self.core.changed(seen).await
    }

    /// Position-log records of whole segments with `last > after`, ascending, at most `limit` of them.
    pub fn segments(&self, name: &DatabaseName, lineage: Lineage, after: Txid, limit: usize) -> Vec<SegmentRecord> {
        self.core.segments(name, lineage, after, limit)
    }

    /// The encoded bytes of a segment from this node's log file, one `Bytes` a part.
    /// `None` if the log file no longer has them.
    ///
    /// # Errors
    /// If the log file cannot be read, or is damaged there.
    pub async fn segment_bytes(&self, record: &SegmentRecord) -> io::Result<Option<Vec<Bytes>>> {
        self.core.segment_bytes(record).await
    }

    /// The state from which on this node's log file holds every segment of a database's current history: an image of
    /// it, or of a newer one, can be folded to the head.
    pub fn held_after(&self, name: &DatabaseName, lineage: Lineage) -> Txid {
        self.core.held_after(name, lineage)
    }

    /// The checksum that the cluster agreed on for a state, if a segment ends there and the position log still says so.
    pub fn checksum_at(&self, name: &DatabaseName, lineage: Lineage, txid: Txid) -> Option<Checksum> {
        self.core.checksum_at(name, lineage, txid)
    }

    /// Takes in another node's image, folded to `need` at least, in place of this node's.
    ///
    /// # Errors
    /// No other node has one and can be reached: why, for each of them; or the disk's.
    pub async fn pull_image(&self, need: Need) -> io::Result<()> {
        self.core.pull_image(need).await
    }

    /// Makes it durable here that the log is committed up to `index`, so that a restart applies so much before it hears
    /// of any other node.
    ///
    /// # Errors
    /// If the log file is closed.
    pub async fn sync_committed(&self, index: u64) -> io::Result<()> {
        self.core.sync_committed(index).await
    }

    /// Proposes a command (leader only). Commands proposed one after the other by one task are ordered so, by the
    /// calls, not by the awaits; the returned future resolves once applied here.
    pub fn propose(&self, command: v1::Command, payload: Bytes) -> BoxFuture<'static, Result<Applied, ProposeError>> {
        self.core.propose(command, payload)
    }

    /// A log index such that a node that has applied it sees everything acknowledged before this call (read index);
    /// asks the leader if this node is not it.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`] if no leader is known, [`ProposeError::Unknown`] if it gave no answer in time.
    pub async fn read_index(&self, timeout: Duration) -> Result<u64, ProposeError> {
        self.core.read_index(timeout).await
    }

    /// Waits until this node has applied the log up to `index`; false if `timeout` passed first.
    pub async fn wait_applied(&self, index: u64, timeout: Duration) -> bool {
        self.core.wait_applied(index, timeout).await
    }

    /// Who leads.
    pub fn leadership(&self) -> Leadership {
        self.core.leadership()
    }

    /// The cluster, its members and this node's place in it.
    pub fn cluster(&self) -> ClusterView {
        self.core.cluster()
    }

    /// The membership, read linearizably by the leader: this node.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`], [`ProposeError::Unknown`] if that took longer than `limit`.
    pub async fn membership(&self, limit: Duration) -> Result<KnownMembership, ProposeError> {
        self.core.membership(limit).await
    }

    /// Where the members are that this node knows of, by configured id.
    pub fn member_addresses(&self) -> Vec<String> {
        self.core.member_addresses()
    }

    /// The log index since which they are so.
    pub fn membership_index(&self) -> u64 {
        self.core.membership_index()
    }

    /// What a member holds, asked for when it has applied the log up to `applied`, or `limit` has passed; of databases only
    /// where that is asked for.
    ///
    /// # Errors
    /// Why it does not answer, in words.
    pub async fn holdings(
        &self,
        member: &Member,
        applied: u64,
        databases: bool,
        limit: Duration,
    ) -> Result<Holdings, String> {
        self.core.holdings(member, applied, databases, limit).await
    }

    /// Who answers at `address`, where node `id` is to be added.
    pub async fn newcomer(&self, id: u64, address: &str) -> Newcomer {
        self.core.newcomer(id, address).await
    }

    /// Takes a step (leader only), if the membership still is what was `known` when it was decided on.
    ///
    /// # Errors
    /// [`StepError`]; the step may have been taken even so.
    pub async fn carry_out(&self, step: &Step, known: &KnownMembership) -> Result<(), StepError> {
        self.core.carry_out(step, known).await
    }

    /// How many parts are there of a transaction of `name` that is not complete yet.
    pub fn open_parts(&self, name: &DatabaseName) -> usize {
        self.core.open_parts(name)
    }

    /// The stream by which the parts that [`Replica::open_parts`] counts arrived, if there are any.
    pub fn open_stream(&self, name: &DatabaseName) -> Option<u64> {
        self.core.open_stream(name)
    }

    /// How much room this node has, and, if it leads, the other voters.
    pub fn space(&self) -> ClusterSpace {
        self.core.space()
    }

    /// What time it is in the cluster: the latest that the wall clocks of a majority of the voters have reached, so that no
    /// minority of wrong clocks puts it ahead. It follows those clocks, so it may step back; whoever keeps it must not let
    /// what is kept fall. `None` as long as the clocks of fewer than a majority are known, as when a node has just started.
    pub fn cluster_time(&self) -> Option<UnixMillis> {
        self.core.cluster_time()
    }

    /// Keeps the log file's entries of `name` from the given txid on readable, until the pin is dropped or moved.
    pub fn pin(&self, name: &DatabaseName, reason: &'static str, from: Txid) -> LogPin {
        LogPin { core: self.core.pin(name, reason, from) }
    }
}

/// Keeps pieces of the log file. Dropping it lets them go.
pub struct LogPin {
    core: PinCore,
}

impl LogPin {
    /// Moves the pin up: entries below `from` are no longer needed for its sake.
    pub fn advance(&self, from: Txid) {
        self.core.advance(from);
    }

    /// The same, as long as `lineage` is the newest: what was arriving when the pin was last moved may have been let go
    /// of since, and other databases go on.
    pub fn advance_within(&self, lineage: Lineage, from: Txid) {
        self.core.advance_within(lineage, from);
    }

    /// Bytes of the log file from the first piece on that it keeps.
    pub fn bytes(&self) -> u64 {
        self.core.bytes()
    }
}
