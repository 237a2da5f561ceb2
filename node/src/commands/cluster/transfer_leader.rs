//! `seawall cluster transfer-leader`.

use clap::Args;
use seawall_host::time::Instant;
use seawall_proto::v1::TransferLeaderGoal;
use seawall_proto::v1::change_membership_request::Goal;

use super::operation::OperationArgs;
use super::way::Way;
use crate::commands::error::CommandError;

/// Have another node lead, and wait until it does.
#[derive(Args)]
pub(super) struct TransferLeaderArgs {
    #[command(flatten)]
    operation: OperationArgs,
    /// Who is to lead; any other voter if not given.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    to: Option<u64>,
}

impl TransferLeaderArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let from = match self.to {
            // Whoever leads, it is to be this one.
            Some(_) => 0,
            None => {
                let deadline = Instant::now() + self.operation.timeout;
                let report = Way::to(&self.operation.cluster).membership(deadline).await?;
                report.members.iter().find(|member| member.role == "leader").map_or(0, |leader| leader.id)
            }
        };
        let goal = TransferLeaderGoal { to: self.to.unwrap_or_default(), from };
        self.operation.run("transfer-leader", Goal::Transfer(goal), false).await
    }
}
