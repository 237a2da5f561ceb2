//! `seawall demo`.

use std::path::PathBuf;

use clap::Args;

use super::error::CommandError;
use super::{print, print_json};
use crate::demo::{self, DemoOptions};

/// Show what Seawall does: three nodes in this process, an application that updates rows, a killed leader, and
/// restores from every surviving node and destination, compared with the source row by row.
#[derive(Args)]
pub(super) struct DemoArgs {
    /// Keep everything in this directory, which must be empty or absent [default: a temporary one, removed at the end].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How long the application writes.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(2..=3600))]
    seconds: u64,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl DemoArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let options = DemoOptions { directory: self.dir, seconds: self.seconds };
        let report = demo::run(&options, &|line| eprintln!("seawall: {line}")).await;
        let report = report.map_err(|error| CommandError::failure(error.to_string()))?;
        if self.json {
            print_json(&report)?;
        } else {
            print(report.to_string().trim_end())?;
        }
        if report.succeeded() {
            return Ok(());
        }
        Err(CommandError::failure("a restored database differs from the source".to_owned()))
    }
}
