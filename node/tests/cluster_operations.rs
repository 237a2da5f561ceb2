//! `seawall cluster`, with real processes: nodes come and go under a running application.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::application::{self, Contents};
use support::{Cluster, Process, seawall, wait_for};

const SEED: u64 = 11;
const LONG: Duration = Duration::from_secs(120);

#[test]
#[ignore = "the application that other tests start as a process of its own"]
fn application_process() {
    application::run_if_asked();
}

/// `seawall cluster …` to its end: what it prints, or why it fails.
fn operate(cluster: &Cluster, arguments: &[&str]) -> Result<Value, String> {
    let addresses = cluster.addresses();
    let mut all = vec!["cluster"];
    all.extend(arguments);
    all.extend(["--cluster", &addresses, "--timeout", "120s", "--json"]);
    let output = seawall(&all);
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).unwrap());
    }
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn outcome(cluster: &Cluster, arguments: &[&str]) -> String {
    let done = operate(cluster, arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    done["outcome"].as_str().unwrap().to_owned()
}

fn refused(cluster: &Cluster, arguments: &[&str], words: &str) {
    let error = operate(cluster, arguments).expect_err("it is to be refused");
    assert!(error.contains("refused") && error.contains(words), "{arguments:?}: {error}");
}

/// The same in the background; what it says goes to a log.
fn begin(cluster: &Cluster, name: &str, arguments: &[&str]) -> Process {
    let log = fs::OpenOptions::new().create(true).append(true).open(cluster.path(&format!("{name}.log"))).unwrap();
    let addresses = cluster.addresses();
    let child = Command::new(env!("CARGO_BIN_EXE_seawall"))
        .arg("cluster")
        .args(arguments)
        .args(["--cluster", &addresses, "--timeout", "120s"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    Process::new(child, name)
}

fn says(cluster: &Cluster, name: &str, words: &str) {
    wait_for(&format!("{name} says `{words}`"), LONG, || cluster.log_of(name).contains(words));
}

/// Ids and roles of all members.
fn roles(cluster: &Cluster) -> Vec<(u64, String)> {
    let status = operate(cluster, &["status"]).unwrap();
    let nodes = status["nodes"].as_array().unwrap().clone();
    let role = |node: &Value| (node["id"].as_u64().unwrap(), node["role"].as_str().unwrap().replace("leader", "voter"));
    nodes.iter().map(role).collect()
}

fn voters(cluster: &Cluster, ids: &[u64]) {
    let expected: Vec<(u64, String)> = ids.iter().map(|id| (*id, "voter".to_owned())).collect();
    assert_eq!(roles(cluster), expected);
}

/// What every running node gives back is what the application has.
fn compare(cluster: &Cluster, database: &Path) {
    cluster.sync_until_done("app", "quorum", LONG);
    let commits = application::read_commits(database);
    for source in cluster.sources("app").into_iter().filter(|source| source.starts_with("seawall://")) {
        let restored = cluster.restore(&source, &["--integrity-check", "full"]).unwrap();
        let contents = Contents::read(&restored).unwrap();
        contents.assert_equals(&Contents::after(SEED, contents.commits), &source);
        assert_eq!(contents.commits, commits, "{source}");
    }
}

fn writer(database: &Path) -> Process {
    Process::new(application::spawn(database, SEED), "application")
}

#[test]
fn a_cluster_grows_from_three_to_five_and_moves_to_its_new_nodes_under_a_writer() {
    let (mut cluster, database) = Cluster::shipping("");
    cluster.sync_until_done("app", "quorum", LONG);
    let writing = writer(&database);

    // The node is not there yet: it is waited for, and nobody else changes anything meanwhile.
    let four = cluster.add_place();
    let address = cluster.address(four);
    let mut adding = begin(&cluster, "adding", &["add-node", "4", &address]);
    says(&cluster, "adding", "node 4 does not answer at");
    refused(&cluster, &["remove-node", "2"], "another operation is under way (`add-node 4");
    cluster.start_node(four);
    assert!(adding.wait(LONG).success(), "{}", cluster.log_of("adding"));
    assert!(cluster.log_of("adding").contains("becomes a member without a vote\ndone: node 4 at "));
    assert_eq!(outcome(&cluster, &["add-node", "4", &address]), "already");
    assert_eq!(roles(&cluster)[3], (4, "learner".to_owned()));
    assert_eq!(outcome(&cluster, &["promote", "4"]), "done");
    assert_eq!(outcome(&cluster, &["promote", "4"]), "already");

    let five = cluster.add_place();
    let address = cluster.address(five);
    cluster.start_node(five);
    assert_eq!(outcome(&cluster, &["add-node", "5", &address, "--wait", "false"]), "done");
    refused(&cluster, &["add-node", "6", &address], "is the address of node 5");
    assert_eq!(outcome(&cluster, &["promote", "5"]), "done");
    voters(&cluster, &[1, 2, 3, 4, 5]);
    let status = operate(&cluster, &["status"]).unwrap();
    assert!(status["outlook"][0].as_str().unwrap().starts_with("2 of the 5 voters"), "{status}");

    // Two of five may fail, and the new ones are as good as the others.
    cluster.kill_node(0);
    cluster.kill_node(1);
    cluster.sync_until_done("app", "quorum", LONG);
    cluster.start_node_again(0);
    cluster.start_node_again(1);
    cluster.wait_until_it_answers(0);
    cluster.wait_until_it_answers(1);

    // All of the first ones go: the agent, which was told of no others, follows.
    for id in ["1", "2", "3"] {
        assert_eq!(outcome(&cluster, &["remove-node", id]), "done");
        assert_eq!(outcome(&cluster, &["remove-node", id]), "already");
        says(&cluster, &format!("node{id}"), &format!("node {id} was removed from the cluster"));
        cluster.kill_node(id.parse::<usize>().unwrap() - 1);
        cluster.sync_until_done("app", "quorum", LONG);
    }
    voters(&cluster, &[4, 5]);
    writing.kill();
    compare(&cluster, &database);

    // Who is a member is not asked of node.yml again.
    for index in [four, five] {
        assert!(cluster.take_node(index).terminate(LONG).success());
    }
    for index in [four, five] {
        cluster.start_node_again(index);
    }
    cluster.wait_for_leader();
    voters(&cluster, &[4, 5]);
    compare(&cluster, &database);
}

#[test]
fn a_dead_node_is_replaced_by_a_command_that_is_killed_and_run_again() {
    let (mut cluster, database) = Cluster::shipping("");
    cluster.sync_until_done("app", "quorum", LONG);
    let writing = writer(&database);
    cluster.kill_node(2);

    let four = cluster.add_place();
    let address = cluster.address(four);
    let replace = ["replace-node", "3", "--with", "4", &address];
    let replacing = begin(&cluster, "first", &replace);
    says(&cluster, "first", "node 4 does not answer at");
    replacing.kill();
    cluster.start_node(four);
    let replacing = begin(&cluster, "second", &replace);
    says(&cluster, "second", "becomes a member without a vote");
    replacing.kill();
    let steps = operate(&cluster, &replace).unwrap();
    assert_eq!(steps["outcome"], "done", "{steps}");
    assert_eq!(outcome(&cluster, &replace), "already");
    voters(&cluster, &[1, 2, 4]);

    // The one that was dead comes back: it hears that it was removed, and its directory is not let in again.
    cluster.start_node_again(2);
    says(&cluster, "node3", "node 3 was removed from the cluster");
    let three = cluster.address(2);
    refused(&cluster, &["add-node", "3", &three], "is never let in again");
    let noted = cluster.path("n3").join("removed");
    wait_for("the removal is noted in the data directory", LONG, || noted.exists());
    assert!(cluster.http_get(2, "/readyz").contains("was removed from the cluster"));
    let asked = seawall(["status", "--cluster", &three, "--json"]);
    let asked: Value = serde_json::from_slice(&asked.stdout).unwrap();
    assert!(asked["problem"].as_str().unwrap().contains("node 3 was removed from the cluster"), "{asked}");
    cluster.kill_node(2);
    cluster.start_node_again(2);
    assert_eq!(cluster.take_node(2).wait(LONG).code(), Some(1));
    assert!(cluster.log_of("node3").contains("never votes again"), "{}", cluster.log_of("node3"));
    voters(&cluster, &[1, 2, 4]);

    // One that has lost its directory takes its own place.
    cluster.kill_node(four);
    fs::remove_dir_all(cluster.path("n4")).unwrap();
    cluster.start_node_again(four);
    says(&cluster, "node4", "seawall cluster replace-node 4 --with 4");
    refused(&cluster, &["add-node", "4", &address], "replace-node 4 --with 4");
    let again = ["replace-node", "4", "--with", "4", &address];
    assert_eq!(outcome(&cluster, &again), "done");
    assert_eq!(outcome(&cluster, &again), "already");
    voters(&cluster, &[1, 2, 4]);

    // Without the others' help it has everything.
    cluster.kill_node(0);
    cluster.sync_until_done("app", "quorum", LONG);
    writing.kill();
    compare(&cluster, &database);
}

#[test]
fn leaders_that_die_in_the_middle_of_an_operation_leave_nothing_that_the_next_does_not_finish() {
    let (mut cluster, database) = Cluster::shipping("");
    cluster.sync_until_done("app", "quorum", LONG);
    let writing = writer(&database);
    let four = cluster.add_place();
    let address = cluster.address(four);
    let mut old = (cluster.wait_for_leader() + 1) % 3;
    let (old_id, old_address) = ((old + 1).to_string(), cluster.address(old));
    // There and back again, each time under another leader than it began with.
    for (out, into, place, place_address) in [(&*old_id, "4", four, &address), ("4", &*old_id, old, &old_address)] {
        let _ = fs::remove_dir_all(cluster.path(&format!("n{into}")));
        cluster.start_node(place);
        let name = format!("replacing-{out}");
        let mut replacing = begin(&cluster, &name, &["replace-node", out, "--with", into, place_address]);
        says(&cluster, &name, "becomes a member without a vote");
        let leader = cluster.wait_for_leader();
        if leader != old {
            cluster.kill_node(leader);
            cluster.start_node_again(leader);
        }
        assert!(replacing.wait(LONG).success(), "{}", cluster.log_of(&name));
        cluster.kill_node(old);
        cluster.sync_until_done("app", "quorum", LONG);
        assert_eq!(roles(&cluster).len(), 3);
        old = place;
    }
    voters(&cluster, &[1, 2, 3]);
    writing.kill();
    compare(&cluster, &database);
}

#[test]
fn leadership_goes_where_it_is_sent_and_what_would_lose_data_is_refused() {
    let (mut cluster, database) = Cluster::shipping("");
    cluster.sync_until_done("app", "all", LONG);
    let leader = cluster.wait_for_leader();
    let other = ((leader + 1) % 3 + 1).to_string();
    assert_eq!(outcome(&cluster, &["transfer-leader", "--to", &other]), "done");
    assert_eq!(cluster.wait_for_leader() + 1, other.parse::<usize>().unwrap());
    assert_eq!(outcome(&cluster, &["transfer-leader", "--to", &other]), "already");
    assert_eq!(outcome(&cluster, &["transfer-leader"]), "done");
    assert_ne!(cluster.wait_for_leader() + 1, other.parse::<usize>().unwrap());
    refused(&cluster, &["transfer-leader", "--to", "9"], "node 9 is no member");
    refused(&cluster, &["promote", "9"], "add it first");

    // No destination takes anything in from here on.
    for name in ["one", "two"] {
        fs::rename(cluster.path(name), cluster.path(&format!("{name}.away"))).unwrap();
        fs::write(cluster.path(name), "").unwrap();
    }
    application::write(&database, SEED, Some(50));
    cluster.sync_until_done("app", "quorum", LONG);
    let status = operate(&cluster, &["status"]).unwrap();
    assert!(status["exposed"][0].as_str().unwrap().starts_with("app: txid "), "{status}");

    // Of three, one that is down and one more are too many, whatever is forced.
    let down = (cluster.wait_for_leader() + 1) % 3;
    let up = (down + 1) % 3;
    let (down_id, up_id) = ((down + 1).to_string(), (up + 1).to_string());
    cluster.kill_node(down);
    cluster.wait_for_leader();
    for arguments in [&["remove-node", &up_id][..], &["remove-node", &up_id, "--force"]] {
        refused(&cluster, arguments, &format!("First bring back, replace or remove node {down_id}"));
    }
    assert_eq!(outcome(&cluster, &["remove-node", &down_id]), "done");
    assert_eq!(roles(&cluster).len(), 2);

    // The leader of two is the last one to go, and only if what it holds may be lost with the other.
    let leader = cluster.wait_for_leader();
    let leader_id = (leader + 1).to_string();
    refused(&cluster, &["remove-node", &leader_id], "held by 1 of the 2 nodes that vote now");
    let forced = operate(&cluster, &["remove-node", &leader_id, "--force"]).unwrap();
    assert_eq!(forced["outcome"], "done");
    assert!(forced["steps"][0].as_str().unwrap().starts_with("leadership goes to node"), "{forced}");
    assert!(forced["risks"].to_string().contains("it is lost if those nodes are"), "{forced}");
    cluster.kill_node(leader);
    let last = cluster.wait_for_leader();
    refused(&cluster, &["remove-node", &(last + 1).to_string(), "--force"], "the last voter");
    application::write(&database, SEED, Some(20));
    compare(&cluster, &database);

    // It comes back alone, though its node.yml lists three.
    cluster.kill_node(last);
    cluster.start_node_again(last);
    cluster.wait_for_leader();
    let warned = operate(&cluster, &["status"]).unwrap()["warnings"].to_string();
    assert!(warned.contains(&format!("node {down_id} is listed in the node.yml of node {}", last + 1)), "{warned}");
    compare(&cluster, &database);
}
