//! The command line: runs seeds in worker processes, replays and shrinks failures, and checks the simulator itself.
#![allow(
    clippy::disallowed_methods,
    reason = "it stands outside every simulated world: real time, threads, randomness"
)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::mutants::MUTANTS;

mod arguments;
mod chain;
mod coverage;
mod failure;
mod meta;
mod mutants;
mod pool;
mod progress;
mod regressions;
mod replay;
mod run;
mod search;
mod seat;
mod shrink;
mod worker;

/// Runs whole clusters of Seawall under virtual time and breaks everything that can break, reproducibly.
#[derive(Parser)]
#[command(name = "sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Run),
    Replay(replay::Replay),
    Shrink(shrink::Shrink),
    Meta(meta::Meta),
    Regressions(regressions::Regressions),
    Mutants(mutants::Mutants),
    /// Runs what comes as JSON lines on standard input.
    #[command(hide = true)]
    Worker,
}

/// Parses the arguments and runs the command: 0 when everything held, 1 when something failed, 2 for bad arguments.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(command) => command.run(),
        Command::Replay(command) => command.run(),
        Command::Shrink(command) => command.run(),
        Command::Meta(command) => command.run(),
        Command::Regressions(command) => command.run(),
        Command::Mutants(command) => command.run(),
        Command::Worker => worker::serve(),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Refuses a mutant that this build does not have: the run would show nothing.
fn check_mutant(mutant: Option<&str>) -> anyhow::Result<()> {
    let Some(name) = mutant else { return Ok(()) };
    anyhow::ensure!(cfg!(feature = "mutants"), "this build has no mutants: build it with `--features mutants`");
    anyhow::ensure!(MUTANTS.iter().any(|mutant| mutant.name == name), "there is no mutant {name}");
    Ok(())
}
