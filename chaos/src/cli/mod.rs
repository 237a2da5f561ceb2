//! The command line.

mod child;
mod judge;
mod mutants;
mod play;
mod progress;
mod run;
mod scenarios;
mod seawall;
mod soak;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs real clusters, applications and destinations on hosts of their own, does to them what happens to machines, and judges
/// whether what was promised was kept.
#[derive(Parser)]
#[command(name = "chaos", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Run),
    Soak(soak::Soak),
    Scenarios(scenarios::Scenarios),
    /// Judge a history again.
    Judge {
        /// The file.
        history: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    Mutants(mutants::Mutants),
    #[command(hide = true)]
    Play(play::Play),
}

pub(crate) use judge::verdict;

/// Parses the arguments and runs the command: 0 when everything held, 1 when something failed, 2 for bad arguments.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(command) => command.run(),
        Command::Soak(command) => command.run(),
        Command::Scenarios(command) => command.run(),
        Command::Judge { history, json } => judge::judge(&history, json),
        Command::Mutants(command) => command.run(),
        Command::Play(command) => command.run(),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
