//! `seawall cluster add-node`.

use clap::{ArgAction, Args};
use seawall_host::net::Address;
use seawall_proto::v1::AddNodeGoal;
use seawall_proto::v1::change_membership_request::Goal;

use super::operation::OperationArgs;
use crate::commands::error::CommandError;

/// Add a node, without a vote: a started one with an empty data directory, whose node.yml lists the cluster's nodes and
/// itself. While it does not answer, it is waited for.
#[derive(Args)]
pub(super) struct AddNodeArgs {
    #[command(flatten)]
    operation: OperationArgs,
    /// Its id, as its node.yml has it.
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
    /// Where the other nodes and agents reach it.
    #[arg(value_name = "HOST:PORT")]
    address: Address,
    /// Wait until it holds the log and the image of every database.
    #[arg(long, action = ArgAction::Set, default_value_t = true, value_name = "true|false")]
    wait: bool,
}

impl AddNodeArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let goal = AddNodeGoal { id: self.id, address: self.address.to_string(), hydrated: self.wait };
        self.operation.run("add-node", Goal::Add(goal), false).await
    }
}
