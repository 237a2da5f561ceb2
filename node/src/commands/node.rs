//! `seawall node`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use seawall_host::{process, task};

use super::check::print_checked;
use super::error::CommandError;
use crate::config::{NodeConfig, process_environment};
use crate::http::Metrics;
use crate::node::{Node, NodeParts};
use crate::reconfigure::keep_tokens;
use crate::security::check_node;
use crate::store::sled_kv::SledKv;

/// How long a stopping leader may take to hand over.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// Run a replicator node.
#[derive(Args)]
pub(super) struct NodeArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only read the configuration and say whether it is right: nothing is started and nobody asked.
    #[arg(long)]
    check: bool,
}

/// Descriptors that a node needs beside its connections: log, images, destinations.
const OTHER_FILES: u64 = 512;

/// Connections need descriptors.
fn raise_open_files(config: &NodeConfig) {
    let wanted = config.security.limits.connections as u64 + OTHER_FILES;
    if let Some(allowed) = process::raise_open_files().filter(|allowed| *allowed < wanted) {
        tracing::warn!(
            allowed,
            wanted,
            "this process may open fewer files than limits.connections asks for: raise it (LimitNOFILE, ulimit -n)"
        );
    }
}

impl NodeArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let config = NodeConfig::load(&self.config, &process_environment).await;
        if self.check {
            let check = async |config: &NodeConfig| check_node(&config.cluster_name, &config.security).await;
            return print_checked(&self.config, config, check).await;
        }
        let config = config?;
        let metrics = Metrics::install().map_err(|error| CommandError::failure(error.to_string()))?;
        let parts = NodeParts::new(&config, SledKv::opener());
        let mut parts = parts.map_err(|error| CommandError::failure(error.to_string()))?;
        parts.metrics = Some(metrics);
        raise_open_files(&config);
        let node = Node::start(config.clone(), parts).await;
        let node = node.map_err(|error| CommandError::failure(error.to_string()))?;
        let _tokens = task::spawn_owned(keep_tokens(self.config, config, Arc::clone(node.access())));
        process::termination().await;
        tracing::info!("handing over, then stopping");
        node.shutdown(DRAIN_LIMIT).await;
        Ok(())
    }
}
