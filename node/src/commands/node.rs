//! `seawall node`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use seawall_host::process;

use super::check::print_checked;
use super::error::CommandError;
use crate::config::{NodeConfig, process_environment};
use crate::http::Metrics;
use crate::node::{Node, NodeParts};
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

impl NodeArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let config = NodeConfig::load(&self.config, &process_environment).await;
        if self.check {
            return print_checked(&self.config, config);
        }
        let config = config?;
        let metrics = Metrics::install().map_err(|error| CommandError::failure(error.to_string()))?;
        let parts = NodeParts::new(&config, SledKv::opener());
        let mut parts = parts.map_err(|error| CommandError::failure(error.to_string()))?;
        parts.metrics = Some(metrics);
        let node = Node::start(config, parts).await;
        let node = node.map_err(|error| CommandError::failure(error.to_string()))?;
        process::termination().await;
        tracing::info!("handing over, then stopping");
        node.shutdown(DRAIN_LIMIT).await;
        Ok(())
    }
}
