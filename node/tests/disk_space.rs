//! Real nodes on real file systems that fill up.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use support::{Cluster, wait_for};

const LONG: Duration = Duration::from_secs(90);
/// Bytes of a row.
const ROW: usize = 64 << 10;
/// Rows of the table, which every commit fills anew.
const ROWS: i64 = 32;
const NODES: usize = 3;

/// A database of two megabytes in which nothing compresses, so that bytes written are bytes shipped.
struct Noise {
    db: Connection,
    path: PathBuf,
    state: u64,
    next: i64,
}

impl Noise {
    fn create(path: PathBuf) -> Self {
        let db = Connection::open(&path).unwrap();
        db.busy_timeout(Duration::from_secs(10)).unwrap();
        db.pragma_update(None, "journal_mode", "wal").unwrap();
        db.execute_batch("CREATE TABLE noise (id INTEGER PRIMARY KEY, data BLOB NOT NULL)").unwrap();
        Self { db, path, state: 42, next: 0 }
    }

    fn row(&mut self) -> Vec<u8> {
        let next = |_| {
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.state >> 32) as u8
        };
        (0..ROW).map(next).collect()
    }

    /// Commits this many mebibytes at once.
    fn write_at_once(&mut self, mib: usize) {
        for _ in 0..mib * ((1 << 20) / ROW) {
            if self.db.is_autocommit() {
                self.db.execute_batch("BEGIN IMMEDIATE").unwrap();
            }
            let row = self.row();
            self.db.execute("INSERT INTO noise VALUES (NULL, ?)", params![row]).unwrap();
        }
        self.db.execute_batch("COMMIT").unwrap();
    }

    /// Commits this many mebibytes, one at a time.
    fn write(&mut self, mib: usize) {
        for _ in 0..mib {
            let rows: Vec<Vec<u8>> = (0..(1 << 20) / ROW).map(|_| self.row()).collect();
            let transaction = self.db.transaction().unwrap();
            for row in rows {
                self.next = (self.next + 1) % ROWS;
                transaction.execute("INSERT OR REPLACE INTO noise VALUES (?, ?)", params![self.next, row]).unwrap();
            }
            transaction.commit().unwrap();
        }
    }
}

/// Everything in a database, by id.
fn contents(path: &Path) -> Vec<(i64, Vec<u8>)> {
    let db = Connection::open(path).unwrap();
    let mut statement = db.prepare("SELECT id, data FROM noise ORDER BY id").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn destination<'a>(status: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let destinations = status["databases"][0]["destinations"].as_array();
    destinations.and_then(|all| all.iter().find(|one| one["name"] == name)).unwrap_or(&serde_json::Value::Null)
}

fn log_bytes(cluster: &Cluster, index: usize) -> u64 {
    let log = cluster.path(&format!("n{}", index + 1)).join("log");
    fs::read_dir(log).unwrap().map(|entry| entry.and_then(|entry| entry.metadata()).map_or(0, |it| it.len())).sum()
}

/// Everything committed is everywhere, and comes back from everywhere.
fn check_everything(cluster: &Cluster, noise: &Noise) {
    cluster.sync_until_done("app", "all", LONG);
    let truth = contents(&noise.path);
    for source in cluster.sources("app") {
        let restored = cluster.restore(&source, &[]).unwrap();
        assert!(contents(&restored) == truth, "{source} gives another database");
    }
}

#[test]
fn a_destination_that_is_away_for_long_is_detached_and_comes_back_by_itself() {
    let mut cluster = Cluster::new(NODES, "disk: { budget: 64MiB, destination-share: 20% }\n");
    let mut noise = Noise::create(cluster.path("app.db"));
    cluster.add_database(noise.path.clone(), "app");
    // A file where its directory should be.
    fs::write(cluster.path("two"), "away").unwrap();
    cluster.start_nodes();
    cluster.wait_for_leader();
    cluster.start_agent();
    // No faster than the other destination takes it.
    let write_much = |noise: &mut Noise| {
        for _ in 0..20 {
            noise.write(2);
            cluster.sync_until_done("app", "one", LONG);
        }
    };
    write_much(&mut noise);
    wait_for("it is shown as detached", LONG, || {
        cluster.status().is_some_and(|status| destination(&status, "two")["state"] == "detached")
    });
    let status = cluster.status().unwrap();
    assert!(destination(&status, "two")["last_error"].as_str().is_some_and(|error| !error.is_empty()), "{status}");
    assert_eq!(destination(&status, "one")["state"], "healthy", "{status}");
    // What Raft keeps is left.
    let is_short = |cluster: &Cluster| (0..NODES).all(|index| log_bytes(cluster, index) < 12 << 20);
    wait_for("the log is short again everywhere", LONG, || is_short(&cluster));
    // More than the budget has room for, with it still away.
    write_much(&mut noise);
    wait_for("the log is short again everywhere", LONG, || is_short(&cluster));
    fs::remove_file(cluster.path("two")).unwrap();
    noise.write(1);
    check_everything(&cluster, &noise);
    let healthy = || cluster.status().is_some_and(|status| destination(&status, "two")["state"] == "healthy");
    wait_for("it is healthy again", LONG, healthy);
    noise.write(3);
    check_everything(&cluster, &noise);
}

#[test]
fn a_transaction_for_which_there_is_no_room_holds_up_nobody_else() {
    let mut cluster = Cluster::new(NODES, "disk: { budget: 64MiB, reserve: 8MiB }\n");
    let mut large = Noise::create(cluster.path("large.db"));
    let mut small = Noise::create(cluster.path("small.db"));
    cluster.add_database(large.path.clone(), "large");
    cluster.add_database(small.path.clone(), "small");
    cluster.start_nodes();
    cluster.wait_for_leader();
    cluster.start_agent();
    large.write(1);
    small.write(1);
    for name in ["large", "small"] {
        cluster.sync_until_done(name, "quorum", LONG);
    }
    large.write_at_once(100);
    wait_for("it is refused at its first part", LONG, || {
        cluster.sync("large", "quorum", "1s").is_err()
            && fs::read_to_string(cluster.path("agent.log")).unwrap().contains("too large at present")
    });
    // Nothing is left of what arrived of it, and the others go on.
    wait_for("the log is short again everywhere", LONG, || {
        (0..NODES).all(|index| log_bytes(&cluster, index) < 24 << 20)
    });
    // More than there is room for: the database that waits keeps none of it.
    for _ in 0..45 {
        small.write(1);
        cluster.sync_until_done("small", "quorum", LONG);
    }
    wait_for("the log is short again everywhere", LONG, || {
        (0..NODES).all(|index| log_bytes(&cluster, index) < 24 << 20)
    });
}

/// What a test does in a namespace of its own, where it may mount file systems.
fn in_namespace(test: &str, body: fn()) {
    const INSIDE: &str = "SEAWALL_TEST_INSIDE_NAMESPACE";
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .expect("unshare (util-linux) is needed for this test");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success(),
        "either the test failed in its namespace, or user and mount namespaces are not allowed here (try \
         `unshare --user --map-root-user --mount true`):\n{text}"
    );
}

fn mount(directory: &Path, mib: u32) {
    fs::create_dir_all(directory).unwrap();
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "none"]).arg(directory).status();
    assert!(mounted.unwrap().success(), "a small file system cannot be mounted");
}

/// Fills a node's file system until `left` bytes are free.
fn fill(cluster: &Cluster, index: usize, left: u64) {
    let path = ballast(cluster, index);
    let mut file = fs::File::create(&path).unwrap();
    let chunk = vec![1; 64 << 10];
    while file.write_all(&chunk).is_ok() {}
    let len = file.metadata().unwrap().len();
    file.set_len(len.saturating_sub(left)).unwrap();
}

fn ballast(cluster: &Cluster, index: usize) -> PathBuf {
    cluster.path(&format!("n{}", index + 1)).join("ballast")
}

fn make_room(cluster: &Cluster, index: usize) {
    fs::remove_file(ballast(cluster, index)).unwrap();
}

fn is_running(cluster: &Cluster, index: usize) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", cluster.node(index).id())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// As an init system does.
fn restart_those_that_ended(cluster: &mut Cluster) {
    for index in 0..NODES {
        if !is_running(cluster, index) {
            drop(cluster.take_node(index));
            cluster.start_node(index);
        }
    }
}

fn problem(cluster: &Cluster) -> String {
    let status = cluster.status().unwrap_or_default();
    status["problem"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn disks_that_fill_up_lose_nothing_and_the_cluster_goes_on_when_there_is_room() {
    in_namespace("disks_that_fill_up_lose_nothing_and_the_cluster_goes_on_when_there_is_room", || {
        let mut cluster = Cluster::new(NODES, "disk: { reserve: 16MiB }\n");
        for index in 0..NODES {
            mount(&cluster.path(&format!("n{}", index + 1)), 96);
        }
        let mut noise = Noise::create(cluster.path("app.db"));
        cluster.add_database(noise.path.clone(), "app");
        cluster.start_nodes();
        let leader = cluster.wait_for_leader();
        cluster.start_agent();
        noise.write(4);
        cluster.sync_until_done("app", "quorum", LONG);

        // Without a majority that has room, nothing is let in, though the leader has plenty.
        let followers: Vec<usize> = (0..NODES).filter(|index| *index != leader).collect();
        for index in &followers {
            fill(&cluster, *index, 9 << 20);
        }
        wait_for("the leader says so", LONG, || problem(&cluster).contains("no majority is left"));
        noise.write(1);
        assert!(cluster.sync("app", "quorum", "3s").is_err());
        assert!((0..NODES).all(|index| is_running(&cluster, index)));
        make_room(&cluster, followers[0]);
        cluster.sync_until_done("app", "quorum", LONG);
        assert_eq!(problem(&cluster), "");
        make_room(&cluster, followers[1]);
        check_everything(&cluster, &noise);

        // The leader's disk alone is no reason to refuse.
        let leader = cluster.wait_for_leader();
        fill(&cluster, leader, 9 << 20);
        noise.write(1);
        wait_for("another node leads", LONG, || cluster.leader().is_some_and(|now| now != leader));
        cluster.sync_until_done("app", "quorum", LONG);
        make_room(&cluster, leader);
        check_everything(&cluster, &noise);

        // With one node away, a full one is not made to help out.
        let leader = cluster.wait_for_leader();
        let [away, full] = [(leader + 1) % NODES, (leader + 2) % NODES];
        cluster.kill_node(away);
        fill(&cluster, full, 9 << 20);
        wait_for("the leader says so", LONG, || problem(&cluster).contains("no majority is left"));
        noise.write(1);
        assert!(cluster.sync("app", "quorum", "3s").is_err());
        cluster.start_node(away);
        cluster.sync_until_done("app", "quorum", LONG);
        make_room(&cluster, full);
        check_everything(&cluster, &noise);

        // The reserve goes too, all of it, on all of them, while something is written.
        let writer = std::thread::spawn(move || {
            for _ in 0..20 {
                noise.write(1);
                std::thread::sleep(Duration::from_millis(100));
            }
            noise
        });
        for index in 0..NODES {
            fill(&cluster, index, 0);
        }
        let until = Instant::now() + Duration::from_secs(8);
        while Instant::now() < until {
            restart_those_that_ended(&mut cluster);
            std::thread::sleep(Duration::from_millis(500));
        }
        let mut noise = writer.join().unwrap();
        assert!(cluster.sync("app", "quorum", "3s").is_err());
        for index in 0..NODES {
            make_room(&cluster, index);
        }
        wait_for("the cluster goes on by itself", LONG, || {
            restart_those_that_ended(&mut cluster);
            cluster.sync("app", "quorum", "3s").is_ok()
        });
        check_everything(&cluster, &noise);
        noise.write(2);
        check_everything(&cluster, &noise);
    });
}
