//! `seawall agent`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use seawall_agent::{Agent, AgentConfig, AgentSizes, DatabaseConfig};
use seawall_host::process;

use super::check::print_checked;
use super::error::CommandError;
use crate::config::{self, process_environment};

/// How long a stopping agent may take to ship what is committed.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// Run an agent beside an application: it ships what the application commits.
#[derive(Args)]
pub(super) struct AgentArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Become the writer even while another agent's stream lives: that one is fenced off.
    #[arg(long)]
    take_over: bool,
    /// Only read the configuration and say whether it is right: nothing is started and nobody asked.
    #[arg(long, conflicts_with = "take_over")]
    check: bool,
}

impl AgentArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let config = config::AgentConfig::load(&self.config, &process_environment).await;
        if self.check {
            return print_checked(&self.config, config);
        }
        let config = config?;
        let databases = config.databases.into_iter().map(|database| DatabaseConfig {
            path: database.path,
            name: database.name,
            take_over: self.take_over,
        });
        let (socket, databases) = (Some(config.socket), databases.collect());
        let agent =
            Agent::start(AgentConfig { cluster: config.cluster, socket, databases, sizes: AgentSizes::default() })
                .await;
        let agent = agent.map_err(|error| CommandError::failure(error.to_string()))?;
        process::termination().await;
        tracing::info!("shipping what is committed, then stopping");
        if agent.shutdown(DRAIN_LIMIT).await {
            Ok(())
        } else {
            let message = format!("not everything was shipped within {DRAIN_LIMIT:?}; it is shipped at the next start");
            Err(CommandError::failure(message))
        }
    }
}
