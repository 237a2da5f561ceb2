//! `seawall cluster promote`.

use clap::Args;
use seawall_proto::v1::PromoteNodeGoal;
use seawall_proto::v1::change_membership_request::Goal;

use super::operation::OperationArgs;
use crate::commands::error::CommandError;

/// Give a member a vote, once it holds the log, the image of every database, and what destinations still need of the log.
#[derive(Args)]
pub(super) struct PromoteArgs {
    #[command(flatten)]
    operation: OperationArgs,
    /// Its id.
    #[arg(value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
    /// Do not wait for destinations that are behind: if it comes to lead, their history gets a gap.
    #[arg(long)]
    force: bool,
}

impl PromoteArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        self.operation.run("promote", Goal::Promote(PromoteNodeGoal { id: self.id }), self.force).await
    }
}
