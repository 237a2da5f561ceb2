//! A node that is added when the log of its beginning is gone: it is given the state as a snapshot, and votes once it could
//! lead without a gap at any destination.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "support/history.rs"]
mod history;
#[path = "support/nodes.rs"]
mod nodes;

use std::fs;
use std::process::Command;
use std::time::Duration;

use history::History;
use nodes::{Cluster, PATIENCE};
use seawall_host::net::{Address, Channel, ChannelOptions};
use seawall_host::real::free_port;
use seawall_host::time::{self, Instant};
use seawall_node::node::NodeSizes;
use seawall_proto::v1;
use seawall_proto::v1::change_membership_request::Goal;
use seawall_proto::v1::change_membership_response::Outcome;
use seawall_proto::v1::cluster_client::ClusterClient;

/// Asks the leader for one step.
async fn step(cluster: &Cluster, goal: &Goal) -> Option<Outcome> {
    let leader = cluster.wait(0, |status| status.leader != 0).await.leader;
    let channel = Channel::new(&cluster.addresses[leader as usize - 1], ChannelOptions::default());
    let request = v1::ChangeMembershipRequest { operation: 7, force: false, goal: Some(goal.clone()) };
    ClusterClient::new(channel).change_membership(request).await.unwrap().into_inner().outcome
}

/// Takes steps until one is as `wanted`, past everything that passes.
async fn until(cluster: &Cluster, goal: Goal, wanted: impl Fn(&Outcome) -> bool) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let outcome = step(cluster, &goal).await.unwrap();
        if wanted(&outcome) {
            return outcome;
        }
        let passes = matches!(&outcome, Outcome::Stepped(_) | Outcome::Waiting(_) | Outcome::NotLeader(_))
            || matches!(&outcome, Outcome::Refused(refusal) if refusal.may_pass);
        assert!(passes && Instant::now() < deadline, "{goal:?}: {outcome:?}");
        time::sleep(Duration::from_millis(50)).await;
    }
}

async fn reach(cluster: &Cluster, goal: Goal) {
    until(cluster, goal, |outcome| matches!(outcome, Outcome::Done(_))).await;
}

/// Every object of a destination.
fn objects(cluster: &Cluster, destination: &str) -> Vec<String> {
    let listed = fs::read_dir(cluster.directory.path().join(destination).join("app/@1/0")).into_iter().flatten();
    listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_votes_once_it_could_lead_without_a_gap_at_any_destination() {
    let mut sizes = NodeSizes { snapshot_bytes: 4 << 10, keep_entries: 0, ..NodeSizes::default() };
    sizes.log.piece_bytes = 16 << 10;
    let destinations =
        ["here", "away"].map(|name| format!("{{ name: {name}, url: \"file://{name}\", upload-interval: 100ms }}"));
    let mut cluster = Cluster::start(&destinations.join(", "), sizes).await;
    let history = History::random(400, 5);
    cluster.ship(&history, 100).await;
    let is_there = |txid: u64| {
        move |status: &v1::GetStatusResponse| {
            let databases = status.databases.first();
            databases.is_some_and(|app| app.destinations.iter().all(|one| one.watermark >= txid))
        }
    };
    cluster.wait(0, is_there(100)).await;

    // One destination goes away, and the log that it still needs is in no Raft log any more.
    let root = cluster.directory.path().to_owned();
    fs::rename(root.join("away"), root.join("away.kept")).unwrap();
    fs::write(root.join("away"), "").unwrap();
    cluster.ship(&history, 300).await;
    let deadline = Instant::now() + PATIENCE;
    let purged = |cluster: &Cluster, index: usize| {
        cluster.nodes[index].as_ref().unwrap().inspect(0).purged.map_or(0, |id| id.index)
    };
    while (0..3).any(|index| purged(&cluster, index) < 250) {
        assert!(Instant::now() < deadline, "{}", purged(&cluster, 0));
        time::sleep(Duration::from_millis(50)).await;
    }

    let address = Address::Tcp(format!("127.0.0.1:{}", free_port()));
    cluster.addresses.push(address.clone());
    cluster.nodes.push(None);
    cluster.start_node(3).await;
    let goal = v1::AddNodeGoal { id: 4, address: address.to_string(), hydrated: true };
    reach(&cluster, Goal::Add(goal)).await;
    let promote = Goal::Promote(v1::PromoteNodeGoal { id: 4 });
    let would_gape = |outcome: &Outcome| matches!(outcome, Outcome::Waiting(waiting) if waiting.reason.contains("destination away is at txid 100"));
    until(&cluster, promote.clone(), would_gape).await;

    // It comes back: now the node may vote, and lead, and nothing is missing there.
    fs::remove_file(root.join("away")).unwrap();
    fs::rename(root.join("away.kept"), root.join("away")).unwrap();
    reach(&cluster, promote).await;
    reach(&cluster, Goal::Transfer(v1::TransferLeaderGoal { to: 4, from: 0 })).await;
    cluster.wait(0, |status| status.leader == 4).await;
    cluster.ship(&history, 400).await;
    cluster.wait(0, is_there(400)).await;
    let state = root.join("state.db");
    for txid in [150, 299, 301, 400] {
        let output = Command::new(env!("CARGO_BIN_EXE_seawall"))
            .args(["restore", "--force", "--txid", &txid.to_string(), "-o"])
            .arg(&state)
            .arg(format!("file://{}/app", root.join("away").display()))
            .output()
            .unwrap();
        let objects = objects(&cluster, "away");
        assert!(output.status.success(), "{txid}: {}\n{objects:?}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(fs::read(&state).unwrap().len(), history.states[txid].file().len(), "{txid}");
    }

    // The first ones go, the old leader among them; what is left serves on.
    for id in [1, 2] {
        reach(&cluster, Goal::Remove(v1::RemoveNodeGoal { id })).await;
        let deadline = Instant::now() + PATIENCE;
        let node = cluster.nodes[id as usize - 1].take().unwrap();
        while node.replica().cluster().problem.is_none_or(|problem| !problem.contains("was removed from the cluster")) {
            assert!(Instant::now() < deadline);
            time::sleep(Duration::from_millis(50)).await;
        }
        cluster.nodes[id as usize - 1] = Some(node);
    }
    let status = cluster.wait(3, |status| status.leader != 0 && status.nodes.len() == 2).await;
    assert_eq!(status.nodes.iter().map(|node| node.id).collect::<Vec<_>>(), [3, 4]);
}
