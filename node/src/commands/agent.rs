//! `seawall agent`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use seawall_agent::{Agent, AgentConfig, AgentSizes, DatabaseConfig};
use seawall_host::process;

use super::check::print_checked;
use super::client_args::Client;
use super::error::CommandError;
use crate::config::{self, process_environment};
use crate::security::check_client;

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
            let check = async |config: &config::AgentConfig| check_client(config.security.as_ref()).await;
            return print_checked(&self.config, config, check).await;
        }
        let config = config?;
        let databases = config.databases.into_iter().map(|database| DatabaseConfig {
            path: database.path,
            name: database.name,
            take_over: self.take_over,
        });
        let client = Client::open(config.security.as_ref()).await?;
        let agent = Agent::start(AgentConfig {
            cluster: config.cluster,
            socket: Some(config.socket),
            databases: databases.collect(),
            sizes: AgentSizes::default(),
            credentials: client.credentials(),
        });
        let agent = agent.await;
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
