//! The whole of it with real processes: nodes, an agent, an application, and faults between them.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use support::application::{self, Contents};
use support::{Cluster, Process, seawall, stdout, wait_for};

const SEED: u64 = 7;
const LONG: Duration = Duration::from_secs(60);

#[test]
#[ignore = "the application that other tests start as a process of its own"]
fn application_process() {
    application::run_if_asked();
}

fn expect(path: &Path, what: &str) -> Contents {
    let contents = Contents::read(path).unwrap();
    contents.assert_equals(&Contents::after(SEED, contents.commits), what);
    contents
}

/// What one `seawall sync` promised: this txid holds at least this many commits.
struct Promise {
    txid: u64,
    at_least: i64,
}

#[test]
fn nothing_acknowledged_is_lost_when_leaders_and_agents_are_killed() {
    let (mut cluster, database) = Cluster::shipping("");
    cluster.sync_until_done("app", "quorum", LONG);

    let writer = Process::new(application::spawn(&database, SEED), "application");
    let mut promises = Vec::new();
    let mut promise = |cluster: &Cluster, receipt: &str| {
        let at_least = application::read_commits(&database);
        let txid = cluster.sync_until_done("app", receipt, LONG);
        promises.push(Promise { txid, at_least });
    };
    let begin = Instant::now();
    let mut round = 0;
    while begin.elapsed() < Duration::from_secs(60) {
        let killed = cluster.wait_for_leader();
        promise(&cluster, "quorum");
        cluster.kill_node(killed);
        promise(&cluster, "quorum");
        if round % 2 == 0 {
            cluster.take_agent().kill();
            cluster.start_agent();
        }
        promise(&cluster, "quorum");
        cluster.start_node(killed);
        promise(&cluster, "quorum");
        round += 1;
    }
    writer.kill();
    let killed = cluster.wait_for_leader();
    cluster.kill_node(killed);
    promise(&cluster, "all");
    assert!(round >= 3, "only {round} leaders were killed in a minute");

    // Restores at the newest txid from everywhere, and at every promised one from one source in turn.
    let sources = cluster.sources("app");
    let newest = promises.last().unwrap();
    let source_commits = application::read_commits(&database);
    for source in &sources {
        let restored = cluster.restore(source, &["--integrity-check", "full"]).unwrap();
        assert_eq!(expect(&restored, source).commits, source_commits, "{source}");
    }
    assert!(newest.at_least <= source_commits);
    let mut last = 0;
    for (index, promise) in promises.iter().enumerate() {
        assert!(promise.txid >= last, "a later sync promised an earlier txid");
        last = promise.txid;
        let source = &sources[index % sources.len()];
        let restored = cluster.restore(source, &["--txid", &promise.txid.to_string()]).unwrap();
        let found = expect(&restored, source).commits;
        assert!(
            found >= promise.at_least,
            "{source}: txid {} holds {found} commits, promised were {}",
            promise.txid,
            promise.at_least
        );
        std::fs::remove_file(restored).unwrap();
    }
}

#[test]
fn what_was_written_while_the_agent_was_down_arrives_and_only_that_travels() {
    let mut cluster = Cluster::new(3, "");
    let database = cluster.path("app.db");
    application::create(&database);
    // Ballast that never changes: if a restart sent it again, the bytes would show it.
    let ballast = rusqlite::Connection::open(&database).unwrap();
    ballast.execute_batch("CREATE TABLE ballast (b BLOB); INSERT INTO ballast SELECT randomblob(4000) FROM (WITH RECURSIVE c(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM c WHERE i<5000) SELECT i FROM c);").unwrap();
    drop(ballast);
    cluster.add_database(database.clone(), "app");
    cluster.start_nodes();
    cluster.wait_for_leader();
    for graceful in [true, false] {
        cluster.start_agent();
        application::write(&database, SEED, Some(50));
        cluster.sync_until_done("app", "all", LONG);
        if graceful {
            assert!(cluster.take_agent().terminate(LONG).success());
        } else {
            cluster.take_agent().kill();
        }
        let before = stored_bytes(&cluster.path("one"));
        // Hundreds of small updates; SQLite's own checkpoints restart the WAL meanwhile, twice over its threshold.
        application::write(&database, SEED, Some(1500));
        cluster.start_agent();
        cluster.sync_until_done("app", "all", LONG);
        let travelled = stored_bytes(&cluster.path("one")) - before;
        assert!(travelled < 8 << 20, "{travelled} bytes were sent for a few changed pages of a 20 MB database");
        for source in cluster.sources("app") {
            let restored = cluster.restore(&source, &[]).unwrap();
            assert_eq!(expect(&restored, &source).commits, application::read_commits(&database));
            std::fs::remove_file(restored).unwrap();
        }
        cluster.take_agent().kill();
    }
}

fn stored_bytes(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    entries
        .flatten()
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() { stored_bytes(&entry.path()) } else { metadata.len() }
        })
        .sum()
}

#[test]
fn without_a_majority_nothing_is_acknowledged_and_everything_arrives_when_it_returns() {
    let (mut cluster, database) = Cluster::shipping("");
    application::write(&database, SEED, Some(200));
    let before = cluster.sync_until_done("app", "quorum", LONG);

    // The one that stays must have applied what was acknowledged, or its stale answer may be older.
    wait_for("every node has applied the head", LONG, || {
        (0..3).all(|index| {
            let source = format!("seawall://{}/app", cluster.address(index));
            cluster.restore(&source, &["--allow-stale"]).is_ok_and(|path| {
                let commits = Contents::read(&path).unwrap().commits;
                std::fs::remove_file(path).unwrap();
                commits == 200
            })
        })
    });
    cluster.kill_node(0);
    cluster.kill_node(1);
    application::write(&database, SEED, Some(300));
    let refused = cluster.sync("app", "quorum", "3s").unwrap_err();
    assert!(!refused.trim().is_empty(), "a failed sync says why");
    let status = cluster.status().expect("status answers without a majority");
    assert!(status["leader"].is_null(), "{status}");
    let unreachable = status["nodes"].as_array().unwrap().iter().filter(|node| node["reachable"] == false).count();
    assert_eq!(unreachable, 2, "{status}");
    let text = stdout(&seawall(["status", "--cluster", &cluster.addresses()]));
    assert!(text.contains("majority") || text.contains("no leader"), "{text}");

    let source = format!("seawall://{}/app", cluster.address(2));
    assert!(cluster.restore(&source, &[]).is_err(), "without a majority a restore needs --allow-stale");
    let stale = cluster.restore(&source, &["--allow-stale"]).unwrap();
    assert_eq!(expect(&stale, "stale").commits, 200);

    cluster.start_node(0);
    cluster.start_node(1);
    let after = cluster.sync_until_done("app", "all", LONG);
    assert!(after > before);
    for source in cluster.sources("app") {
        assert_eq!(expect(&cluster.restore(&source, &[]).unwrap(), &source).commits, 500);
    }
}

#[test]
fn a_second_agent_is_refused_while_the_first_lives_and_can_take_over() {
    let (cluster, database) = Cluster::shipping("");
    cluster.sync_until_done("app", "quorum", LONG);

    let config = cluster.path("second.yml");
    let yaml = std::fs::read_to_string(cluster.path("agent.yml")).unwrap().replace("agent.sock", "second.sock");
    std::fs::write(&config, yaml).unwrap();
    let start = |arguments: &[&str]| {
        let log = std::fs::File::create(cluster.path("second.log")).unwrap();
        let child = std::process::Command::new(env!("CARGO_BIN_EXE_seawall"))
            .args(["agent", "--config", config.to_str().unwrap()])
            .args(arguments)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Process::new(child, "second agent")
    };
    let second = start(&[]);
    wait_for("the second agent says that the database is held", LONG, || {
        std::fs::read_to_string(cluster.path("second.log")).unwrap().contains("--take-over")
    });
    application::write(&database, SEED, Some(10));
    cluster.sync_until_done("app", "quorum", LONG);
    second.kill();

    let _second = start(&["--take-over"]);
    wait_for("the first agent says that it was fenced", LONG, || {
        std::fs::read_to_string(cluster.path("agent.log")).unwrap().contains("another agent has taken over")
    });
    application::write(&database, SEED, Some(10));
    let socket = cluster.path("second.sock");
    wait_for("the second agent ships", LONG, || {
        let answer = seawall(["sync", "--socket", socket.to_str().unwrap(), "app", "--timeout", "5s"]);
        answer.status.success()
    });
    let source = format!("seawall://{}/app", cluster.address(0));
    assert_eq!(expect(&cluster.restore(&source, &[]).unwrap(), "taken over").commits, 20);
}

#[test]
fn nodes_serve_metrics_health_and_lists() {
    let mut cluster = Cluster::new(3, "");
    let database = cluster.path("app.db");
    application::create(&database);
    cluster.add_database(database.clone(), "tenants/acme");
    cluster.start_nodes();
    let leader = cluster.wait_for_leader();
    cluster.start_agent();
    application::write(&database, SEED, Some(5));
    let txid = cluster.sync_until_done("tenants/acme", "all", LONG);
    assert!(cluster.http_get(leader, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(cluster.http_get(leader, "/readyz").starts_with("HTTP/1.1 200"));
    let names = [
        "seawall_head_txid{",
        "seawall_append_seconds_bucket{",
        "seawall_destination_watermark{",
        "seawall_destination_lag_seconds{",
        "seawall_destination_uploads_total{",
        "seawall_raft_term",
        "seawall_disk_used_bytes",
    ];
    wait_for("every promised metric is there", LONG, || {
        let metrics = cluster.http_get(leader, "/metrics");
        names.iter().all(|name| metrics.contains(name))
    });
    let status = cluster.status().unwrap();
    let shown = &status["databases"][0];
    assert_eq!(shown["name"], "tenants/acme", "{status}");
    assert_eq!(shown["txid"], txid, "{status}");
    assert_eq!(shown["destinations"][0]["watermark"], txid, "{status}");
    let listed = stdout(&seawall(["databases", "--cluster", &cluster.addresses()]));
    assert!(listed.contains("tenants/acme"), "{listed}");
}

#[test]
fn nodes_stopped_by_sigterm_hand_over_and_come_back_without_losing_anything() {
    let (mut cluster, database) = Cluster::shipping("");
    cluster.sync_until_done("app", "quorum", LONG);
    for _ in 0..3 {
        let leader = cluster.wait_for_leader();
        assert!(cluster.take_node(leader).terminate(LONG).success());
        application::write(&database, SEED, Some(20));
        cluster.sync_until_done("app", "quorum", LONG);
        cluster.start_node(leader);
        cluster.wait_until_it_answers(leader);
    }
    cluster.sync_until_done("app", "all", LONG);
    for source in cluster.sources("app") {
        assert_eq!(expect(&cluster.restore(&source, &[]).unwrap(), &source).commits, 60);
    }
}
