//! `seawall sync`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use seawall_host::net::{Address, Channel, ChannelOptions};
use seawall_host::time;
use seawall_proto::checksum::Checksum;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::v1::agent_client::AgentClient;
use seawall_proto::v1::{SyncRequest, SyncResponse};
use serde::Serialize;
use tonic::Code;

use super::error::CommandError;
use super::{print, print_json};

/// What the agent is given beyond the time-out it was told, to say that it passed.
const ANSWER_MARGIN: Duration = Duration::from_secs(2);

/// Have the local agent ship everything committed so far, and wait for a receipt.
#[derive(Args)]
pub(super) struct SyncArgs {
    /// The agent's unix socket.
    #[arg(long, value_name = "PATH", default_value = "agent.sock")]
    socket: PathBuf,
    /// The database's name in the cluster.
    database: DatabaseName,
    /// What to wait for: `quorum` (a majority of nodes), `all` destinations too, or one destination's name.
    #[arg(long, value_name = "quorum|all|DESTINATION", default_value = "quorum")]
    receipt: String,
    /// How long to wait, such as 500ms, 30s, 5m.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "30s")]
    timeout: Duration,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A receipt, as printed.
#[derive(Serialize)]
struct SyncView {
    database: String,
    lineage: u64,
    epoch: u64,
    txid: u64,
    checksum: String,
    receipt: ReceiptView,
}

#[derive(Serialize)]
struct ReceiptView {
    quorum: u64,
    destinations: BTreeMap<String, u64>,
}

impl From<SyncResponse> for SyncView {
    fn from(answer: SyncResponse) -> Self {
        Self {
            database: answer.database,
            lineage: answer.lineage,
            epoch: answer.epoch,
            txid: answer.txid,
            checksum: Checksum(answer.checksum).to_string(),
            receipt: ReceiptView { quorum: answer.quorum, destinations: answer.destinations.into_iter().collect() },
        }
    }
}

impl SyncArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let timeout_ms = u32::try_from(self.timeout.as_millis())
            .map_err(|_| CommandError::usage("--timeout: at most 49 days can be waited for"))?;
        let socket = std::path::absolute(&self.socket).unwrap_or(self.socket);
        let shown = socket.display().to_string();
        let channel = Channel::new(&Address::Unix(socket), ChannelOptions::default());
        let request = SyncRequest { database: self.database.to_string(), receipt: self.receipt, timeout_ms };
        let mut client = AgentClient::new(channel);
        let answer = time::timeout(self.timeout + ANSWER_MARGIN, client.sync(request)).await;
        let answer = match answer {
            Ok(Ok(answer)) => SyncView::from(answer.into_inner()),
            Ok(Err(status)) if status.code() == Code::Unavailable => {
                let advice = "check that it runs and that --socket is the `socket` of its configuration";
                let message = format!("the agent at {shown} cannot be reached: {}; {advice}", status.message());
                return Err(CommandError::failure(message));
            }
            Ok(Err(status)) => return Err(CommandError::failure(format!("{}: {}", self.database, status.message()))),
            Err(_) => {
                let message = format!("the agent at {shown} gave no answer within {:?}", self.timeout + ANSWER_MARGIN);
                return Err(CommandError::failure(message));
            }
        };
        if self.json { print_json(&answer) } else { print(&show(&answer)) }
    }
}

fn show(answer: &SyncView) -> String {
    let SyncView { database, lineage, epoch, txid, checksum, receipt } = answer;
    let mut line = format!("{database} lineage {lineage} epoch {epoch} txid {txid} checksum {checksum}");
    line.push_str(&format!(" quorum {}", receipt.quorum));
    for (destination, txid) in &receipt.destinations {
        line.push_str(&format!(" {destination} {txid}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_promised_keys() {
        let answer = SyncResponse {
            database: "app".to_owned(),
            lineage: 1,
            epoch: 2,
            txid: 3,
            checksum: 0xc0ffee,
            quorum: 3,
            destinations: [("s3".to_owned(), 2)].into_iter().collect(),
        };
        let view = SyncView::from(answer);
        let expected = serde_json::json!({
            "database": "app", "lineage": 1, "epoch": 2, "txid": 3, "checksum": "0000000000c0ffee",
            "receipt": { "quorum": 3, "destinations": { "s3": 2 } },
        });
        assert_eq!(serde_json::to_value(&view).unwrap(), expected);
        assert_eq!(show(&view), "app lineage 1 epoch 2 txid 3 checksum 0000000000c0ffee quorum 3 s3 2");
    }
}
