//! `seawall databases`.

use clap::Args;

use super::cluster_call::{ClusterArgs, DatabaseView, database_rows, table};
use super::error::CommandError;
use super::{print, print_json};

/// List the databases of a cluster.
#[derive(Args)]
pub(super) struct DatabasesArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Print JSON: an array with one object a database.
    #[arg(long)]
    json: bool,
}

impl DatabasesArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let status = self.cluster.status().await?;
        let databases: Vec<DatabaseView> = status.databases.into_iter().map(Into::into).collect();
        if self.json {
            return print_json(&databases);
        }
        table(&database_rows(&databases)).iter().try_for_each(|line| print(line))
    }
}
