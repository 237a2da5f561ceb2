//! Captures what a SQLite application commits and ships it to a Seawall cluster.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use seawall_host::net::{Address, Server};
use seawall_host::task::OwnedTask;
use seawall_host::{local, random, task, time};
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Epoch, Position, Txid};
use seawall_proto::v1::AwaitReceiptRequest;

pub mod capture;
pub mod sqlite;
pub mod wal;

mod cluster_clock;
mod roster;
mod service;
mod ship;
mod sizes;
mod status;

pub use cluster_clock::ClusterClock;
pub use sizes::AgentSizes;
pub use status::{DatabaseState, DatabaseStatus};

use roster::Roster;
use ship::{Cluster, Driver, DriverConfig, Shared, keep_time};

/// How long one question for a receipt waits, and the pause before the next.
const RECEIPT_TURN: Duration = Duration::from_secs(10);
const RECEIPT_PAUSE: Duration = Duration::from_millis(500);

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
    /// How much it gathers before it acts.
    pub sizes: AgentSizes,
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
    /// The cluster did not say what destinations hold.
    #[error("the data is on a majority of nodes, but the destinations' receipt is unknown: {0}")]
    Cluster(String),
    /// Not all destinations hold it yet.
    #[error("the data is on a majority of nodes, but not at every destination asked for: {0}")]
    NotReached(String),
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

/// A running agent. Dropping it stops it at once.
pub struct Agent {
    databases: Vec<DatabaseHandle>,
    tasks: Vec<OwnedTask>,
    server: Option<Server>,
}

/// One database of a running agent. Clones share it.
#[derive(Clone)]
pub struct DatabaseHandle {
    name: DatabaseName,
    shared: Arc<Shared>,
    roster: Roster,
    clock: Arc<ClusterClock>,
}

impl Agent {
    /// Starts shipping. Databases that can't be used yet are tried again and again; see [`DatabaseStatus`].
    ///
    /// # Errors
    /// [`StartError`]: a configuration that can't be meant, or a socket that can't be listened at.
    pub async fn start(config: AgentConfig) -> Result<Self, StartError> {
        if config.cluster.is_empty() {
            return Err(StartError::NoCluster);
        }
        refuse_duplicates(&config.databases).await?;
        let agent_id = random::u64();
        let mut databases = Vec::new();
        let clock = Arc::new(ClusterClock::default());
        let roster = Roster::new(config.cluster);
        let mut tasks = vec![task::spawn_owned(keep_time(Cluster::new(roster.clone(), Arc::clone(&clock))))];
        for DatabaseConfig { path, name, take_over } in config.databases {
            let shared = Arc::new(Shared::default());
            let label = path.display().to_string();
            let driver =
                DriverConfig { path, name: name.clone(), take_over, agent_id, label, sizes: config.sizes.clone() };
            let cluster = Cluster::new(roster.clone(), Arc::clone(&clock));
            let driver = Driver::new(driver, cluster, Arc::clone(&shared));
            tasks.push(task::spawn_owned(driver.run()));
            let (roster, clock) = (roster.clone(), Arc::clone(&clock));
            databases.push(DatabaseHandle { name, shared, roster, clock });
        }
        let server = match config.socket {
            Some(path) => Some(service::serve(path, databases.clone()).await?),
            None => None,
        };
        Ok(Self { databases, tasks, server })
    }

    /// The databases, in the order of the configuration.
    pub fn databases(&self) -> &[DatabaseHandle] {
        &self.databases
    }

    /// One database by its name.
    pub fn database(&self, name: &DatabaseName) -> Option<&DatabaseHandle> {
        self.databases.iter().find(|database| database.name == *name)
    }

    /// Captures and ships what is committed by now, for at most `limit`, then lets go of the databases.
    /// False if something was left unshipped (it stays in the WAL, or is found by comparison at the next start).
    pub async fn shutdown(self, limit: Duration) -> bool {
        let drained = self.databases.iter().map(|database| time::timeout(limit, database.sync()));
        let drained = join_all(drained).await;
        let complete = drained.iter().all(|outcome| matches!(outcome, Ok(Ok(_) | Err(SyncError::Fenced))));
        drop(self.server);
        drop(self.tasks);
        for database in &self.databases {
            database.shared.close(&SyncError::Stopped);
            database.shared.update(|status| status.state = DatabaseState::Stopped);
        }
        complete
    }
}

async fn refuse_duplicates(databases: &[DatabaseConfig]) -> Result<(), StartError> {
    let mut names = std::collections::BTreeSet::new();
    for database in databases {
        if !names.insert(&database.name) {
            return Err(StartError::DuplicateName(database.name.clone()));
        }
    }
    let paths: Vec<PathBuf> = databases.iter().map(|database| database.path.clone()).collect();
    let stats = task::blocking(move || {
        let stat = |path: PathBuf| (local::stat(&path).ok().flatten().map(|stat| stat.identity), path);
        paths.into_iter().map(stat).collect::<Vec<_>>()
    })
    .await
    .unwrap_or_default();
    let mut files = BTreeMap::new();
    for (identity, path) in stats {
        if let Some(other) = identity.and_then(|identity| files.insert(identity, path.clone())) {
            return Err(StartError::SameFile(other, path));
        }
    }
    Ok(())
}

impl DatabaseHandle {
    /// The name in the cluster.
    pub fn name(&self) -> &DatabaseName {
        &self.name
    }

    /// What the agent knows of it.
    pub fn status(&self) -> DatabaseStatus {
        self.shared.status()
    }

    /// Ships everything that is committed by now and waits until a majority of nodes has it on disk, however long that
    /// takes.
    ///
    /// # Errors
    /// [`SyncError`] if this agent no longer ships the database.
    pub async fn sync(&self) -> Result<Receipt, SyncError> {
        let answer = self.shared.request()?;
        let (position, epoch) = answer.await.unwrap_or(Err(SyncError::Stopped))?;
        Ok(Receipt { position, epoch, destinations: BTreeMap::new() })
    }

    /// As [`DatabaseHandle::sync`], then waits until these destinations (all of them if none is named) hold it too,
    /// however long that takes.
    ///
    /// # Errors
    /// [`SyncError`] if this agent no longer ships the database.
    pub async fn sync_to(&self, destinations: &[String]) -> Result<Receipt, SyncError> {
        let receipt = self.sync().await?;
        loop {
            match self.await_receipt(receipt.clone(), destinations, RECEIPT_TURN).await {
                Err(SyncError::NotReached(why) | SyncError::Cluster(why)) => {
                    tracing::info!(database = %self.name, why, "waiting for the destinations");
                    time::sleep(random::jitter(RECEIPT_PAUSE)).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Waits for at most `timeout` until these destinations (all of them if none is named) hold what `receipt` is for.
    ///
    /// # Errors
    /// [`SyncError`] says what is not reached.
    pub async fn await_receipt(
        &self,
        mut receipt: Receipt,
        destinations: &[String],
        timeout: Duration,
    ) -> Result<Receipt, SyncError> {
        let request = AwaitReceiptRequest {
            database: self.name.to_string(),
            lineage: receipt.position.lineage.0,
            txid: receipt.position.txid.0,
            destinations: destinations.to_vec(),
            timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
        };
        let mut cluster = Cluster::new(self.roster.clone(), Arc::clone(&self.clock));
        let there = cluster.await_receipt(&request).await.map_err(|error| SyncError::Cluster(error.to_string()))?;
        if !there.reached {
            let standing = |(name, txid): (&String, &u64)| {
                let cause = there.errors.get(name).map_or(String::new(), |cause| format!(" ({cause})"));
                format!("{name} holds transaction {txid} of {}{cause}", request.txid)
            };
            // Those that hold it as well: whoever waited wants to know which do.
            let mut all: Vec<String> = there.destinations.iter().map(standing).collect();
            let unknown = there.errors.iter().filter(|(name, _)| !there.destinations.contains_key(*name));
            all.extend(unknown.map(|(name, cause)| format!("{name}: {cause}")));
            return Err(SyncError::NotReached(all.join("; ")));
        }
        receipt.destinations = there.destinations.into_iter().map(|(name, txid)| (name, Txid(txid))).collect();
        Ok(receipt)
    }
}
