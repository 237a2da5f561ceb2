//! `seawall cluster remove-node`.

use clap::Args;
use seawall_proto::v1::RemoveNodeGoal;
use seawall_proto::v1::change_membership_request::Goal;

use super::operation::OperationArgs;
use crate::commands::error::CommandError;

/// Remove a node, dead or alive. Its data directory is of no use afterwards. If it leads, it hands over first. Refused if
/// the voters that would remain and answer are no majority (always), or if what is at no destination yet would be on fewer
/// than a majority of the nodes that vote now.
#[derive(Args)]
pub(super) struct RemoveNodeArgs {
    #[command(flatten)]
    operation: OperationArgs,
    /// Its id.
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
    /// Remove it even if what is at no destination yet would be on few nodes: it is lost if those are. What that is, is said.
    #[arg(long)]
    force: bool,
}

impl RemoveNodeArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        self.operation.run("remove-node", Goal::Remove(RemoveNodeGoal { id: self.id }), self.force).await
    }
}
