//! Raft: every openraft type stays in here.

mod blobs;
mod bootstrap;
mod clocks;
mod cluster_time;
mod driver;
mod hand_over;
mod holdings;
mod identity;
mod inspect;
mod lent_stream;
mod live_state;
mod log_adapter;
mod membership;
mod network;
mod payloads;
mod peer_service;
mod proposer;
mod refusals;
mod replica;
pub mod runtime;
mod snapshot;
mod space;
mod start;
mod state_machine;
pub mod types;
mod watch_membership;
mod wire;

pub use blobs::{BlobSink, BlobSource, BlobStream, Blobs, Need};
pub use inspect::{Ballot, InspectedMembership, RaftInspection};
pub use membership::{Holdings, KnownMembership, StepError};
pub use space::{ClusterSpace, Report};
pub use start::{ConfiguredNode, Consensus, ConsensusOptions, ReleasedLog, StartError, Started};

pub(crate) use replica::{PinCore, ReplicaCore};

/// openraft, as Seawall runs it.
type Raft = openraft::Raft<types::TypeConfig, state_machine::StateMachine>;
