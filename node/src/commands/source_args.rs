//! How a command is told where the backups of a database are.

use std::path::PathBuf;

use clap::Args;
use seawall_proto::database_name::DatabaseName;

use super::error::CommandError;
use super::restore_sources::open_sources;
use crate::restore::{RestoreSource, SourceUrl};

/// Where the backups of one database are.
#[derive(Args)]
pub(super) struct SourceArgs {
    /// Take what a node has even if it has no leader; the newest commits may be missing.
    #[arg(long)]
    allow_stale: bool,
    /// Read from the cluster and every destination of this node.yml as well, with the credentials it names.
    #[arg(long, value_name = "FILE", requires = "database")]
    config: Option<PathBuf>,
    /// The database, with --config.
    #[arg(long, value_name = "NAME", requires = "config")]
    database: Option<DatabaseName>,
    /// seawall://HOST:PORT,…/DATABASE, or a destination's URL with the database behind it (file:///backups/app,
    /// s3://bucket/prefix/app; an s3:// URL may carry ?endpoint=…&region=…). Several complete and stand in for one
    /// another: the newest state that any of them has counts, from the first that serves.
    #[arg(value_name = "SOURCE", required_unless_present = "config")]
    sources: Vec<SourceUrl>,
}

impl SourceArgs {
    /// Opens them as one source; nothing is connected to yet.
    pub(super) async fn open(&self) -> Result<(DatabaseName, Box<dyn RestoreSource>), CommandError> {
        let config = self.config.as_deref().zip(self.database.as_ref());
        open_sources(&self.sources, config, self.allow_stale).await
    }
}
