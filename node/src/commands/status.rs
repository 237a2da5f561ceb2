//! `seawall status`.

use clap::Args;
use seawall_proto::v1::GetStatusResponse;
use serde::Serialize;

use super::cluster_call::{ClusterArgs, DatabaseView, NodeView, database_rows, table};
use super::error::CommandError;
use super::{print, print_json};

/// Show the cluster: nodes, databases, destinations.
#[derive(Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The cluster, as printed.
#[derive(Serialize)]
struct StatusView {
    cluster: String,
    /// The leader's id; nothing while there is none.
    leader: Option<u64>,
    /// What keeps the cluster from acknowledging, if anything does.
    problem: Option<String>,
    nodes: Vec<NodeView>,
    databases: Vec<DatabaseView>,
}

impl From<GetStatusResponse> for StatusView {
    fn from(status: GetStatusResponse) -> Self {
        Self {
            cluster: status.cluster,
            leader: (status.leader != 0).then_some(status.leader),
            problem: (!status.problem.is_empty()).then_some(status.problem),
            nodes: status.nodes.into_iter().map(Into::into).collect(),
            databases: status.databases.into_iter().map(Into::into).collect(),
        }
    }
}

impl StatusArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let status = StatusView::from(self.cluster.status().await?);
        if self.json { print_json(&status) } else { show(&status).iter().try_for_each(|line| print(line)) }
    }
}

fn row(cells: &[&dyn ToString]) -> Vec<String> {
    cells.iter().map(|cell| cell.to_string()).collect()
}

/// The status for people.
fn show(status: &StatusView) -> Vec<String> {
    let leader = status.leader.map_or_else(|| "none".to_owned(), |leader| format!("node {leader}"));
    let mut lines = vec![format!("cluster {}, leader {leader}", status.cluster)];
    lines.extend(status.problem.iter().map(|problem| format!("PROBLEM: {problem}")));
    lines.push(String::new());
    let mut nodes = vec![row(&[&"NODE", &"ADDRESS", &"ROLE", &"TERM", &"APPLIED", &"DISK FREE"])];
    nodes.extend(status.nodes.iter().map(|node| {
        let free =
            if node.reachable { indicatif::BinaryBytes(node.disk_free_bytes).to_string() } else { "-".to_owned() };
        row(&[&node.id, &node.address, &node.role, &node.term, &node.applied, &free])
    }));
    lines.extend(table(&nodes));
    lines.push(String::new());
    lines.extend(table(&database_rows(&status.databases)));
    let mut destinations = vec![row(&[
        &"DATABASE",
        &"DESTINATION",
        &"STATE",
        &"WATERMARK",
        &"BEHIND",
        &"BACKLOG",
        &"LAST SUCCESS",
        &"LAST ERROR",
    ])];
    for database in &status.databases {
        destinations.extend(database.destinations.iter().map(|destination| {
            let behind = format!("{} ({:.1} s)", destination.lag_txids, destination.lag_seconds);
            let error = destination.last_error.as_deref().unwrap_or("-");
            let (name, state, watermark) = (&destination.name, &destination.state, &destination.watermark);
            let backlog = indicatif::BinaryBytes(destination.backlog_bytes);
            let success = destination.last_success.as_deref().unwrap_or("-");
            row(&[&database.name, name, state, watermark, &behind, &backlog, &success, &error])
        }));
    }
    if destinations.len() > 1 {
        lines.push(String::new());
        lines.extend(table(&destinations));
    }
    let verifications = verification_rows(status);
    if verifications.len() > 1 {
        lines.push(String::new());
        lines.extend(table(&verifications));
    }
    lines
}

/// The rows of what verifications found.
fn verification_rows(status: &StatusView) -> Vec<Vec<String>> {
    let mut rows = vec![row(&[
        &"DATABASE",
        &"DESTINATION",
        &"VERIFIED",
        &"TXID",
        &"HEALED",
        &"DAMAGED",
        &"LOST TXIDS",
        &"RESULT",
    ])];
    for database in &status.databases {
        for destination in &database.destinations {
            let Some(found) = &destination.verification else { continue };
            let txid = found.txid.map_or_else(|| "-".to_owned(), |txid| txid.to_string());
            let (healed, damaged, lost) = (&found.healed_objects, &found.damaged_objects, &found.lost_transactions);
            let result = found.problem.as_deref().unwrap_or("ok");
            rows.push(row(&[&database.name, &destination.name, &found.time, &txid, healed, damaged, lost, &result]));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use seawall_proto::v1::{DatabaseStatus, DestinationStatus, Head, NodeStatus, VerificationResult};

    use super::*;

    fn status() -> StatusView {
        let node = NodeStatus {
            id: 1,
            address: "127.0.0.1:7400".to_owned(),
            role: "leader".to_owned(),
            term: 3,
            applied: 17,
            reachable: true,
            disk_free: 1 << 30,
            disk_reserve: 1 << 20,
        };
        let destination = DestinationStatus {
            name: "local".to_owned(),
            state: "healthy".to_owned(),
            watermark: 8,
            lag_txids: 1,
            lag_seconds: 0.25,
            last_error: String::new(),
            last_success_ms: 1_700_000_000_123,
            backlog_bytes: 3 << 20,
            verification: Some(VerificationResult {
                txid: 7,
                time_ms: 1_700_000_000_123,
                problems: 1,
                text: "an object is damaged".to_owned(),
                damaged: 1,
                healed: 3,
                ..VerificationResult::default()
            }),
        };
        let head = Head { lineage: 1, txid: 9, checksum: 0xab, commit_time_ms: 1_700_000_000_123, ..Head::default() };
        let database = DatabaseStatus {
            name: "app".to_owned(),
            head: Some(head),
            epoch: 2,
            agent: String::new(),
            destinations: vec![destination],
        };
        let (nodes, databases) = (vec![node], vec![database]);
        GetStatusResponse { cluster: "prod".to_owned(), leader: 1, nodes, databases, problem: String::new() }.into()
    }

    #[test]
    fn json_has_the_promised_keys() {
        let json = serde_json::to_value(status()).unwrap();
        let expected = serde_json::json!({
            "cluster": "prod", "leader": 1, "problem": null,
            "nodes": [{
                "id": 1, "address": "127.0.0.1:7400", "role": "leader", "term": 3, "applied": 17, "reachable": true,
                "disk_free_bytes": 1_073_741_824, "disk_reserve_bytes": 1_048_576,
            }],
            "databases": [{
                "name": "app", "lineage": 1, "epoch": 2, "txid": 9, "checksum": "00000000000000ab",
                "time": "2023-11-14T22:13:20.123Z",
                "destinations": [{
                    "name": "local", "state": "healthy", "watermark": 8, "lag_txids": 1, "lag_seconds": 0.25,
                    "last_error": null, "last_success": "2023-11-14T22:13:20.123Z", "backlog_bytes": 3_145_728,
                    "verification": {
                        "time": "2023-11-14T22:13:20.123Z", "txid": 7, "ok": false, "problem": "an object is damaged",
                        "damaged_objects": 1, "healed_objects": 3, "lost_transactions": 0,
                    },
                }],
            }],
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn text_shows_problems_and_lags() {
        let mut status = status();
        status.leader = None;
        status.problem = Some("no majority".to_owned());
        let text = show(&status).join("\n");
        assert!(text.starts_with("cluster prod, leader none\nPROBLEM: no majority\n"), "{text}");
        assert!(
            text.contains(
                "app       local        healthy  8          1 (0.2 s)  3.00 MiB  2023-11-14T22:13:20.123Z  -"
            ),
            "{text}"
        );
        let verified =
            "app       local        2023-11-14T22:13:20.123Z  7     3       1        0           an object is damaged";
        assert!(text.contains(verified), "{text}");
        status.databases[0].destinations[0].verification = None;
        assert!(!show(&status).join("\n").contains("VERIFIED"));
    }
}
