//! The demonstration from beginning to end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use seawall_agent::{Agent, AgentConfig, AgentSizes, DatabaseConfig};
use seawall_host::net::Address;
use seawall_host::time::{self, Instant};
use seawall_host::{disk, local, random, task};
use seawall_proto::database_name::DatabaseName;

use crate::destination::InvalidDestination;
use crate::destination::{self, DestinationOptions};
use crate::node::StartNodeError;
use crate::restore::{self, ClusterSource, DestinationSource, Outcome, Progress, RestoreOptions, RestoreSource};

use super::cluster::EmbeddedCluster;
use super::comparison::compare;
use super::measurements::Measurements;
use super::report::{Report, RestoreReport};
use super::workload::Workload;

/// How long anything that must happen may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What to demonstrate.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Where everything goes; kept afterwards. A directory that is removed at the end if absent.
    pub directory: Option<PathBuf>,
    /// How long the application writes.
    pub seconds: u64,
}

/// Why the demonstration could not be carried through.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Files, runtimes, sockets.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The directory has something in it.
    #[error("{} is not empty: name a directory that is, or does not exist", .0.display())]
    NotEmpty(PathBuf),
    /// A destination cannot be used.
    #[error(transparent)]
    Destination(InvalidDestination),
    /// A node did not start.
    #[error(transparent)]
    Node(StartNodeError),
    /// Nobody leads.
    #[error("no node became the leader within {0:?}")]
    NoLeader(Duration),
    /// The agent did not start.
    #[error(transparent)]
    Agent(#[from] seawall_agent::StartError),
    /// A receipt did not come.
    #[error("no receipt: {0}")]
    Sync(#[from] seawall_agent::SyncError),
    /// A receipt did not come in time.
    #[error("no receipt within {LIMIT:?}")]
    SyncTimeout,
    /// SQLite.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// A task died.
    #[error(transparent)]
    Task(#[from] task::JoinError),
    /// A restore failed.
    #[error("cannot restore from {origin}: {cause}")]
    Restore {
        /// Where from.
        origin: String,
        /// Why not.
        cause: String,
    },
}

/// Runs the demonstration; `say` hears what happens meanwhile.
///
/// # Errors
/// [`DemoError`] if it could not be carried through. A restore that differs is no error here: see
/// [`Report::succeeded`].
pub async fn run(options: &DemoOptions, say: &(dyn Fn(&str) + Send + Sync)) -> Result<Report, DemoError> {
    let temporary = options.directory.is_none();
    let directory = options
        .directory
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("seawall-demo-{:016x}", random::u64())));
    disk::create_directories(&directory).await?;
    if !disk::list(&directory).await?.is_empty() {
        return Err(DemoError::NotEmpty(directory));
    }
    let report = demonstrate(&directory, options.seconds, say).await;
    if temporary {
        disk::remove_directory(&directory).await?;
    }
    report
}

async fn demonstrate(directory: &Path, seconds: u64, say: &(dyn Fn(&str) + Send + Sync)) -> Result<Report, DemoError> {
    let database = directory.join("app.db");
    let destinations = [directory.join("destination-one"), directory.join("destination-two")];
    Workload::create(&database).await?;

    say("starting three nodes");
    let mut cluster = EmbeddedCluster::start(directory, 3, &destinations).await?;
    cluster.wait_for_leader(LIMIT).await?;
    let name: DatabaseName = "app".parse().expect("a valid name");
    let agent = Agent::start(AgentConfig {
        cluster: cluster.addresses().to_vec(),
        socket: None,
        databases: vec![DatabaseConfig { path: database.clone(), name: name.clone(), take_over: false }],
        sizes: AgentSizes::default(),
    })
    .await?;
    let handle = agent.database(&name).expect("it was configured").clone();
    time::timeout(LIMIT, handle.sync()).await.map_err(|_elapsed| DemoError::SyncTimeout)??;

    say("an application updates rows as fast as it can");
    let workload = Workload::start(database.clone());
    let measurements = Measurements::start(handle.clone());
    let half = Duration::from_secs(seconds.max(2)) / 2;
    time::sleep(half).await;
    let killed_node = cluster.kill_leader(LIMIT).await?;
    let killed = Instant::now();
    say(&format!("node {killed_node}, the leader, was killed after {} commits", workload.commits()));
    time::sleep(half).await;
    let commits = workload.stop().await?;

    say("the application stopped; waiting until the majority and both destinations have everything");
    let everything = handle.sync_to(&[]);
    let receipt = time::timeout(LIMIT, everything).await.map_err(|_elapsed| DemoError::SyncTimeout)??;
    let latencies = measurements.finish(killed);

    let mut restores = Vec::new();
    let survivors = cluster.survivors();
    for (index, (origin, source)) in sources(&survivors, &destinations, &name).await?.into_iter().enumerate() {
        say(&format!("restoring from {origin}"));
        let output = directory.join(format!("restored-{index}.db"));
        restores.push(restore_and_compare(say, &origin, source.as_ref(), &database, &output).await?);
    }
    let uploaded_bytes = stored_bytes(&destinations[0]).await? + stored_bytes(&destinations[1]).await?;
    // By `stat`: opening and closing the file would drop the locks that SQLite holds on it in this process.
    let stat_path = database.clone();
    let database_bytes = task::blocking(move || local::stat(&stat_path)).await??.map_or(0, |stat| stat.len);
    agent.shutdown(Duration::from_secs(5)).await;
    drop(cluster);
    Ok(Report {
        seconds: seconds.max(2),
        commits,
        txid: receipt.position.txid.0,
        checksum: receipt.position.checksum.to_string(),
        probes: latencies.count(),
        acknowledged_p50_ms: latencies.percentile(50).as_secs_f64() * 1e3,
        acknowledged_p99_ms: latencies.percentile(99).as_secs_f64() * 1e3,
        killed_node,
        failover_ms: latencies.failover.map(|failover| failover.as_millis() as u64),
        database_bytes,
        uploaded_bytes,
        restores,
    })
}

type NamedSource = (String, Box<dyn RestoreSource>);

async fn sources(
    nodes: &[Address],
    destinations: &[PathBuf],
    database: &DatabaseName,
) -> Result<Vec<NamedSource>, DemoError> {
    let mut sources: Vec<NamedSource> = Vec::new();
    for node in nodes {
        let source = ClusterSource::new(vec![node.clone()], database.clone(), false);
        sources.push((format!("seawall://{node}/{database}"), Box::new(source)));
    }
    for path in destinations {
        let url = format!("file://{}", path.display());
        let destination =
            destination::open_url(&url, &DestinationOptions::default(), &destination::process_environment)
                .map_err(|error| DemoError::Restore { origin: url.clone(), cause: error.to_string() })?;
        let source = DestinationSource::new(destination, database.clone());
        sources.push((format!("{url}/{database}"), Box::new(source)));
    }
    Ok(sources)
}

/// Says only what the operator of a restore should know.
struct Spoken<'a>(&'a (dyn Fn(&str) + Send + Sync));

impl Progress for Spoken<'_> {
    fn planned(&self, _bytes: u64) {}

    fn read(&self, _bytes: u64) {}

    fn warn(&self, message: &str) {
        (self.0)(message);
    }
}

async fn restore_and_compare(
    say: &(dyn Fn(&str) + Send + Sync),
    origin: &str,
    source: &dyn RestoreSource,
    database: &Path,
    output: &Path,
) -> Result<RestoreReport, DemoError> {
    let failed = |cause: String| DemoError::Restore { origin: origin.to_owned(), cause };
    let outcome = restore::restore(source, &RestoreOptions::new(output), &Spoken(say))
        .await
        .map_err(|error| failed(error.to_string()))?;
    let Outcome::Restored(restored) = outcome else {
        return Err(failed("it has nothing to restore".to_owned()));
    };
    let (source_path, copy) = (database.to_owned(), output.to_owned());
    let compared = task::blocking(move || compare(&source_path, &copy)).await??;
    let (rows, difference) = match compared {
        Ok(rows) => (rows, None),
        Err(difference) => (0, Some(difference)),
    };
    Ok(RestoreReport {
        source: origin.to_owned(),
        txid: restored.position.txid.0,
        checksum: restored.position.checksum.to_string(),
        rows,
        difference,
        milliseconds: restored.duration.as_millis() as u64,
    })
}

fn stored_bytes(directory: &Path) -> BoxFuture<'_, std::io::Result<u64>> {
    async move {
        let mut bytes = 0;
        for entry in disk::list(directory).await? {
            let below = directory.join(&entry.name);
            bytes += if entry.is_directory { stored_bytes(&below).await? } else { entry.len };
        }
        Ok(bytes)
    }
    .boxed()
}
