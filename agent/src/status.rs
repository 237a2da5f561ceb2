//! What an agent says of each of its databases.

use std::collections::BTreeMap;

use seawall_proto::position::{Epoch, Position, Txid};

/// What the agent is doing with a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DatabaseState {
    /// Opening the database.
    #[default]
    Opening,
    /// The database can't be used as it is; [`DatabaseStatus::last_error`] says why. Tried again every second.
    Unusable,
    /// Looking for the leader and claiming the database, or waiting for another agent to let go of it.
    Claiming,
    /// Comparing the database with what the cluster has.
    Resyncing,
    /// Shipping what is committed.
    Live,
    /// The cluster can't be reached or takes nothing just now; the WAL keeps what is committed meanwhile.
    Waiting,
    /// Another agent has taken over: this one no longer ships the database.
    Fenced,
    /// Shut down.
    Stopped,
}

/// The state of a database at its agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatabaseStatus {
    /// What the agent is doing.
    pub state: DatabaseState,
    /// The agent's claim.
    pub epoch: Epoch,
    /// The newest state that is on a majority's disks, as far as this agent knows.
    pub head: Position,
    /// The last transaction captured and handed to the network.
    pub shipped: Txid,
    /// Encoded bytes that are not acknowledged yet.
    pub pending_bytes: u64,
    /// The last thing that went wrong, if it still matters.
    pub last_error: Option<String>,
    /// How often the database was compared afresh, by reason.
    pub resyncs: BTreeMap<String, u64>,
    /// How often the write lock was held to restart the WAL.
    pub barriers: u64,
    /// How often the write lock was wanted for that but not to be had.
    pub busy_barriers: u64,
    /// Checkpoints by this agent.
    pub checkpoints: u64,
    /// Things an operator should know about the application's SQLite, such as known defects of its version.
    pub warnings: Vec<String>,
}
