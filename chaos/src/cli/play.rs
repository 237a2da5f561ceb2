//! `chaos play`: one scenario in this process; what `chaos run` starts for each.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::run::{RunOptions, run};
use crate::scenario;

/// Plays one scenario here and prints what happens, a line each; the history is the result.
#[derive(Args)]
pub(super) struct Play {
    name: String,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    seconds: u64,
    #[arg(long)]
    directory: PathBuf,
    #[arg(long)]
    seawall: PathBuf,
    #[arg(long)]
    loopback: bool,
    #[arg(long)]
    most_restores: usize,
    #[arg(long)]
    mutant: Option<String>,
}

impl Play {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        // What it mounts goes with it. Without the right to that, mounting will fail and say so.
        if unshare(CloneFlags::CLONE_NEWNS).is_ok() {
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
                .context("the mounts cannot be made private")?;
        }
        let options = RunOptions {
            seed: self.seed,
            span: Duration::from_secs(self.seconds),
            directory: self.directory,
            program: self.seawall,
            environment: self.mutant.into_iter().map(|mutant| ("SEAWALL_MUTANTS".to_owned(), mutant)).collect(),
            on_loopback: self.loopback,
            most_restores: self.most_restores,
        };
        run(scenario::named(&self.name)?, &options, &|now| {
            // If nobody reads it, nobody misses it.
            let _ = writeln!(io::stdout(), "{now}");
        })?;
        Ok(true)
    }
}
