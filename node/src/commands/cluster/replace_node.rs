//! `seawall cluster replace-node`.

use clap::Args;
use seawall_host::net::Address;
use seawall_proto::v1::ReplaceNodeGoal;
use seawall_proto::v1::change_membership_request::Goal;

use super::operation::OperationArgs;
use crate::commands::error::CommandError;

/// Have a node take another's place, which may be dead: adds it, waits until it holds everything, gives it the vote in the
/// same step in which the other gives up its own, and removes that one. A node that comes back with an empty data directory
/// replaces itself: `replace-node 3 --with 3 HOST:PORT`.
#[derive(Args)]
pub(super) struct ReplaceNodeArgs {
    #[command(flatten)]
    operation: OperationArgs,
    /// The id of the node that goes.
    #[arg(value_name = "OLD", value_parser = clap::value_parser!(u64).range(1..))]
    old: u64,
    /// The id of the node that comes, as its node.yml has it.
    #[arg(long, value_name = "NEW", value_parser = clap::value_parser!(u64).range(1..))]
    with: u64,
    /// Where the other nodes and agents reach it.
    #[arg(value_name = "HOST:PORT")]
    address: Address,
    /// Do not wait for destinations that are behind, and go on even if what is at no destination yet would be on few nodes.
    /// What may be lost is said.
    #[arg(long)]
    force: bool,
}

impl ReplaceNodeArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let goal = ReplaceNodeGoal { old: self.old, id: self.with, address: self.address.to_string() };
        self.operation.run("replace-node", Goal::Replace(goal), self.force).await
    }
}
