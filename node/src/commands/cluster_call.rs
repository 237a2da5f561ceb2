//! Asking a cluster how it stands.

use std::time::Duration;

use clap::Args;
use seawall_host::net::{Address, Channel, ChannelOptions};
use seawall_host::time::{self, UnixMillis};
use seawall_proto::MAX_MESSAGE_BYTES;
use seawall_proto::checksum::Checksum;
use seawall_proto::v1::cluster_client::ClusterClient;
use seawall_proto::v1::{
    DatabaseStatus, DestinationStatus, GetStatusRequest, GetStatusResponse, NodeStatus, VerificationResult,
};
use serde::Serialize;

use super::error::CommandError;
use crate::restore::show_time;

/// How long a node may take to answer; it waits for its peers in that time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Which cluster.
#[derive(Args)]
pub(super) struct ClusterArgs {
    /// Nodes of the cluster; the first one that answers will do.
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',', required = true)]
    pub(super) cluster: Vec<Address>,
}

impl ClusterArgs {
    /// The status from the first node that answers.
    pub(super) async fn status(&self) -> Result<GetStatusResponse, CommandError> {
        let mut failures = Vec::new();
        for address in &self.cluster {
            let channel = Channel::new(address, ChannelOptions::default());
            let mut client = ClusterClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
            match time::timeout(ANSWER_TIMEOUT, client.get_status(GetStatusRequest { local_only: false })).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => failures.push(format!("{address}: {}", status.message())),
                Err(_) => failures.push(format!("{address}: no answer within {ANSWER_TIMEOUT:?}")),
            }
        }
        let failures = failures.join("; ");
        Err(CommandError::failure(format!("no node answers ({failures}); check the addresses and that one runs")))
    }
}

/// A node, as printed.
#[derive(Serialize)]
pub(super) struct NodeView {
    pub(super) id: u64,
    pub(super) address: String,
    pub(super) role: String,
    pub(super) term: u64,
    pub(super) applied: u64,
    pub(super) reachable: bool,
    pub(super) disk_free_bytes: u64,
    pub(super) disk_reserve_bytes: u64,
}

impl From<NodeStatus> for NodeView {
    fn from(node: NodeStatus) -> Self {
        let NodeStatus { id, address, role, term, applied, reachable, disk_free, disk_reserve } = node;
        let (disk_free_bytes, disk_reserve_bytes) = (disk_free, disk_reserve);
        Self { id, address, role, term, applied, reachable, disk_free_bytes, disk_reserve_bytes }
    }
}

/// A database, as printed.
#[derive(Serialize)]
pub(super) struct DatabaseView {
    pub(super) name: String,
    pub(super) lineage: u64,
    pub(super) epoch: u64,
    pub(super) txid: u64,
    pub(super) checksum: String,
    /// When the newest transaction was committed; nothing while there is none.
    pub(super) time: Option<String>,
    pub(super) destinations: Vec<DestinationView>,
}

impl From<DatabaseStatus> for DatabaseView {
    fn from(database: DatabaseStatus) -> Self {
        let head = database.head.unwrap_or_default();
        Self {
            name: database.name,
            lineage: head.lineage,
            epoch: database.epoch,
            txid: head.txid,
            checksum: Checksum(head.checksum).to_string(),
            time: (head.txid > 0).then(|| show_time(UnixMillis(head.commit_time_ms))),
            destinations: database.destinations.into_iter().map(Into::into).collect(),
        }
    }
}

/// A database at a destination, as printed.
#[derive(Serialize)]
pub(super) struct DestinationView {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) watermark: u64,
    pub(super) lag_txids: u64,
    pub(super) lag_seconds: f64,
    pub(super) last_error: Option<String>,
    /// When an upload last succeeded under the present leader.
    pub(super) last_success: Option<String>,
    /// Bytes of log that are kept for it.
    pub(super) backlog_bytes: u64,
    /// What the last verification found; nothing before the first.
    pub(super) verification: Option<VerificationView>,
}

/// What a verification found, as printed.
#[derive(Serialize)]
pub(super) struct VerificationView {
    /// When it ended.
    pub(super) time: String,
    /// The newest state that was rebuilt and proven; nothing if none was.
    pub(super) txid: Option<u64>,
    /// Whether no problem remains.
    pub(super) ok: bool,
    /// What remains.
    pub(super) problem: Option<String>,
    /// Damaged objects that could not be replaced.
    pub(super) damaged_objects: u64,
    /// Objects that were replaced so far.
    pub(super) healed_objects: u64,
    /// Transactions that cannot be had one by one any more, there or anywhere else.
    pub(super) lost_transactions: u64,
}

impl From<VerificationResult> for VerificationView {
    fn from(found: VerificationResult) -> Self {
        Self {
            time: show_time(UnixMillis(found.time_ms)),
            txid: (found.txid > 0).then_some(found.txid),
            ok: found.problems == 0,
            problem: (found.problems > 0).then_some(found.text),
            damaged_objects: found.damaged,
            healed_objects: found.healed,
            lost_transactions: found.lost_transactions,
        }
    }
}

impl From<DestinationStatus> for DestinationView {
    fn from(destination: DestinationStatus) -> Self {
        let DestinationStatus { name, state, watermark, lag_txids, lag_seconds, last_error, .. } = destination;
        let last_error = (!last_error.is_empty()).then_some(last_error);
        let last_success = destination.last_success_ms;
        let last_success = (last_success != 0).then(|| show_time(UnixMillis(last_success)));
        let backlog_bytes = destination.backlog_bytes;
        let verification = destination.verification.map(Into::into);
        Self { name, state, watermark, lag_txids, lag_seconds, last_error, last_success, backlog_bytes, verification }
    }
}

/// Lays rows out in columns; the first row is the heading.
pub(super) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// The rows of a table of databases.
pub(super) fn database_rows(databases: &[DatabaseView]) -> Vec<Vec<String>> {
    let heading = ["DATABASE", "LINEAGE", "EPOCH", "TXID", "CHECKSUM", "TIME"];
    let rows = databases.iter().map(|database| {
        let time = database.time.clone().unwrap_or_else(|| "-".to_owned());
        let numbers = [database.lineage, database.epoch, database.txid].map(|number| number.to_string());
        let mut row = vec![database.name.clone()];
        row.extend(numbers);
        row.extend([database.checksum.clone(), time]);
        row
    });
    std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows).collect()
}
