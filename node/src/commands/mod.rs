//! The `seawall` command line: one file a subcommand.

mod agent;
mod check;
mod cluster;
mod cluster_call;
mod databases;
mod demo;
mod error;
mod health;
mod history;
mod logging;
mod node;
mod progress;
mod restore;
mod restore_sources;
mod retention;
mod source_args;
mod status;
mod sync;
mod verify;
mod version;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use seawall_host::probe;

use self::error::CommandError;
use self::logging::LoggingArgs;

/// High-availability backup for SQLite: every commit on a majority of nodes, every state restorable.
#[derive(Parser)]
#[command(name = "seawall", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    logging: LoggingArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show what Seawall does: an embedded cluster, an application, a killed leader, restores that are compared.
    Demo(demo::DemoArgs),
    /// Run a replicator node.
    Node(node::NodeArgs),
    /// Run an agent beside an application: it ships what the application commits.
    Agent(agent::AgentArgs),
    /// Give a database back, from a cluster or from a destination.
    Restore(restore::RestoreArgs),
    /// List what can be restored from a cluster or from a destination, and what is lost.
    History(history::HistoryArgs),
    /// Have the local agent ship everything committed so far, and wait for a receipt.
    Sync(sync::SyncArgs),
    /// Verify what a cluster or a destination holds.
    Verify(verify::VerifyArgs),
    /// Show what has expired at destinations and would be deleted.
    Retention(retention::RetentionArgs),
    /// Show the cluster: nodes, databases, destinations.
    Status(status::StatusArgs),
    /// Add, replace and remove nodes of a running cluster, and choose who leads it.
    Cluster(cluster::ClusterOperationArgs),
    /// Ask a node whether it serves, for health checks.
    Health(health::HealthArgs),
    /// List the databases of a cluster.
    Databases(databases::DatabasesArgs),
    /// Show the versions of Seawall and of the SQLite inside.
    Version(version::VersionArgs),
}

/// Runs the command line of this process. Exit codes: 0 fine, 1 failure, 2 wrong usage or configuration.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("seawall: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<(), CommandError> {
    // Services tell what they do; the other commands print their result and what is wrong. openraft warns of every call
    // to a node that is down: its words are for those who ask for them.
    let default = match cli.command {
        Command::Node(_) | Command::Agent(_) => "info,openraft=error",
        Command::Demo(_) => "error",
        _ => "warn",
    };
    cli.logging.install(default);
    seawall_host::real::install();
    if let Some(defects) = probe::defects() {
        tracing::warn!("this program was {defects}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CommandError::failure(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Demo(args) => args.run().await,
            Command::Node(args) => args.run().await,
            Command::Agent(args) => args.run().await,
            Command::Restore(args) => args.run().await,
            Command::History(args) => args.run().await,
            Command::Sync(args) => args.run().await,
            Command::Status(args) => args.run().await,
            Command::Cluster(args) => args.run().await,
            Command::Health(args) => args.run().await,
            Command::Databases(args) => args.run().await,
            Command::Retention(args) => args.run().await,
            Command::Verify(args) => args.run().await,
            Command::Version(args) => args.run(),
        }
    });
    // A blocking call that hangs, on a dead disk for instance, must not keep the program.
    runtime.shutdown_background();
    outcome
}

/// Prints a result as JSON.
fn print_json(value: &impl serde::Serialize) -> Result<(), CommandError> {
    let text = serde_json::to_string(value).map_err(|error| CommandError::failure(error.to_string()))?;
    print(&text)
}

/// Prints a line of a result. An error if nobody takes it.
fn print(line: &str) -> Result<(), CommandError> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{line}").map_err(|error| CommandError::failure(format!("standard output: {error}")))
}
