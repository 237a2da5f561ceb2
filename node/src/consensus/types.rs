//! The types that openraft is instantiated with.

use std::fmt;

use bytes::Bytes;
use seawall_proto::v1;

use super::runtime::HostRuntime;
use crate::replica::Applied;
use crate::store::log;

openraft::declare_raft_types!(
    /// Raft as Seawall runs it. Nodes are known by their random Raft id.
    pub TypeConfig:
        D = Request,
        R = Response,
        NodeId = u64,
        Node = Member,
        AsyncRuntime = HostRuntime,
);

/// A log entry as openraft sees it.
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
/// The id of a log entry as openraft sees it.
pub type RaftLogId = openraft::alias::LogIdOf<TypeConfig>;
/// A vote.
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
/// Who belongs to the cluster.
pub type Membership = openraft::Membership<u64, Member>;
/// The payload of an entry as openraft sees it: blank, a [`Request`], or a [`Membership`].
pub type EntryPayload = openraft::alias::EntryPayloadOf<TypeConfig>;

/// A member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its id in the configuration: a label. Raft knows it by the random id of its data directory.
    pub configured_id: u64,
    /// Where the other nodes reach it: host:port.
    pub address: String,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} at {}", self.configured_id, self.address)
    }
}

/// The bytes that go with a command.
#[derive(Clone, PartialEq, Eq)]
pub enum Payload {
    /// None.
    Empty,
    /// Here they are.
    Bytes(Bytes),
    /// Left in the log file, as entries read for applying are.
    Elsewhere {
        /// How many bytes.
        len: u32,
    },
}

impl Payload {
    /// The number of bytes, wherever they are.
    pub fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Bytes(bytes) => bytes.len(),
            Self::Elsewhere { len } => *len as usize,
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no payload"),
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Elsewhere { len } => write!(f, "{len} bytes in the log file"),
        }
    }
}

/// What is replicated: a command, and the bytes it speaks of.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What is to change.
    pub command: v1::Command,
    /// The bytes of an append.
    pub payload: Payload,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use v1::command::Command;
        match &self.command.command {
            Some(Command::Claim(claim)) => write!(f, "claim of {}", claim.database),
            Some(Command::Append(append)) => write!(f, "append to {} of {:?}", append.database, self.payload),
            Some(Command::Progress(progress)) => write!(f, "progress of {}", progress.destinations.len()),
            Some(Command::Abandon(abandon)) => write!(f, "end of an open segment of {}", abandon.database),
            None => f.write_str("nothing"),
        }
    }
}

/// What applying an entry gave; `None` for entries that carry no command.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Response(pub Option<Applied>);

impl From<RaftLogId> for log::LogId {
    fn from(id: RaftLogId) -> Self {
        let leader = id.committed_leader_id();
        Self { term: leader.term, node: leader.node_id, index: id.index }
    }
}

impl From<log::LogId> for RaftLogId {
    fn from(id: log::LogId) -> Self {
        let leader = openraft::impls::leader_id_adv::LeaderId { term: id.term, node_id: id.node };
        Self::new(leader, id.index)
    }
}
