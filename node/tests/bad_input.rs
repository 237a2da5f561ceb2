//! What operators get wrong, and disks and networks damage: one clear message each, never a panic.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

mod support;

use std::fs;
use std::time::Duration;

use support::application;
use support::{Cluster, seawall, wait_for};

const LONG: Duration = Duration::from_secs(60);

fn log(cluster: &Cluster, name: &str) -> String {
    fs::read_to_string(cluster.path(name)).unwrap_or_default()
}

#[test]
fn an_agent_names_databases_it_cannot_capture_and_goes_on_with_the_others() {
    let mut cluster = Cluster::new(3, "");
    let good = cluster.path("good.db");
    application::create(&good);
    let rollback = cluster.path("rollback.db");
    rusqlite::Connection::open(&rollback).unwrap().execute_batch("CREATE TABLE t(x)").unwrap();
    let text = cluster.path("text.db");
    fs::write(&text, "this is no database at all, just a longer line of text".repeat(100)).unwrap();
    cluster.add_database(rollback, "rollback");
    cluster.add_database(cluster.path("missing.db"), "missing");
    cluster.add_database(text, "text");
    cluster.add_database(good, "good");
    cluster.start_nodes();
    cluster.wait_for_leader();
    cluster.start_agent();
    cluster.sync_until_done("good", "quorum", LONG);
    for (name, hint) in
        [("rollback.db", "journal_mode=WAL"), ("missing.db", "missing.db"), ("text.db", "not a database")]
    {
        wait_for(&format!("the agent says what is wrong with {name}"), LONG, || {
            log(&cluster, "agent.log").lines().any(|line| line.contains(name) && line.contains(hint))
        });
    }
    let error = cluster.sync("missing", "quorum", "2s").unwrap_err();
    assert!(error.contains("missing"), "{error}");
    let error = cluster.sync("unknown", "quorum", "2s").unwrap_err();
    assert!(error.contains("unknown"), "{error}");
}

#[test]
fn a_port_in_use_is_named_and_ends_the_node() {
    let mut cluster = Cluster::new(1, "");
    let address = cluster.address(0);
    let _taken = std::net::TcpListener::bind(&address).unwrap();
    cluster.start_node(0);
    let mut node = cluster.take_node(0);
    assert!(!node.wait(LONG).success());
    let said = log(&cluster, "node1.log");
    assert!(said.contains(&address) && !said.contains("panicked"), "{said}");
}

#[test]
fn a_data_directory_in_use_is_named_and_ends_the_second_node() {
    let mut cluster = Cluster::new(3, "");
    cluster.start_nodes();
    cluster.wait_for_leader();
    let config = cluster.node_config(0);
    let second = fs::read_to_string(&config).unwrap();
    let output = seawall(["node", "--config", config.to_str().unwrap()]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(error.contains("n1") && !error.contains("panicked"), "{error}\n{second}");
}

#[test]
fn a_damaged_log_file_is_refused_with_its_name_and_the_way_out() {
    let (mut cluster, database) = Cluster::shipping("");
    // Many batches: damage to the newest one could not be told from a write that a crash cut off.
    for _ in 0..20 {
        application::write(&database, 1, Some(5));
        cluster.sync_until_done("app", "quorum", LONG);
    }
    cluster.kill_node(0);
    let piece = largest_file(&cluster.path("n1"));
    let mut bytes = fs::read(&piece).unwrap();
    // Not a payload, which could be had from another node, but what says where the payloads are.
    bytes[20] ^= 0x40;
    fs::write(&piece, bytes).unwrap();
    cluster.start_node(0);
    let mut node = cluster.take_node(0);
    assert!(!node.wait(LONG).success());
    let said = log(&cluster, "node1.log");
    let name = piece.file_name().unwrap().to_str().unwrap();
    assert!(said.contains(name) && !said.contains("panicked"), "{said}");

    // The others still serve everything.
    let at = cluster.sync_until_done("app", "all", LONG);
    assert!(at > 0);
    cluster.restore(&format!("seawall://{}/app", cluster.address(1)), &[]).unwrap();
}

fn largest_file(directory: &std::path::Path) -> std::path::PathBuf {
    fn visit(directory: &std::path::Path, best: &mut (u64, std::path::PathBuf)) {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                visit(&entry.path(), best);
            } else if metadata.len() > best.0 {
                *best = (metadata.len(), entry.path());
            }
        }
    }
    let mut best = (0, std::path::PathBuf::new());
    visit(&directory.join("log"), &mut best);
    best.1
}

#[test]
fn a_node_whose_directory_was_wiped_is_refused_as_its_old_self() {
    let mut cluster = Cluster::new(3, "");
    cluster.start_nodes();
    cluster.wait_for_leader();
    cluster.kill_node(0);
    fs::remove_dir_all(cluster.path("n1")).unwrap();
    cluster.start_node(0);
    wait_for("the wiped node says that it must be replaced", LONG, || log(&cluster, "node1.log").contains("replace"));
    // Its vote counts for nothing: with one more node gone there is no leader.
    let leader = cluster.wait_for_leader();
    cluster.kill_node(leader);
    let database = cluster.path("app.db");
    application::create(&database);
    cluster.add_database(database, "app");
    cluster.start_agent();
    cluster.sync("app", "quorum", "5s").unwrap_err();
}

#[test]
fn a_damaged_object_is_named_and_another_source_is_not_blamed() {
    let (cluster, database) = Cluster::shipping("");
    application::write(&database, 1, Some(100));
    cluster.sync_until_done("app", "all", LONG);
    let directory = cluster.path("one").join("app/@1/0");
    let object = fs::read_dir(&directory).unwrap().flatten().map(|entry| entry.path()).next().unwrap();
    let mut bytes = fs::read(&object).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&object, bytes).unwrap();
    let error = cluster.restore(&format!("file://{}/app", cluster.path("one").display()), &[]).unwrap_err();
    assert!(error.contains(object.file_name().unwrap().to_str().unwrap()), "{error}");
    cluster.restore(&format!("file://{}/app", cluster.path("two").display()), &[]).unwrap();
}
