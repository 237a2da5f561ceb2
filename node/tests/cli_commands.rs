//! The `seawall` program as scripts see it: output, messages, exit codes.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "support/history.rs"]
mod history;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use history::History;
use seawall_host::net::Server;
use seawall_node::http::{self, Readiness};
use seawall_proto::object_name::{Level, ObjectName};

fn seawall(directory: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_seawall"))
        .args(args)
        .current_dir(directory)
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn fails(output: &Output, code: i32, says: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", stderr(output));
    assert!(stderr(output).contains(says), "{}", stderr(output));
    assert_eq!(stdout(output), "");
}

/// Puts objects of the database `app` into the directory `backups`.
fn upload(directory: &Path, objects: &[(ObjectName, Bytes)]) {
    for (name, bytes) in objects {
        let path = directory.join("backups/app").join(name.to_string());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn version_names_seawall_and_its_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let output = seawall(directory.path(), &["version"]);
    assert!(output.status.success());
    let expected = format!("seawall {}\nSQLite {}\n", env!("CARGO_PKG_VERSION"), rusqlite::version());
    assert_eq!(stdout(&output), expected);
}

#[test]
fn restores_from_a_directory_and_says_so_in_json() {
    let directory = tempfile::tempdir().unwrap();
    let history = History::random(30, 1);
    upload(directory.path(), &[history.snapshot(10), history.log(8, 20), history.log(21, 30)]);
    let output = seawall(directory.path(), &["restore", "-o", "new.db", "--json", "file://backups/app"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let mut json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(json["duration"].as_f64().unwrap() > 0.0);
    json.as_object_mut().unwrap().remove("duration");
    let restored = std::fs::read(directory.path().join("new.db")).unwrap();
    assert!(restored == history.states[30].file());
    let expected = serde_json::json!({
        "database": "app", "lineage": 1, "txid": 30, "checksum": history.states[30].checksum().to_string(),
        "time": "2023-11-14T22:13:50.000Z", "size": restored.len(),
        "sources": [format!("file://{}/backups/app", directory.path().display())],
    });
    assert_eq!(json, expected);

    let url = format!("file://{}/backups/app", directory.path().display());
    let output =
        seawall(directory.path(), &["restore", "-o", "old.db", "--timestamp", "2023-11-14T23:13:35.999+01:00", &url]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("lineage 1 txid 15 checksum"), "{}", stdout(&output));
    assert!(std::fs::read(directory.path().join("old.db")).unwrap() == history.states[15].file());

    let output = seawall(directory.path(), &["restore", "-o", "dry.db", "--txid", "20", "--dry-run", "--json", &url]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((json["txid"].as_u64(), json["objects"].as_array().unwrap().len()), (Some(20), 2), "{json}");
    assert!(!directory.path().join("dry.db").exists());
}

#[test]
fn a_damaged_object_is_told_on_standard_error_and_another_serves() {
    let directory = tempfile::tempdir().unwrap();
    let history = History::random(20, 2);
    let (name, bytes) = history.log(11, 20);
    let mut damaged = bytes.to_vec();
    damaged[bytes.len() / 4] ^= 1;
    let objects = [history.snapshot(10), (name, damaged.into()), history.squashed(Level::One, 11, 20)];
    upload(directory.path(), &objects);
    // The merged object would be as good: only a transaction inside needs the run.
    let output = seawall(directory.path(), &["restore", "-o", "a.db", "--txid", "19", "file://backups/app"]);
    fails(&output, 1, "is damaged");
    assert!(stderr(&output).contains("the nearest that can are 10 and 20"), "{}", stderr(&output));
    upload(directory.path(), &[history.log(9, 19)]);
    let output = seawall(directory.path(), &["restore", "-o", "a.db", "--txid", "18", "file://backups/app"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(std::fs::read(directory.path().join("a.db")).unwrap() == history.states[18].file());
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn restore_fails_clearly() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let history = History::random(3, 3);
    upload(path, &[history.log(1, 3)]);
    fails(&seawall(path, &["restore", "-o", "x.db", "file://backups/nope"]), 1, "nothing to restore");
    fails(&seawall(path, &["restore", "-o", "x.db", "backups/app"]), 2, "file:///backups/app");
    fails(&seawall(path, &["restore", "-o", "x.db", "ftp://host/app"]), 2, "supported are");
    fails(
        &seawall(path, &["restore", "-o", "x.db", "--txid", "9", "file://backups/app"]),
        1,
        "the nearest that can is 3",
    );
    fails(&seawall(path, &["restore", "-o", "x.db", "--txid", "0", "file://backups/app"]), 2, "count from 1");
    fails(&seawall(path, &["restore", "-o", "x.db", "--timestamp", "yesterday", "file://backups/app"]), 2, "RFC 3339");
    let both = ["restore", "-o", "x.db", "--txid", "1", "--timestamp", "2023-11-14T22:13:50Z", "file://backups/app"];
    fails(&seawall(path, &both), 2, "cannot be used with");
    fails(&seawall(path, &["restore", "-o", "no/such/x.db", "file://backups/app"]), 1, "no/such/");
    fails(&seawall(path, &["restore", "-o", "x.db", "seawall://127.0.0.1:1/app"]), 1, "no node could answer");
    assert!(!path.join("x.db").exists());
    std::fs::write(path.join("x.db"), b"old").unwrap();
    fails(&seawall(path, &["restore", "-o", "x.db", "file://backups/app"]), 1, "--force");
    assert!(seawall(path, &["restore", "-o", "x.db", "--if-db-not-exists", "file://backups/app"]).status.success());
    assert!(seawall(path, &["restore", "-o", "y.db", "--if-replica-exists", "file://backups/nope"]).status.success());
    assert!(!path.join("y.db").exists());
    std::fs::write(path.join("z.db-wal"), b"old").unwrap();
    fails(&seawall(path, &["restore", "-o", "z.db", "file://backups/app"]), 1, "z.db-wal");
    assert!(seawall(path, &["restore", "-o", "z.db", "--force", "file://backups/app"]).status.success());
    assert!(std::fs::read(path.join("z.db")).unwrap() == history.states[3].file());
    assert!(!path.join("z.db-wal").exists());
}

#[test]
fn what_cannot_be_reached_is_named_with_advice() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fails(&seawall(path, &["status", "--cluster", "127.0.0.1:1"]), 1, "127.0.0.1:1");
    fails(&seawall(path, &["databases", "--cluster", "127.0.0.1:1,127.0.0.1:2"]), 1, "127.0.0.1:2");
    fails(&seawall(path, &["status", "--cluster", "nowhere"]), 2, "HOST:PORT");
    fails(&seawall(path, &["sync", "app"]), 1, "agent.sock cannot be reached");
    fails(&seawall(path, &["sync", "../app"]), 2, "not a database name");
    fails(&seawall(path, &["sync", "app", "--timeout", "soon"]), 2, "--timeout");
}

#[test]
fn a_wrong_configuration_is_refused_with_file_and_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fails(&seawall(path, &["agent", "--config", "agent.yml"]), 2, "agent.yml");
    std::fs::write(path.join("agent.yml"), "cluster: [ 127.0.0.1:1 ]\ndbz: []\n").unwrap();
    fails(
        &seawall(path, &["agent", "--config", "agent.yml"]),
        2,
        "agent.yml:2: unknown key `dbz`; did you mean `dbs`?",
    );
}

const NODE: &str = r#"node: { id: 1, data-dir: data, listen: "127.0.0.1:7400", http: "127.0.0.1:7480" }
cluster: { name: test, nodes: [ { id: 1, address: "127.0.0.1:7400" } ] }
destinations:
  - { name: local, url: "file://backups" }
  - { name: s3, url: "s3://bucket", endpoint: "http://127.0.0.1:1", region: r, access-key-id: k, secret-access-key: s }
"#;

#[test]
fn a_check_says_whether_a_configuration_is_right_and_starts_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    // The port is taken and the database is not there: neither is looked at.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let node = NODE.replace("127.0.0.1:7400", &taken.local_addr().unwrap().to_string());
    std::fs::write(path.join("node.yml"), node).unwrap();
    std::fs::write(path.join("agent.yml"), "cluster: [ 127.0.0.1:1 ]\ndbs: [ { path: no/app.db, name: app } ]\n")
        .unwrap();
    for kind in ["node", "agent"] {
        let file = format!("{kind}.yml");
        let output = seawall(path, &[kind, "--config", &file, "--check"]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!((stdout(&output), stderr(&output)), (format!("{file}: ok\n"), String::new()));
    }
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 2, "nothing was made beside the two files");

    let check = |text: &str| {
        std::fs::write(path.join("node.yml"), text).unwrap();
        seawall(path, &["node", "--config", "node.yml", "--check"])
    };
    fails(
        &check(&NODE.replace("region: r", "sse: ROT13, region: r")),
        1,
        "node.yml:5: destinations: `s3://bucket`: sse: ",
    );
    fails(&check(&NODE.replace("file://backups\"", "file://backups\", region: r")), 1, "node.yml:4: ");
    fails(&check(&NODE.replace("access-key-id: k", "access-key-id: \"${NO_KEY}\"")), 1, "NO_KEY is not set");
    fails(&check(&NODE.replace("data-dir", "data_dir")), 1, "did you mean `data-dir`?");
    fails(&seawall(path, &["node", "--config", "none.yml", "--check"]), 1, "none.yml");
    std::fs::write(path.join("agent.yml"), "cluster: [ nowhere ]\ndbs: [ { path: a.db, name: app } ]\n").unwrap();
    fails(&seawall(path, &["agent", "--config", "agent.yml", "--check"]), 1, "agent.yml:1: cluster: ");
}

/// What a node says of itself.
struct Says(Result<(), String>);

impl Readiness for Says {
    fn ready(&self) -> Result<(), String> {
        self.0.clone()
    }
}

/// A node's HTTP server, of which only the readiness is made up.
async fn health_server(ready: Result<(), String>) -> Server {
    seawall_host::real::install();
    http::serve("127.0.0.1:0".parse().unwrap(), None, Arc::new(Says(ready))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_what_the_node_says() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (ready, waiting) = (health_server(Ok(())).await, health_server(Err("no leader is known".to_owned())).await);
    let asked = |server: &Server, page: &str| {
        seawall(path, &["health", "--url", &format!("http://{}{page}", server.address()), "--timeout", "20s"])
    };
    for (server, page, says) in
        [(&ready, "/readyz", "ready\n"), (&ready, "/healthz", "ok\n"), (&waiting, "/healthz", "ok\n")]
    {
        let output = asked(server, page);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(stdout(&output), says);
    }
    fails(&asked(&waiting, "/readyz"), 1, "/readyz: 503 Service Unavailable: no leader is known");
    fails(&asked(&ready, "/nothing"), 1, "404 Not Found");

    let of_file = |http: String| {
        std::fs::write(path.join("node.yml"), NODE.replace(", http: \"127.0.0.1:7480\"", &http)).unwrap();
        seawall(path, &["health", "--config", "node.yml", "--timeout", "20s"])
    };
    let port = |server: &Server| server.address().to_string().rsplit_once(':').unwrap().1.to_owned();
    let output = of_file(format!(", http: \"0.0.0.0:{}\"", port(&ready)));
    assert!(output.status.success() && stdout(&output) == "ready\n", "{}", stderr(&output));
    fails(&of_file(format!(", http: \"127.0.0.1:{}\"", port(&waiting))), 1, "no leader is known");
    fails(&of_file(String::new()), 1, "node.http is not set");
}

#[test]
fn health_fails_in_time_where_nobody_answers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let health = |arguments: &[&str]| seawall(path, &[&["health"], arguments].concat());
    fails(&health(&["--url", "http://127.0.0.1:1/readyz"]), 1, "Connection refused");
    // Connections are taken by the kernel, and nothing ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/readyz", silent.local_addr().unwrap());
    let begun = Instant::now();
    fails(&health(&["--url", &url, "--timeout", "300ms"]), 1, "no answer within 300ms");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    fails(&health(&[]), 2, "--url");
    fails(&health(&["--url", "127.0.0.1:7480/readyz"]), 2, "write http://HOST:PORT/readyz");
    fails(&health(&["--url", "http://127.0.0.1:1/", "--config", "node.yml"]), 2, "cannot be used with");
    fails(&health(&["--config", "none.yml"]), 1, "none.yml");
}

#[test]
fn history_lists_what_can_be_restored_and_what_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let history = History::random(30, 4);
    upload(directory.path(), &[history.log(1, 8), history.snapshot(12), history.squashed(Level::One, 13, 20)]);
    upload(directory.path(), &[history.log(21, 30)]);
    let url = format!("file://{}/backups/app", directory.path().display());
    let output = seawall(directory.path(), &["history", &url]);
    assert!(output.status.success(), "{}", stderr(&output));
    let size = |name: ObjectName| directory.path().join("backups/app").join(name.to_string()).metadata().unwrap().len();
    let logs = size(history.log(1, 8).0) + size(history.log(21, 30).0);
    let expected = format!(
        "app lineage 1\n  \
         txid 1 to 8, every transaction, of 2023-11-14T22:13:21.000Z to 2023-11-14T22:13:28.000Z\n  \
         lost: txid 9 to 11, 3 transactions\n  \
         txid 12 of 2023-11-14T22:13:32.000Z\n  \
         txid 20 to 30, every transaction, of 2023-11-14T22:13:40.000Z to 2023-11-14T22:13:50.000Z\n  \
         level 0 in {url}: 2 objects, {logs} bytes\n  \
         level 1 in {url}: 1 objects, {} bytes\n  \
         snapshots in {url}: 1 objects, {} bytes\n",
        size(history.squashed(Level::One, 13, 20).0),
        size(history.snapshot(12).0),
    );
    assert_eq!(stdout(&output), expected);

    let output = seawall(directory.path(), &["history", "--json", &url]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["database"], &json["newest"]), (&serde_json::json!("app"), &serde_json::Value::Null));
    let lineage = &json["lineages"][0];
    assert_eq!(lineage["gaps"], serde_json::json!([{ "first": 9, "last": 11 }]));
    let range = serde_json::json!({ "first": 20, "last": 30, "states": 11,
        "from": "2023-11-14T22:13:40.000Z", "to": "2023-11-14T22:13:50.000Z" });
    assert_eq!(lineage["ranges"][2], range);
    assert_eq!(lineage["levels"][0]["objects"], 2);

    let output = seawall(directory.path(), &["history", "file://backups/nope"]);
    assert!(output.status.success() && stdout(&output).contains("holds nothing of it"), "{}", stdout(&output));
    fails(&seawall(directory.path(), &["history", "seawall://127.0.0.1:1/app"]), 1, "no node could answer");
    fails(&seawall(directory.path(), &["history"]), 2, "SOURCE");
}

#[test]
fn verify_fails_where_something_is_damaged_and_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let history = History::random(30, 4);
    let (name, bytes) = history.log(11, 30);
    upload(directory.path(), &[history.log(1, 10), (name, bytes.clone())]);
    for arguments in [&["verify", "file://backups/app"][..], &["verify", "--deep", "file://backups/app"]] {
        let output = seawall(directory.path(), arguments);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let output = seawall(directory.path(), &["verify", "--deep", "--json", "file://backups/app"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["sound"], &json["states"]), (&serde_json::json!(true), &serde_json::json!(30)), "{json}");

    let mut rotten = bytes.to_vec();
    rotten[bytes.len() / 2] ^= 1;
    upload(directory.path(), &[(name, rotten.into())]);
    let output = seawall(directory.path(), &["verify", "file://backups/app"]);
    assert!(output.status.success(), "its end is whole: {}", stderr(&output));
    let output = seawall(directory.path(), &["verify", "--deep", "file://backups/app"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("app: 1 of 2 objects are damaged"), "{}", stderr(&output));
    assert!(stdout(&output).contains(&format!("damaged: {name} from file://")), "{}", stdout(&output));
    upload(directory.path(), &[(name, bytes.slice(..bytes.len() - 9))]);
    let output = seawall(directory.path(), &["verify", "--json", "file://backups/app"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json["damaged"][0]["object"], name.to_string(), "{json}");
    fails(&seawall(directory.path(), &["verify", "file://backups/nope"]), 1, "holds nothing of nope");
}
