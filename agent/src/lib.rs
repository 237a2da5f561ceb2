//! Captures what a SQLite application commits and ships it to a Seawall cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use seawall_host::net::Address;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Epoch, Position, Txid};

pub mod capture;
pub mod sqlite;
pub mod wal;

mod status;

pub use status::{DatabaseState, DatabaseStatus};

/// A database to ship.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    /// The SQLite file.
    pub path: PathBuf,
    /// Its name in the cluster.
    pub name: DatabaseName,
    /// Claim it even while another agent's stream lives.
    pub take_over: bool,
}

/// What an agent does.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Addresses of the cluster's nodes.
    pub cluster: Vec<Address>,
    /// Where the agent answers `seawall sync`.
    pub socket: Option<PathBuf>,
    /// The databases it ships.
    pub databases: Vec<DatabaseConfig>,
}

/// Why an agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No cluster.
    #[error("no address of the cluster is configured: list at least one under `cluster`")]
    NoCluster,
    /// Twice the same.
    #[error("the database name `{0}` is configured twice: give each database a name of its own")]
    DuplicateName(DatabaseName),
    /// Two paths, one file.
    #[error("{} and {} are the same file: configure it once", .0.display(), .1.display())]
    SameFile(PathBuf, PathBuf),
    /// The socket.
    #[error(transparent)]
    Socket(#[from] std::io::Error),
}

/// Why a sync gave no receipt.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SyncError {
    /// Another agent ships this database now.
    #[error("another agent has taken over this database")]
    Fenced,
    /// The agent is shutting down.
    #[error("the agent is shutting down")]
    Stopped,
}

/// What is known to be safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The state that a majority of nodes has on disk.
    pub position: Position,
    /// The epoch it was shipped under.
    pub epoch: Epoch,
    /// What each destination that was asked for holds, by name.
    pub destinations: BTreeMap<String, Txid>,
}

/// A running agent.
pub struct Agent {}

/// One database of a running agent. Clones share it.
#[derive(Clone)]
pub struct DatabaseHandle {}

#[allow(unused_variables, clippy::unimplemented, clippy::unused_async, missing_docs)]
impl Agent {
    /// Starts shipping. Databases that can't be used yet are tried again and again; see [`DatabaseStatus`].
    pub async fn start(config: AgentConfig) -> Result<Self, StartError> {
        unimplemented!()
    }
    /// The databases, in the order of the configuration.
    pub fn databases(&self) -> &[DatabaseHandle] {
        unimplemented!()
    }
    /// One database by its name.
    pub fn database(&self, name: &DatabaseName) -> Option<&DatabaseHandle> {
        unimplemented!()
    }
    /// Captures and ships what is committed by now, for at most `limit`, then lets go of the databases.
    /// False if something was left unshipped (it stays in the WAL, or is found by comparison at the next start).
    pub async fn shutdown(self, limit: Duration) -> bool {
        unimplemented!()
    }
}

#[allow(unused_variables, clippy::unimplemented, clippy::unused_async, missing_docs)]
impl DatabaseHandle {
    /// The name in the cluster.
    pub fn name(&self) -> &DatabaseName {
        unimplemented!()
    }
    /// What the agent knows of it.
    pub fn status(&self) -> DatabaseStatus {
        unimplemented!()
    }
    /// Ships everything that is committed by now and waits until a majority of nodes has it on disk.
    pub async fn sync(&self) -> Result<Receipt, SyncError> {
        unimplemented!()
    }
}
