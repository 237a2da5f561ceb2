//! `seawall cluster`: one file an operation.

mod add_node;
mod operation;
mod promote;
mod remove_node;
mod replace_node;
mod status;
mod transfer_leader;
mod way;

use clap::{Args, Subcommand};

use super::error::CommandError;

/// Add, replace and remove nodes of a running cluster, and choose who leads it. Each of these may be stopped at any time
/// and run again: it goes on where it is, and says so where there is nothing to do.
#[derive(Args)]
pub(super) struct ClusterOperationArgs {
    #[command(subcommand)]
    operation: Operation,
}

#[derive(Subcommand)]
enum Operation {
    /// Show the members: who votes, what each of them holds, what operations would come to now.
    Status(status::StatusArgs),
    /// Add a node, without a vote: a started one with an empty data directory.
    AddNode(add_node::AddNodeArgs),
    /// Give a member a vote, once it holds the log and every image.
    Promote(promote::PromoteArgs),
    /// Remove a node. If it leads, it hands over first.
    RemoveNode(remove_node::RemoveNodeArgs),
    /// Have a node take another's place, which may be dead: adds it, waits for it, gives it the vote, removes the other.
    ReplaceNode(replace_node::ReplaceNodeArgs),
    /// Have another node lead.
    TransferLeader(transfer_leader::TransferLeaderArgs),
}

impl ClusterOperationArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        match self.operation {
            Operation::Status(args) => args.run().await,
            Operation::AddNode(args) => args.run().await,
            Operation::Promote(args) => args.run().await,
            Operation::RemoveNode(args) => args.run().await,
            Operation::ReplaceNode(args) => args.run().await,
            Operation::TransferLeader(args) => args.run().await,
        }
    }
}
