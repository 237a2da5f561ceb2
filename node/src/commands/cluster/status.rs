//! `seawall cluster status`.

use std::time::Duration;

use clap::Args;
use seawall_host::time::Instant;
use seawall_proto::v1::{MemberReport, MembershipReport};
use serde::Serialize;

use super::way::Way;
use crate::commands::cluster_call::{ClusterArgs, table};
use crate::commands::error::CommandError;
use crate::commands::{print, print_json};

/// Show the members as the leader sees them: who votes, what each of them holds, what does not fit, and what operations
/// would come to now.
#[derive(Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// How long a leader may take to answer.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "30s")]
    timeout: Duration,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The membership, as printed.
#[derive(Serialize)]
struct MembershipView {
    cluster: String,
    /// Index of the log at which this was read.
    log_index: u64,
    /// A change of voters was begun and is not complete.
    changing: bool,
    nodes: Vec<MemberView>,
    /// What is at no destination yet, by database.
    exposed: Vec<String>,
    warnings: Vec<String>,
    outlook: Vec<String>,
}

#[derive(Serialize)]
struct MemberView {
    id: u64,
    /// The random id of its data directory.
    raft_id: String,
    address: String,
    role: String,
    reachable: bool,
    applied: u64,
    databases_held: u64,
    databases: u64,
    missing: Vec<String>,
    gaps: Vec<String>,
}

impl From<MembershipReport> for MembershipView {
    fn from(report: MembershipReport) -> Self {
        let MembershipReport { cluster, log_index, members, changing, exposed, warnings, outlook } = report;
        let nodes = members.into_iter().map(Into::into).collect();
        Self { cluster, log_index, changing, nodes, exposed, warnings, outlook }
    }
}

impl From<MemberReport> for MemberView {
    fn from(member: MemberReport) -> Self {
        let MemberReport { id, raft_id, address, role, reachable, applied, databases_held, databases, missing, gaps } =
            member;
        let raft_id = format!("{raft_id:016x}");
        Self { id, raft_id, address, role, reachable, applied, databases_held, databases, missing, gaps }
    }
}

impl StatusArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let report = Way::to(&self.cluster).membership(Instant::now() + self.timeout).await?;
        let view = MembershipView::from(report);
        if self.json { print_json(&view) } else { show(&view).iter().try_for_each(|line| print(line)) }
    }
}

/// The membership for people.
fn show(view: &MembershipView) -> Vec<String> {
    let mut lines = vec![format!("cluster {}, log index {}", view.cluster, view.log_index)];
    if view.changing {
        lines.push("a change of voters was begun and is not complete: the next operation completes it".to_owned());
    }
    lines.extend(view.warnings.iter().map(|warning| format!("WARNING: {warning}")));
    lines.push(String::new());
    let mut rows = vec![["NODE", "ADDRESS", "ROLE", "APPLIED", "DATABASES", "LACKS"].map(str::to_owned).to_vec()];
    for node in &view.nodes {
        let role = if node.reachable { node.role.clone() } else { format!("{}, silent", node.role) };
        let lacks: Vec<&str> = node.missing.iter().chain(&node.gaps).map(String::as_str).collect();
        let (applied, held) = match node.reachable {
            true => (node.applied.to_string(), format!("{} of {}", node.databases_held, node.databases)),
            false => ("-".to_owned(), "-".to_owned()),
        };
        let lacks = if lacks.is_empty() { "-".to_owned() } else { lacks.join("; ") };
        rows.push(vec![node.id.to_string(), node.address.clone(), role, applied, held, lacks]);
    }
    lines.extend(table(&rows));
    if !view.exposed.is_empty() {
        lines.push(String::new());
        lines.push("at no destination yet:".to_owned());
        lines.extend(view.exposed.iter().map(|exposed| format!("  {exposed}")));
    }
    lines.push(String::new());
    lines.extend(view.outlook.iter().cloned());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> MembershipView {
        let member = |id, role: &str, reachable| MemberReport {
            id,
            raft_id: id,
            address: format!("h{id}:7400"),
            role: role.to_owned(),
            reachable,
            applied: 17,
            databases_held: 1,
            databases: 2,
            missing: if id == 4 { vec!["app: it does not know of it yet".to_owned()] } else { Vec::new() },
            gaps: Vec::new(),
        };
        MembershipReport {
            cluster: "prod".to_owned(),
            log_index: 17,
            members: vec![member(1, "leader", true), member(2, "voter", false), member(4, "learner", true)],
            changing: false,
            exposed: vec!["app: txid 3 to 4".to_owned()],
            warnings: vec!["node 2 at h2:7400 does not answer".to_owned()],
            outlook: vec!["none may fail".to_owned()],
        }
        .into()
    }

    #[test]
    fn text_shows_who_is_what_and_what_is_missing() {
        let text = show(&view()).join("\n");
        for line in [
            "cluster prod, log index 17\nWARNING: node 2 at h2:7400 does not answer\n",
            "1     h1:7400  leader         17       1 of 2     -",
            "2     h2:7400  voter, silent  -        -          -",
            "4     h4:7400  learner        17       1 of 2     app: it does not know of it yet",
            "at no destination yet:\n  app: txid 3 to 4\n",
        ] {
            assert!(text.contains(line), "{line}\n---\n{text}");
        }
    }

    #[test]
    fn json_has_the_promised_keys() {
        let json = serde_json::to_value(view()).unwrap();
        let node = serde_json::json!({
            "id": 4, "raft_id": "0000000000000004", "address": "h4:7400", "role": "learner", "reachable": true,
            "applied": 17, "databases_held": 1, "databases": 2, "missing": ["app: it does not know of it yet"], "gaps": [],
        });
        assert_eq!(json["nodes"][2], node);
        for key in ["cluster", "log_index", "changing", "exposed", "warnings", "outlook"] {
            assert!(!json[key].is_null(), "{key}");
        }
    }
}
