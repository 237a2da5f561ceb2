//! Starting and stopping a node's part in consensus.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use openraft::{Config, SnapshotPolicy};
use seawall_host::disk::{self, LockGuard};
use seawall_host::probe::{mutant, sometimes};
use seawall_host::task::{self, OwnedTask};
use seawall_proto::MAX_MESSAGE_BYTES;
use seawall_proto::v1::peer_server::PeerServer;
use tonic::service::Routes;

use super::blobs::Blobs;
use super::clocks::ClockBoard;
use super::identity::Identity;
use super::live_state::LiveState;
use super::log_adapter::LogStore;
use super::network::Network;
use super::payloads::{Others, Payloads};
use super::peer_service::PeerService;
use super::proposer::Proposer;
use super::replica::ReplicaCore;
use super::snapshot::SnapshotFile;
use super::space::{self, SpaceBoard};
use super::state_machine::StateMachine;
use super::{Raft, bootstrap, driver, hand_over, watch_membership};
use crate::replica::Replica;
use crate::space::{OwnSpace, SpaceOptions, Usage};
use crate::store::kv::OpenKv;
use crate::store::log::{LogFile, LogOptions, OpenLogError};
use crate::store::position_log::{PositionLog, PositionLogError};

/// A node as the configuration lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredNode {
    /// Its id in the configuration.
    pub id: u64,
    /// Where the others reach it: host:port.
    pub address: String,
}

/// What a node needs to take part.
#[derive(Clone)]
pub struct ConsensusOptions {
    /// The cluster's name; nodes of another are refused.
    pub cluster: String,
    /// The configured id of this node.
    pub id: u64,
    /// Where it keeps what it must not forget.
    pub data_dir: PathBuf,
    /// Every node the cluster begins with, this one included.
    pub nodes: Vec<ConfiguredNode>,
    /// Bytes of log after which the state is written down anew, so that the log before it can go.
    pub snapshot_bytes: u64,
    /// Entries that stay in the log behind a snapshot, for peers that are a little late.
    pub keep_entries: u64,
    /// Sizes of the log file.
    pub log: LogOptions,
    /// What the data may take.
    pub space: SpaceOptions,
}

impl ConsensusOptions {
    /// The usual bytes of log between two snapshots.
    pub const SNAPSHOT_BYTES: u64 = 256 << 20;
    /// The usual number of entries that stay behind a snapshot.
    pub const KEEP_ENTRIES: u64 = 1000;

    /// The usual sizes.
    pub fn new(cluster: String, id: u64, data_dir: PathBuf, nodes: Vec<ConfiguredNode>) -> Self {
        Self {
            cluster,
            id,
            data_dir,
            nodes,
            snapshot_bytes: Self::SNAPSHOT_BYTES,
            keep_entries: Self::KEEP_ENTRIES,
            log: LogOptions::default(),
            space: SpaceOptions { budget: None, reserve: None, destination_share: 25 },
        }
    }
}

/// Why a node cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process has the data directory.
    #[error("{0} is in use by another process: stop that one, or give this node a directory of its own")]
    Locked(PathBuf),
    /// The log file was removed, and the rest was not.
    #[error(
        "the log of {0} is missing: bring it back, or empty the directory and replace the node (`seawall cluster \
         replace-node`)"
    )]
    LogMissing(PathBuf),
    /// It is a removed node's.
    #[error(
        "{directory} belonged to node {id}, which was removed from the cluster, and never votes again: to bring the node \
         back, empty the directory, start it, and add it (`seawall cluster add-node {id} ADDRESS`)",
        directory = .directory.display()
    )]
    Removed {
        /// The data directory.
        directory: PathBuf,
        /// The node's configured id.
        id: u64,
    },
    /// The log file cannot be used.
    #[error(transparent)]
    Log(#[from] OpenLogError),
    /// The position log cannot be used.
    #[error(transparent)]
    Positions(#[from] PositionLogError),
    /// This node is not in its own list.
    #[error("node {0} is not in the cluster's list of nodes: add it")]
    NotListed(u64),
    /// The data directory failed.
    #[error("cannot use the data directory: {0}")]
    Io(#[from] io::Error),
    /// Consensus itself did not start.
    #[error("consensus does not start: {0}")]
    Raft(String),
}

/// A started node.
pub struct Started {
    /// Its part in consensus; dropping it ends that at once.
    pub consensus: Consensus,
    /// What it knows.
    pub replica: Replica,
    /// What it answers to its peers; serve them at its address.
    pub routes: Routes,
}

/// While this exists, the log file deletes what nobody pins.
#[must_use]
pub struct ReleasedLog(Arc<LiveState>);

impl Drop for ReleasedLog {
    fn drop(&mut self) {
        self.0.lock().released = false;
        self.0.log.stop_deleting();
    }
}

/// A node's part in consensus. Dropping it ends it as a crash would.
pub struct Consensus {
    pub(super) raft: Raft,
    pub(super) live: Arc<LiveState>,
    pub(super) raft_id: u64,
    pub(super) snapshot_file: Arc<SnapshotFile>,
    blobs: Arc<OnceLock<Blobs>>,
    space: Arc<SpaceBoard>,
    tasks: Vec<OwnedTask>,
    _lock: LockGuard,
}

impl Consensus {
    /// Opens the data directory and takes part in the cluster, or waits until it begins.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(options: ConsensusOptions, open_kv: OpenKv) -> Result<Started, StartError> {
        if !options.nodes.iter().any(|node| node.id == options.id) {
            return Err(StartError::NotListed(options.id));
        }
        let data_dir = options.data_dir.clone();
        disk::create_directories(&data_dir).await?;
        let lock = lock(&data_dir).await?;
        if watch_membership::was_removed(&data_dir).await? {
            return Err(StartError::Removed { directory: data_dir, id: options.id });
        }
        let mut usage = Usage::new(data_dir.clone(), options.space);
        let space = Arc::new(SpaceBoard::begin(&mut usage, data_dir.clone()).await?);
        let clocks = Arc::new(ClockBoard::default());
        let file = Arc::new(SnapshotFile::new(&data_dir));
        let log = LogFile::open(&data_dir.join("log"), options.log).await?;
        let stored = log.state();
        if stored.was_created && file.load().await?.is_some() {
            return Err(StartError::LogMissing(data_dir));
        }
        let positions = PositionLog::open(&data_dir, &open_kv).await?;
        if mutant("position-log-not-rebuilt") {
            positions.trust_up_to(stored.committed.map_or(0, |id| id.index));
        }
        let identity = Arc::new(Identity::new(options.cluster.clone(), options.id, &stored.identity));
        let network = Network::new(identity.clone(), log.clone());
        let live = Arc::new(LiveState::new(positions, log.clone()));
        let others = Others { identity: identity.clone(), network: network.clone(), live: live.clone() };
        let payloads = Payloads::new(&data_dir, log.clone(), Some(others));

        let raft = Raft::new(
            identity.raft_id(),
            Arc::new(raft_config(&options.cluster)?),
            network.clone(),
            LogStore::new(log, payloads.clone()),
            StateMachine::new(live.clone(), file.clone()),
        );
        let raft = raft.await.map_err(|error| StartError::Raft(error.to_string()))?;

        let proposer = Proposer::start(raft.clone());
        let (snapshot_bytes, keep) = (options.snapshot_bytes, options.keep_entries);
        let beginning =
            bootstrap::run(raft.clone(), identity.clone(), live.clone(), network.clone(), options.nodes.clone());
        let tasks = vec![
            task::spawn_owned(driver::watch_standing(raft.clone(), live.clone())),
            task::spawn_owned(driver::write_positions(live.clone(), space.clone())),
            task::spawn_owned(driver::shorten_log(raft.clone(), live.clone(), payloads.clone(), snapshot_bytes, keep)),
            task::spawn_owned(beginning),
            task::spawn_owned(space::watch(
                usage,
                space.clone(),
                clocks.clone(),
                live.clone(),
                identity.clone(),
                network.clone(),
            )),
            task::spawn_owned(hand_over::where_room_is(raft.clone(), live.clone(), identity.raft_id(), space.clone())),
            task::spawn_owned(watch_membership::retire_when_removed(
                raft.clone(),
                identity.clone(),
                live.clone(),
                data_dir,
            )),
            task::spawn_owned(watch_membership::compare_listing(
                identity.clone(),
                live.clone(),
                network.clone(),
                options.nodes.clone(),
            )),
        ];
        let blobs = Arc::new(OnceLock::new());
        let service = PeerService {
            raft: raft.clone(),
            live: live.clone(),
            identity: identity.clone(),
            network: network.clone(),
            payloads: payloads.clone(),
            blobs: blobs.clone(),
            space: space.clone(),
            nodes: options.nodes.clone(),
            installing: tokio::sync::Mutex::new(()),
        };
        let server = PeerServer::new(service)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let raft_id = identity.raft_id();
        let core = ReplicaCore {
            raft: raft.clone(),
            live: live.clone(),
            identity,
            network,
            payloads,
            blobs: blobs.clone(),
            space: space.clone(),
            clocks,
            proposer,
            nodes: options.nodes,
        };
        Ok(Started {
            consensus: Self { raft, live, raft_id, snapshot_file: file, blobs, space, tasks, _lock: lock },
            replica: Replica::new(Arc::new(core)),
            routes: Routes::new(server),
        })
    }

    /// Lets the log file delete what nobody pins, until the answer is dropped. Call it once images and fan-out have
    /// pinned what they need, and drop the answer before they let go of their pins because the node ends.
    pub fn release_log(&self) -> ReleasedLog {
        self.live.lock().released = true;
        self.live.log.start_deleting();
        ReleasedLog(self.live.clone())
    }

    /// Gives and takes images by `blobs` from now on: peers that are far behind need them. Call it before the routes
    /// are served; a second call changes nothing.
    pub fn exchange_blobs(&self, blobs: Blobs) {
        let _ = self.blobs.set(blobs);
    }

    /// How much room this node has.
    pub fn space(&self) -> Arc<dyn OwnSpace> {
        self.space.clone()
    }

    /// Stops in order: a leader hands over first; then everything is written down, so that the next start is quick.
    pub async fn shutdown(mut self) {
        let handed = hand_over::to_any(&self.raft, &self.live, self.raft_id).await;
        if let Some(handed) = handed {
            if handed {
                sometimes("leadership handed over");
            }
            tracing::info!(handed, "stopped leading");
        }
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not stop in order");
        }
        self.tasks.clear();
        if let Err(error) = self.live.log.close().await {
            tracing::error!(%error, "the log file did not close");
            return;
        }
        if let Err(error) = self.live.positions.close(self.live.settled()).await {
            tracing::warn!(%error, "the next start builds the position log again");
        }
    }
}

async fn lock(data_dir: &Path) -> Result<LockGuard, StartError> {
    match disk::lock(&data_dir.join("lock")).await {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(StartError::Locked(data_dir.to_owned())),
        locked => Ok(locked?),
    }
}

/// The time-out of a replication message is the heartbeat interval, so it must exceed a slow fsync. A leader that
/// restarts never resumes its term: it may have lost a tail that it proposed (`enable_leader_restore`).
fn raft_config(cluster: &str) -> Result<Config, StartError> {
    let config = Config {
        cluster_name: cluster.to_owned(),
        heartbeat_interval: 250,
        election_timeout_min: 1000,
        election_timeout_max: 2000,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(mutant("leader-restore-on")),
        max_payload_entries: 128,
        api_channel_size: Some(1024),
        snapshot_policy: SnapshotPolicy::Never,
        install_snapshot_timeout: 60_000,
        purge_batch_size: 1000,
        ..Config::default()
    };
    config.validate().map_err(|error| StartError::Raft(error.to_string()))
}
