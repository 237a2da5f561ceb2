//! `seawall version`.

use clap::Args;
use seawall_host::probe;

use super::error::CommandError;
use super::print;

/// Show the versions of Seawall and of the SQLite inside.
#[derive(Args)]
pub(super) struct VersionArgs {}

impl VersionArgs {
    pub(super) fn run(self) -> Result<(), CommandError> {
        print(&format!("seawall {}", env!("CARGO_PKG_VERSION")))?;
        print(&format!("SQLite {}", rusqlite::version()))?;
        probe::defects().map_or(Ok(()), |defects| print(&defects))
    }
}
