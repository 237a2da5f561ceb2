//! Configuration files: what is taken, and how the rest is refused.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use seawall_host::net::Address;
use seawall_node::config::{AgentConfig, ConfigError, DiskConfig, NodeConfig};
use seawall_node::destination::{Deletion, Retention, VerificationOptions, Windows};
use seawall_node::restore::IntegrityCheck;

const NODE: &str = r#"node: { id: 1, data-dir: ./n1, listen: 127.0.0.1:7400, http: 127.0.0.1:7480 }
cluster:
  name: prod
  nodes: [ { id: 1, address: 127.0.0.1:7400 }, { id: 2, address: 127.0.0.1:7401 }, { id: 3, address: 127.0.0.1:7402 } ]
destinations:
  - { name: local, url: "file:///backups", upload-interval: 10s }
  - { name: s3, url: "s3://bucket/prefix", endpoint: "http://127.0.0.1:8333", region: us-east-1, access-key-id: "${KEY}", secret-access-key: "${SECRET}" }
"#;

const AGENT: &str = "cluster: [ 127.0.0.1:7400, 127.0.0.1:7401, 127.0.0.1:7402 ]
socket: ./agent.sock
dbs: [ { path: /data/app.db, name: app } ]
";

fn environment(name: &str) -> Option<String> {
    match name {
        "KEY" => Some("key-id".to_owned()),
        "SECRET" => Some("hunter2".to_owned()),
        "ID" => Some("1".to_owned()),
        _ => None,
    }
}

fn node(text: &str) -> Result<NodeConfig, ConfigError> {
    NodeConfig::parse(Path::new("/etc/seawall/node.yml"), text, &environment)
}

fn agent(text: &str) -> Result<AgentConfig, ConfigError> {
    AgentConfig::parse(Path::new("/etc/seawall/agent.yml"), text, &environment)
}

/// The line and text of a refusal.
fn refusal<T: std::fmt::Debug>(outcome: Result<T, ConfigError>) -> (u64, String) {
    match outcome.unwrap_err() {
        ConfigError::Invalid { line, problem, .. } => (line, problem),
        other => panic!("{other}"),
    }
}

#[test]
fn takes_the_documented_node_file() {
    let config = node(NODE).unwrap();
    assert_eq!(config.id, 1);
    assert_eq!(config.data_dir, PathBuf::from("/etc/seawall/n1"));
    assert_eq!(config.listen, "127.0.0.1:7400".parse().unwrap());
    assert_eq!(config.http, Some("127.0.0.1:7480".parse().unwrap()));
    assert_eq!(config.cluster_name, "prod");
    let members: Vec<(u64, &Address)> = config.members.iter().map(|member| (member.id, &member.address)).collect();
    let addresses: Vec<Address> = (7400..7403).map(|port| format!("127.0.0.1:{port}").parse().unwrap()).collect();
    assert_eq!(members, [(1, &addresses[0]), (2, &addresses[1]), (3, &addresses[2])]);
    assert_eq!(config.destinations[0].url, "file:///backups");
    assert_eq!(config.destinations[0].windows.upload_interval, Duration::from_secs(10));
    let s3 = &config.destinations[1];
    let options = &s3.options;
    assert_eq!((s3.url.as_str(), options.endpoint.as_deref()), ("s3://bucket/prefix", Some("http://127.0.0.1:8333")));
    assert_eq!(options.access_key_id.as_deref(), Some("key-id"));
    assert_eq!(options.secret_access_key.as_ref().unwrap().reveal(), "hunter2");
}

#[test]
fn takes_the_documented_agent_file() {
    let config = agent(AGENT).unwrap();
    assert_eq!(config.cluster.len(), 3);
    assert_eq!(config.socket, PathBuf::from("/etc/seawall/agent.sock"));
    assert_eq!(config.databases.len(), 1);
    assert_eq!(config.databases[0].path, PathBuf::from("/data/app.db"));
    assert_eq!(config.databases[0].name.as_str(), "app");
}

#[test]
fn takes_every_kind_of_destination() {
    let more = r#"  - { name: gcs, url: "gs://bucket/x", credentials-file: gcs.json, storage-class: NEARLINE, timeout: 30s }
  - { name: azure, url: "abs://acc@box/x", account-key: "aHVudGVyMg==" }
  - { name: signed, url: "abs://acc@other/x", sas-token: "sv=1&sig=hunter2", ca-file: ca.pem }
  - { name: connected, url: "abs://third/x", connection-string: "AccountName=acc;AccountKey=aHVudGVyMg==" }
  - { name: host, url: "sftp://me@host:2222/x", key-file: id, key-passphrase: "${SECRET}", known-hosts: hosts }
  - { name: print, url: "sftp://me@host/y", password: "${SECRET}", host-key: "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU" }
"#;
    let config = node(&format!("{NODE}{more}")).unwrap();
    let [gcs, azure, signed, connected, host, print] = &config.destinations[2..] else { panic!("{config:?}") };
    assert_eq!(gcs.options.credentials_file, Some(PathBuf::from("/etc/seawall/gcs.json")));
    assert_eq!(
        (gcs.options.timeout, gcs.options.storage_class.as_deref()),
        (Some(Duration::from_secs(30)), Some("NEARLINE"))
    );
    assert!(azure.options.account_key.is_some() && connected.options.connection_string.is_some());
    assert_eq!(signed.options.ca_file, Some(PathBuf::from("/etc/seawall/ca.pem")));
    assert_eq!(host.options.key_file, Some(PathBuf::from("/etc/seawall/id")));
    assert_eq!(host.options.known_hosts, Some(PathBuf::from("/etc/seawall/hosts")));
    assert_eq!(print.options.password.as_ref().unwrap().reveal(), "hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn secrets_show_nowhere() {
    let config = node(NODE).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    let broken = NODE.replace("\"${SECRET}\"", "hunter2, secret-acess-key: hunter2");
    let error = node(&broken).unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}

#[test]
fn values_are_expanded_before_they_are_parsed() {
    assert_eq!(node(&NODE.replace("{ id: 1, data-dir", "{ id: \"${ID}\", data-dir")).unwrap().id, 1);
    let (line, problem) = refusal(node(&NODE.replace("${KEY}", "${NO_SUCH_KEY}")));
    assert_eq!(line, 7);
    assert!(problem.contains("NO_SUCH_KEY"), "{problem}");
}

#[test]
fn destinations_are_verified_once_a_day_unless_told() {
    let verification =
        |key: &str| node(&NODE.replace("upload-interval: 10s", key)).unwrap().destinations[0].verification.clone();
    let default = verification("upload-interval: 10s");
    assert_eq!(default, VerificationOptions::default());
    assert_eq!((default.interval, default.bandwidth), (Some(Duration::from_hours(24)), 16 << 20));
    assert_eq!(verification("verify-interval: 0s").interval, None);
    let chosen = verification("verify-interval: 6h, verify-bandwidth: 2MiB, verify-integrity-check: full");
    let expected = VerificationOptions {
        interval: Some(Duration::from_hours(6)),
        bandwidth: 2 << 20,
        integrity_check: IntegrityCheck::Full,
    };
    assert_eq!(chosen, expected);
}

#[test]
fn relative_file_urls_start_at_the_configuration_file() {
    let config = node(&NODE.replace("file:///backups", "file://./backups/a")).unwrap();
    assert_eq!(config.destinations[0].url, "file:///etc/seawall/backups/a");
}

#[test]
fn unknown_keys_are_refused_with_line_and_nearest_key() {
    for (from, to, line, nearest) in [
        ("data-dir:", "data_dir:", 1, "`data-dir`"),
        ("listen:", "lisen:", 1, "`listen`"),
        ("  nodes:", "  node:", 4, "`nodes`"),
        ("destinations:", "destination:", 5, "`destinations`"),
        ("upload-interval", "upload-intervall", 6, "`upload-interval`"),
        ("endpoint", "end-point", 7, "`endpoint`"),
    ] {
        let (found, problem) = refusal(node(&NODE.replacen(from, to, 1)));
        assert_eq!(found, line, "{problem}");
        assert!(problem.contains(&format!("did you mean {nearest}")), "{problem}");
    }
    let (line, problem) = refusal(agent(&AGENT.replace("dbs", "databases")));
    assert_eq!(line, 3, "{problem}");
}

#[test]
fn history_is_cut_and_kept_as_each_destination_says() {
    let config = node(NODE).unwrap();
    assert_eq!(config.destinations[0].windows, Windows::default());
    assert_eq!(config.destinations[0].retention, Retention::default());
    let text = NODE.replacen(
        "upload-interval: 10s",
        "upload-size: 1MiB, level-1-interval: 1m, level-2-interval: 0s, snapshot-interval: 12h, snapshot-size: 1GB, \
         retention: 48h, retention-snapshots: 3, retention-grace: 30m, delete: never",
        1,
    );
    let hours = Duration::from_hours;
    let config = node(&text).unwrap();
    let windows = Windows {
        upload_interval: Duration::from_secs(10),
        upload_bytes: 1 << 20,
        level_one_interval: Duration::from_mins(1),
        level_two_interval: Duration::ZERO,
        snapshot_interval: hours(12),
        snapshot_min_bytes: 1_000_000_000,
    };
    assert_eq!(config.destinations[0].windows, windows);
    let retention = Retention {
        age: hours(48),
        snapshots: 3,
        transactions: hours(24),
        level_one: hours(48),
        grace: Duration::from_mins(30),
        deletion: Deletion::Never,
    };
    assert_eq!(config.destinations[0].retention, retention);
}

#[test]
fn contradictions_are_refused() {
    for (from, to, line, says) in [
        ("node: { id: 1", "node: { id: 4", 1, "not among cluster.nodes (1, 2, 3)"),
        ("node: { id: 1", "node: { id: 0", 1, "not a number from 1"),
        ("listen: 127.0.0.1:7400", "listen: 127.0.0.1:7401", 1, "address of node 2"),
        ("http: 127.0.0.1:7480", "http: 127.0.0.1:7400", 1, "node.listen already"),
        ("listen: 127.0.0.1:7400", "listen: nowhere", 1, "HOST:PORT"),
        ("{ id: 2, ", "{ id: 1, ", 4, "occurs twice"),
        ("address: 127.0.0.1:7401", "address: 127.0.0.1:7402", 4, "address of node 2 already"),
        ("name: s3", "name: local", 7, "stands on line 6"),
        ("name: s3", "name: all", 7, "none of all, node, quorum"),
        ("name: s3", "name: \"a b\"", 7, "letters"),
        ("upload-interval: 10s", "upload-interval: 1ms", 6, "within 100ms and 1day"),
        ("upload-interval: 10s", "upload-interval: 25h", 6, "within 100ms and 1day"),
        ("upload-interval: 10s", "upload-interval: soon", 6, "10s"),
        ("upload-interval: 10s", "upload-size: 16", 6, "between 64KiB and 1GiB"),
        ("upload-interval: 10s", "upload-size: 2GiB", 6, "between 64KiB and 1GiB"),
        ("upload-interval: 10s", "level-1-interval: 2h", 6, "not longer than level-1-interval, 2h"),
        ("upload-interval: 10s", "level-2-interval: 5m", 6, "not longer than level-1-interval, 5m"),
        ("upload-interval: 10s", "snapshot-interval: 30m", 6, "not longer than level-2-interval, 1h"),
        ("upload-interval: 10s", "snapshot-interval: 1s", 6, "within 1m and"),
        ("upload-interval: 10s", "snapshot-size: much", 6, "not a number of bytes"),
        ("upload-interval: 10s", "retention: for ever", 6, "retention"),
        ("upload-interval: 10s", "retention: 1h, retention-level-1: 2h", 6, "longer than retention"),
        (
            "upload-interval: 10s",
            "retention-level-1: 1h, retention-transactions: 2h",
            6,
            "longer than retention-level-1",
        ),
        ("upload-interval: 10s", "retention-snapshots: 0", 6, "never deleted"),
        ("upload-interval: 10s", "retention-grace: 1s", 6, "within 1m and"),
        ("upload-interval: 10s", "delete: perhaps", 6, "neither expired nor never"),
        ("upload-interval: 10s", "verify-interval: 2000000h", 6, "within 1s and a year, nor 0s (never)"),
        ("upload-interval: 10s", "verify-interval: 10ms", 6, "within 1s and a year"),
        ("upload-interval: 10s", "verify-bandwidth: 1KiB", 6, "verify-bandwidth: `1KiB` is too little: 64KiB at least"),
        ("upload-interval: 10s", "verify-bandwidth: fast", 6, "write 512MiB"),
        ("upload-interval: 10s", "verify-integrity-check: deep", 6, "none of none, quick, full"),
        ("upload-interval: 10s", "region: eu", 6, "has no region: remove them"),
        ("region: us-east-1", "host-key: x", 7, "`host-key` means nothing to s3://"),
        ("region: us-east-1", "timeout: soon", 7, "timeout"),
        ("region: us-east-1", "timeout: 2h", 7, "within 100ms and 1h"),
        ("region: us-east-1", "sse: rot13", 7, "use AES256, aws:kms"),
        ("http://127.0.0.1:8333", "127.0.0.1:8333", 7, "is no URL"),
        ("s3://bucket/prefix", "ftp://bucket/prefix", 7, "supported are"),
        (", secret-access-key: \"${SECRET}\"", "", 7, "needs a secret-access-key"),
        ("s3://bucket/prefix", "bucket/prefix", 7, "not a URL"),
        ("  name: prod", "  name: \"\"", 3, "1 to 100"),
    ] {
        let text = NODE.replacen(from, to, 1);
        assert_ne!(text, NODE, "{from}");
        let (found, problem) = refusal(node(&text));
        assert!(problem.contains(says), "{to}: {problem}");
        assert_eq!(found, line, "{to}: {problem}");
    }
    let twice = format!("{NODE}  - {{ name: again, url: \"file:///backups/\" }}\n");
    assert!(refusal(node(&twice)).1.contains("same place as `local`"));
    for (from, to, says) in [
        ("127.0.0.1:7401", "127.0.0.1:7400", "occurs twice"),
        ("name: app", "name: ../app", "not a database name"),
        (" } ]", " }, { path: /data/app.db, name: b } ]", "captured as `app` already"),
        (" } ]", " }, { path: /data/b.db, name: app } ]", "occurs twice"),
        ("[ { path: /data/app.db, name: app } ]", "[]", "at least one database"),
    ] {
        let (_, problem) = refusal(agent(&AGENT.replacen(from, to, 1)));
        assert!(problem.contains(says), "{to}: {problem}");
    }
}

#[test]
fn takes_what_the_disk_section_says() {
    assert_eq!(node(NODE).unwrap().disk, DiskConfig { budget: None, reserve: None, destination_share: 25 });
    let with = |disk: &str| node(&NODE.replacen("destinations:", &format!("disk: {disk}\ndestinations:"), 1));
    let disk = with("{ budget: 100GiB, reserve: 512 MB, destination-share: 40% }").unwrap().disk;
    assert_eq!(disk, DiskConfig { budget: Some(100 << 30), reserve: Some(512_000_000), destination_share: 40 });
    for (disk, says) in [
        ("{ budget: 100 }", "write 512MiB"),
        ("{ budget: lots }", "write 512MiB"),
        ("{ budget: 63MiB }", "disk.budget: `63MiB` is too little: 64MiB at least"),
        ("{ reserve: 1MiB }", "4MiB at least"),
        ("{ budget: 64MiB, reserve: 40MiB }", "more than half of disk.budget (64MiB)"),
        ("{ destination-share: 25 }", "write 25%"),
        ("{ destination-share: 0% }", "not within 5% and 90%"),
        ("{ destination-share: 95% }", "not within 5% and 90%"),
        ("{ destinations-share: 25% }", "did you mean `destination-share`"),
    ] {
        let (line, problem) = refusal(with(disk));
        assert!(problem.contains(says), "{disk}: {problem}");
        assert_eq!(line, 5, "{disk}: {problem}");
    }
}

#[test]
fn missing_keys_broken_yaml_and_wrong_kinds_are_refused() {
    assert!(refusal(node(&NODE.replace("  name: prod\n", ""))).1.contains("`name` is missing"));
    for text in ["", "node", "[]", "node: {", "a: b: c", "node: [1]\n", "\u{0}", "--- 1\n--- 2\n"] {
        assert!(node(text).is_err(), "{text:?}");
        assert!(agent(text).is_err(), "{text:?}");
    }
    let doubled = NODE.replace("  name: prod", "  name: prod\n  name: other");
    assert!(node(&doubled).is_err());
}
