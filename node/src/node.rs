//! A whole replicator node: its parts, in the order in which they begin and end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use seawall_host::net::{self, Address, Server};
use seawall_host::task::{OwnedTask, spawn_owned};
use seawall_host::{disk, time};

use crate::config::NodeConfig;
use crate::consensus::{ConfiguredNode, Consensus, ConsensusOptions, RaftInspection, ReleasedLog, StartError};
use crate::destination::{self, InvalidDestination, NamedDestination};
use crate::fanout::{Fanout, FanoutOptions};
use crate::http::{self, Metrics, Readiness};
use crate::replica::{Replica, Role};
use crate::service::admission::{Admission, IN_FLIGHT};
use crate::service::cluster::ClusterService;
use crate::service::ingest::IngestService;
use crate::service::restore::RestoreService;
use crate::space::SpaceOptions;
use crate::store::image::{Folder, ImageOptions, ImageStore};
use crate::store::image_blobs::ImageBlobs;
use crate::store::kv::OpenKv;
use crate::store::log::{LogOptions, PinView};
use crate::verification::Verifier;

/// How often the gauges of a node are brought up to date.
const GAUGE_INTERVAL: Duration = Duration::from_secs(1);

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartNodeError {
    /// Consensus, or the data directory.
    #[error(transparent)]
    Consensus(#[from] StartError),
    /// The disk or the network.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How much a node gathers before it acts.
#[derive(Clone, Debug)]
pub struct NodeSizes {
    /// Sizes of the log file.
    pub log: LogOptions,
    /// Bytes of log after which the Raft state is written down anew.
    pub snapshot_bytes: u64,
    /// Entries that stay in the log behind a snapshot.
    pub keep_entries: u64,
    /// Sizes of the images.
    pub images: ImageOptions,
    /// Bytes of an image in one message to a node that is far behind.
    pub blob_piece_bytes: usize,
    /// Windows and patience of the fan-out.
    pub fanout: FanoutOptions,
}

/// A piece of the log file has at most this share of the budget …
const PIECES_IN_BUDGET: u64 = 64;
/// … but is not smaller than this, or than was asked for.
const LEAST_PIECE: u64 = 1 << 20;
/// The Raft state is written down anew at least so often while the log gets to the size of the budget …
const SNAPSHOTS_IN_BUDGET: u64 = 16;
/// … but not more often than after this many bytes, or than was asked for.
const LEAST_SNAPSHOT: u64 = 4 << 20;

impl NodeSizes {
    /// These sizes, or smaller ones where the budget is small: the log file must be able to get shorter within it.
    #[must_use]
    pub fn within(mut self, budget: u64) -> Self {
        self.log.piece_bytes = self.log.piece_bytes.min(LEAST_PIECE.max(budget / PIECES_IN_BUDGET));
        self.snapshot_bytes = self.snapshot_bytes.min(LEAST_SNAPSHOT.max(budget / SNAPSHOTS_IN_BUDGET));
        self
    }
}

impl Default for NodeSizes {
    fn default() -> Self {
        Self {
            log: LogOptions::default(),
            snapshot_bytes: ConsensusOptions::SNAPSHOT_BYTES,
            keep_entries: ConsensusOptions::KEEP_ENTRIES,
            images: ImageOptions::default(),
            blob_piece_bytes: ImageBlobs::PIECE_BYTES,
            fanout: FanoutOptions::default(),
        }
    }
}

/// What a node is made of beside its configuration.
pub struct NodeParts {
    /// Opens the position log's storage engine.
    pub open_kv: OpenKv,
    /// Where it uploads to.
    pub destinations: Vec<NamedDestination>,
    /// How much it gathers before it acts.
    pub sizes: NodeSizes,
    /// The metrics of the process, for the one node of it that serves them.
    pub metrics: Option<Metrics>,
}

impl NodeParts {
    /// The usual sizes, no metrics, and the destinations that `config` names.
    ///
    /// # Errors
    /// [`InvalidDestination`]: a destination's configuration does not fit.
    pub fn new(config: &NodeConfig, open_kv: OpenKv) -> Result<Self, InvalidDestination> {
        let environment = destination::process_environment;
        let opened = config.destinations.iter().map(|config| destination::open(config, &environment));
        let destinations = opened.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { open_kv, destinations, sizes: NodeSizes::default(), metrics: None })
    }
}

/// A running node. Dropping it ends it as a crash would; [`Node::shutdown`] ends it in order.
pub struct Node {
    // In this order they end: what is pinned outlasts its pins, and nothing is served any more while the rest stops.
    released: ReleasedLog,
    server: Server,
    _http: Option<Server>,
    _gauges: OwnedTask,
    verifier: Verifier,
    fanout: Fanout,
    _folder: Folder,
    images: ImageStore,
    replica: Replica,
    consensus: Consensus,
}

impl Node {
    /// Starts a node.
    ///
    /// # Errors
    /// [`StartNodeError`]; nothing runs on then.
    pub async fn start(config: NodeConfig, parts: NodeParts) -> Result<Self, StartNodeError> {
        let NodeParts { open_kv, destinations, sizes, metrics } = parts;
        disk::create_directories(&config.data_dir).await?;
        let budget = match config.disk.budget {
            Some(budget) => budget,
            None => disk::space(&config.data_dir).await?.total,
        };
        let sizes = sizes.within(budget);
        let members = config.members.iter();
        let members = members.map(|member| ConfiguredNode { id: member.id, address: member.address.to_string() });
        let options = ConsensusOptions {
            snapshot_bytes: sizes.snapshot_bytes,
            keep_entries: sizes.keep_entries,
            log: sizes.log,
            space: SpaceOptions {
                budget: config.disk.budget,
                reserve: config.disk.reserve,
                destination_share: config.disk.destination_share,
            },
            ..ConsensusOptions::new(config.cluster_name, config.id, config.data_dir.clone(), members.collect())
        };
        // Takes the data directory's lock, so it comes first.
        let started = Consensus::start(options, open_kv).await?;
        let (consensus, replica) = (started.consensus, started.replica);
        let images = ImageStore::open(config.data_dir.join("images"), sizes.images).await?;
        consensus.exchange_blobs(
            ImageBlobs::open(&config.data_dir, images.clone(), consensus.space(), sizes.blob_piece_bytes).await?,
        );
        let mut folder = Folder::start(replica.clone(), images.clone());
        let admission = Admission::start(Arc::new(replica.clone()), IN_FLIGHT);
        let fanout =
            Fanout::start(sizes.fanout, destinations.clone(), Arc::new(replica.clone()), Arc::new(images.clone()));
        folder.wait_pinned().await;
        let released = consensus.release_log();

        let lanes = fanout.handle();
        let verifier = Verifier::start(
            destinations.clone(),
            replica.clone(),
            images.clone(),
            Arc::new(move |database, destination| lanes.request_snapshot(database, destination)),
            config.data_dir.join("verify"),
        )
        .await;
        let receipts = Arc::new(fanout.handle());
        let routes = started
            .routes
            .add_service(IngestService::new(replica.clone(), images.clone(), admission.clone(), receipts))
            .add_service(RestoreService::new(replica.clone(), images.clone(), destinations))
            .add_service(ClusterService::new(replica.clone(), fanout.handle(), admission));
        let server = net::serve(config.listen, routes).await?;
        let http = match config.http {
            Some(address) => {
                let readiness = Arc::new(ReplicaReadiness(replica.clone()));
                Some(http::serve(address, metrics, readiness).await?)
            }
            None => None,
        };
        let gauges = spawn_owned(keep_gauges(replica.clone()));
        tracing::info!(id = config.id, address = %server.address(), "started");
        Ok(Self {
            released,
            server,
            _http: http,
            _gauges: gauges,
            verifier,
            fanout,
            _folder: folder,
            images,
            replica,
            consensus,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        self.server.address()
    }

    /// Its images.
    pub fn images(&self) -> &ImageStore {
        &self.images
    }

    /// What it knows.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// A look at its part in consensus, for oracles; of the log's entries those from `from` on.
    pub fn inspect(&self, from: u64) -> RaftInspection {
        self.consensus.inspect(from)
    }

    /// Every reason why its log file is as long as it is, the oldest first, and the bytes from there on.
    pub fn kept_log(&self) -> Vec<(PinView, u64)> {
        self.consensus.kept_log()
    }

    /// Stops in order, within `limit`: a leader hands over first, images are made durable, connections close last.
    pub async fn shutdown(self, limit: Duration) {
        let Self { released, server, verifier, fanout, images, consensus, .. } = self;
        let stopping = async {
            drop(released);
            // Another leader verifies and uploads from here on.
            drop(verifier);
            drop(fanout);
            consensus.shutdown().await;
            for image in images.images() {
                if let Err(error) = image.checkpoint().await {
                    tracing::warn!(%error, "an image is folded again at the next start");
                }
            }
        };
        if time::timeout(limit, stopping).await.is_err() {
            tracing::warn!(?limit, "did not stop in order in time; nothing is lost, the next start takes longer");
        }
        drop(server);
    }
}

/// A node is ready when it takes part in a cluster that has a leader.
struct ReplicaReadiness(Replica);

impl Readiness for ReplicaReadiness {
    fn ready(&self) -> Result<(), String> {
        let cluster = self.0.cluster();
        match (cluster.problem, cluster.leader) {
            (Some(problem), _) => Err(problem),
            (None, None) => Err("no leader is known".to_owned()),
            (None, Some(_)) => Ok(()),
        }
    }
}

/// Keeps the gauges of what only this place sees together.
async fn keep_gauges(replica: Replica) {
    loop {
        let cluster = replica.cluster();
        metrics::gauge!("seawall_raft_term").set(cluster.term as f64);
        metrics::gauge!("seawall_raft_applied_index").set(cluster.applied as f64);
        for role in [Role::Leader, Role::Follower, Role::Learner, Role::Candidate] {
            let is_it = f64::from(u8::from(role == cluster.role));
            metrics::gauge!("seawall_raft_role", "role" => role.as_str()).set(is_it);
        }
        for name in replica.databases() {
            if let Some(view) = replica.database(&name) {
                metrics::gauge!("seawall_head_txid", "database" => name.to_string()).set(view.head.txid as f64);
                for (destination, found) in &view.verifications {
                    let labels = [("database", name.to_string()), ("destination", destination.clone())];
                    let verified = metrics::gauge!("seawall_destination_verified_timestamp_seconds", &labels);
                    verified.set(found.time_ms as f64 / 1000.0);
                    metrics::gauge!("seawall_destination_damaged_objects", &labels).set(found.damaged as f64);
                }
            }
        }
        let space = replica.space().own.said;
        metrics::gauge!("seawall_disk_used_bytes").set(space.used as f64);
        metrics::gauge!("seawall_disk_budget_bytes").set(space.budget as f64);
        metrics::gauge!("seawall_disk_free_bytes").set(space.free as f64);
        metrics::gauge!("seawall_disk_reserve_bytes").set(space.reserve as f64);
        time::sleep(GAUGE_INTERVAL).await;
    }
}
