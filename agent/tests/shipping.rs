//! Agents shipping real databases to a cluster that misbehaves on demand.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use seawall_agent::capture::Capture;
use seawall_agent::{Agent, AgentConfig, AgentSizes, DatabaseConfig, DatabaseState, StartError};
use seawall_host::net::{Address, Channel, ChannelOptions};
use seawall_host::{task, time};
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::PageNumber;
use seawall_proto::v1;
use seawall_proto::v1::append_response::Reason;
use support::fake::{Fake, Fault};
use support::{clock, database, insert};

const LIMIT: Duration = Duration::from_secs(30);

fn name() -> DatabaseName {
    "app".parse().unwrap()
}

fn config(fake: &Fake, path: &Path, take_over: bool) -> AgentConfig {
    AgentConfig {
        cluster: fake.addresses.clone(),
        socket: None,
        databases: vec![DatabaseConfig { path: path.to_owned(), name: name(), take_over }],
        sizes: AgentSizes::default(),
    }
}

async fn start(fake: &Fake, path: &Path) -> Agent {
    Agent::start(config(fake, path, false)).await.unwrap()
}

/// An agent that ships an application's database, 4 KiB a page, to a cluster of fakes.
struct Shipping {
    directory: tempfile::TempDir,
    path: PathBuf,
    app: Connection,
    fake: Fake,
    agent: Agent,
}

impl Shipping {
    /// With so many nodes, and so many rows of so many characters to begin with.
    async fn start(nodes: usize, rows: u32, length: u32) -> Self {
        seawall_host::real::install();
        let directory = tempfile::tempdir().unwrap();
        let (path, app) = database(directory.path(), 4096);
        insert(&app, 0, rows, length);
        let fake = Fake::start(nodes).await;
        let agent = start(&fake, &path).await;
        Self { directory, path, app, fake, agent }
    }
}

async fn sync(agent: &Agent) -> u64 {
    let database = agent.database(&name()).unwrap();
    match time::timeout(LIMIT, database.sync()).await {
        Ok(receipt) => receipt.unwrap().position.txid.0,
        Err(_) => panic!("no receipt: {:?}", database.status()),
    }
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = time::Instant::now();
    while !done() {
        assert!(start.elapsed() < LIMIT, "waited in vain for {what}");
        time::sleep(Duration::from_millis(5)).await;
    }
}

/// The cluster has the source's pages, byte for byte, at a moment when nobody writes.
fn assert_equal(fake: &Fake, path: &Path) {
    let mut capture = Capture::open(path, clock()).unwrap();
    capture.attach().unwrap();
    let mut seen = 0;
    fake.with(|state| {
        let read = capture.read_pages(PageNumber(1), |page, bytes| {
            assert!(state.pages.get(&page.0).map(Vec::as_slice) == Some(bytes), "page {} differs", page.0);
            seen += 1;
            true
        });
        assert!(read.unwrap());
        assert_eq!(seen, state.pages.len());
    });
}

async fn write(path: &Path, rows: std::ops::Range<u32>) {
    let path = path.to_owned();
    task::blocking(move || {
        let app = Connection::open(path).unwrap();
        app.busy_timeout(LIMIT).unwrap();
        for row in rows {
            app.execute("UPDATE t SET n = n + 1, text = hex(randomblob(20)) WHERE id = ?1 % 200", [row]).unwrap();
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ships_every_transaction_and_syncs() {
    if !support::has_python() {
        return;
    }
    let Shipping { directory: _directory, path, app, fake, agent } = Shipping::start(1, 200, 300).await;
    assert_eq!(sync(&agent).await, 1);
    write(&path, 0..100).await;
    assert_eq!(sync(&agent).await, 101);
    assert_equal(&fake, &path);
    fake.with(|state| assert_eq!((state.epoch, state.resyncs, state.history.len()), (1, 1, 101)));
    app.execute("UPDATE t SET n = -1 WHERE id = 7", []).unwrap();
    assert!(agent.databases()[0].status().warnings.is_empty());
    support::run_python(
        "import sqlite3,sys\nc=sqlite3.connect(sys.argv[1])\nc.execute('UPDATE t SET n=-2 WHERE id=8')\nc.commit()",
        &[path.to_str().unwrap()],
    );
    assert!(agent.shutdown(LIMIT).await);
    fake.with(|state| assert_eq!(state.head.txid, 103));
    assert_equal(&fake, &path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_broken_streams_and_refusals_lose_nothing_and_need_no_new_claim() {
    let Shipping { directory: _directory, path, app: _app, fake, agent } = Shipping::start(1, 200, 300).await;
    sync(&agent).await;
    for fault in
        [Fault::Disconnect, Fault::LoseAnswer, Fault::Refuse(Reason::Unknown), Fault::Refuse(Reason::NotLeader)]
    {
        fake.with(|state| state.faults = vec![fault, Fault::None, fault, fault]);
        let before = fake.with(|state| state.head.txid);
        write(&path, 0..30).await;
        assert_eq!(sync(&agent).await, before + 30, "{fault:?}");
        // What was left over goes to the next writes.
        fake.with(|state| state.faults.clear());
        assert_equal(&fake, &path);
    }
    fake.with(|state| assert_eq!((state.epoch, state.resyncs), (1, 1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follows_the_leader_without_a_new_claim() {
    let Shipping { directory: _directory, path, app: _app, fake, agent } = Shipping::start(3, 200, 300).await;
    for round in 0..6 {
        write(&path, 0..20).await;
        fake.with(|state| state.leader = round);
        write(&path, 20..30).await;
        sync(&agent).await;
        assert_equal(&fake, &path);
    }
    fake.with(|state| assert_eq!((state.epoch, state.resyncs), (1, 1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_does_not_fit_is_settled_by_a_new_claim_and_a_resync() {
    let Shipping { directory: _directory, path, app: _app, fake, agent } = Shipping::start(1, 200, 300).await;
    sync(&agent).await;
    for (reason, label) in [(Reason::Invalid, "invalid"), (Reason::Quarantined, "quarantined")] {
        let before = fake.with(|state| {
            state.faults = vec![Fault::Refuse(reason)];
            state.epoch
        });
        write(&path, 0..5).await;
        sync(&agent).await;
        assert_equal(&fake, &path);
        assert_eq!(fake.with(|state| state.epoch), before + 1);
        assert_eq!(agent.databases()[0].status().resyncs.get(label).copied().unwrap_or(0), 1, "{label}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_while_the_agent_is_down_arrive_and_only_what_differs_travels() {
    let Shipping { directory: _directory, path, app: _app, fake, agent } = Shipping::start(1, 5000, 1000).await;
    sync(&agent).await;
    drop(agent);
    // Until SQLite's own checkpoints restart the WAL.
    write(&path, 0..2000).await;
    let agent = start(&fake, &path).await;
    sync(&agent).await;
    assert_equal(&fake, &path);
    fake.with(|state| {
        assert_eq!((state.epoch, state.resyncs, state.head.txid), (2, 2, 2));
        assert!(state.last_pages < 200, "{} pages travelled", state.last_pages);
    });
    // And with the WAL just going on, it resumes.
    write(&path, 0..2).await;
    agent.shutdown(LIMIT).await;
    write(&path, 0..3).await;
    let agent = start(&fake, &path).await;
    assert_eq!(sync(&agent).await, 7);
    fake.with(|state| assert_eq!((state.epoch, state.resyncs), (3, 2)));
    assert_equal(&fake, &path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_transaction_travels_in_parts_even_if_it_is_cut_off() {
    let Shipping { directory: _directory, path, app, fake, agent } = Shipping::start(1, 10, 100).await;
    sync(&agent).await;
    insert(&app, 1000, 1100, 400_000);
    sync(&agent).await;
    assert_equal(&fake, &path);
    fake.with(|state| {
        assert!(state.parts > 20, "{} parts", state.parts);
        assert!(state.largest_part <= seawall_proto::MAX_PART_BYTES);
        state.faults = vec![Fault::None; 15];
        state.faults.push(Fault::Disconnect);
    });
    insert(&app, 2000, 2100, 400_000);
    sync(&agent).await;
    assert_equal(&fake, &path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_agent_waits_until_it_is_told_to_take_over_and_then_the_first_stops() {
    let Shipping { directory: _directory, path, app: _app, fake, agent: first } = Shipping::start(1, 200, 300).await;
    sync(&first).await;
    let second = start(&fake, &path).await;
    until("the second agent to say why it waits", || {
        second.databases()[0].status().last_error.is_some_and(|error| error.contains("--take-over"))
    })
    .await;
    drop(second);
    let third = Agent::start(config(&fake, &path, true)).await.unwrap();
    sync(&third).await;
    write(&path, 0..5).await;
    until("the first agent to notice", || first.databases()[0].status().state == DatabaseState::Fenced).await;
    assert!(first.databases()[0].sync().await.is_err());
    sync(&third).await;
    assert_equal(&fake, &path);
    fake.with(|state| assert_eq!(state.epoch, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_has_to_claim_again_leaves_the_database_to_whoever_took_over() {
    let Shipping { directory, path, app, fake, agent } = Shipping::start(1, 200, 300).await;
    sync(&agent).await;
    fake.with(|state| (state.epoch, state.stream_of) = (2, Some(77)));
    drop(app);
    let other = directory.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let (replacement, other_app) = database(&other, 4096);
    drop(other_app);
    for suffix in ["-wal", "-shm"] {
        std::fs::remove_file(format!("{}{suffix}", path.display())).unwrap();
    }
    std::fs::rename(&replacement, &path).unwrap();
    until("the agent to stop", || agent.databases()[0].status().state == DatabaseState::Fenced).await;
    fake.with(|state| assert_eq!(state.epoch, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_applications_checkpoints_get_through_while_the_cluster_is_away() {
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let (path, app) = database(directory.path(), 4096);
    insert(&app, 0, 200, 300);
    let fake = Fake::start(2).await;
    let known = AgentConfig { cluster: fake.addresses[..1].to_vec(), ..config(&fake, &path, false) };
    let agent = Agent::start(known).await.unwrap();
    sync(&agent).await;
    let checkpoint = |mode: &str| {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        app.query_row(&sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(2)?))).unwrap()
    };
    // Only a guard on read mark 0 lets the WAL be cut.
    until("the agent to give way", || checkpoint("TRUNCATE").0 == 0).await;
    fake.lead(1);
    until("the agent to miss the cluster", || agent.databases()[0].status().state == DatabaseState::Waiting).await;
    insert(&app, 300, 400, 300);
    until("a checkpoint to get through", || checkpoint("PASSIVE").1 > 0).await;
    fake.lead(0);
    sync(&agent).await;
    assert_equal(&fake, &path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_behind_a_symbolic_link_is_shipped() {
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let (path, app) = database(directory.path(), 4096);
    insert(&app, 0, 200, 300);
    let links = directory.path().join("links");
    std::fs::create_dir(&links).unwrap();
    let link = links.join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let fake = Fake::start(1).await;
    let agent = start(&fake, &link).await;
    sync(&agent).await;
    write(&path, 0..10).await;
    sync(&agent).await;
    assert_equal(&fake, &path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unusable_databases_say_why_and_are_taken_up_once_they_are_mended() {
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    let fake = Fake::start(1).await;
    let agent = start(&fake, &path).await;
    let says = |text: &'static str| {
        let handle = agent.databases()[0].clone();
        move || handle.status().last_error.is_some_and(|error| error.contains(text))
    };
    until("the missing file to be named", says("no such database file")).await;
    let app = Connection::open(&path).unwrap();
    app.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, text TEXT)").unwrap();
    until("the journal mode to be named", says("PRAGMA journal_mode=WAL")).await;
    fake.with(|state| assert_eq!(state.epoch, 0, "what can't be read is not claimed"));
    app.execute_batch("PRAGMA journal_mode=WAL").unwrap();
    assert_eq!(sync(&agent).await, 1);
    assert_equal(&fake, &path);
    assert_eq!(agent.databases()[0].status().last_error, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_syncs_on_its_socket() {
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let (path, app) = database(directory.path(), 4096);
    insert(&app, 0, 20, 30);
    let fake = Fake::start(1).await;
    let socket = directory.path().join("agent.sock");
    let agent =
        Agent::start(AgentConfig { socket: Some(socket.clone()), ..config(&fake, &path, false) }).await.unwrap();
    let channel = Channel::new(&Address::Unix(socket), ChannelOptions::default());
    let mut client = v1::agent_client::AgentClient::new(channel);
    let request = |database: &str, receipt: &str| v1::SyncRequest {
        database: database.to_owned(),
        receipt: receipt.to_owned(),
        timeout_ms: 20_000,
    };
    let response = client.sync(request("app", "all")).await.unwrap().into_inner();
    assert_eq!((response.lineage, response.epoch, response.txid, response.quorum), (1, 1, 1, 1));
    assert_eq!(response.checksum, fake.with(|state| state.head.checksum));
    assert_eq!(response.destinations.get("backup"), Some(&1));
    let refused = client.sync(request("other", "quorum")).await.unwrap_err();
    assert!(refused.message().contains("only: app"), "{refused}");
    drop(agent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configurations_that_cannot_be_meant_are_refused() {
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let (path, _app) = database(directory.path(), 4096);
    let fake = Fake::start(1).await;
    let one = config(&fake, &path, false);
    let none = AgentConfig { cluster: Vec::new(), ..one.clone() };
    assert!(matches!(Agent::start(none).await, Err(StartError::NoCluster)));
    let mut twice = one.clone();
    twice.databases.push(one.databases[0].clone());
    assert!(matches!(Agent::start(twice).await, Err(StartError::DuplicateName(_))));
    let mut alias = one.clone();
    let link = directory.path().join("alias.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    alias.databases.push(DatabaseConfig { path: link, name: "other".parse().unwrap(), take_over: false });
    assert!(matches!(Agent::start(alias).await, Err(StartError::SameFile(_, _))));
}

/// The bounds of what the stamps since the `seen`th must be, when the cluster is so far beyond this machine's clock.
fn assert_stamped(fake: &Fake, seen: usize, beyond_ms: i64, since: time::UnixMillis) -> usize {
    let stamps = fake.with(|state| state.commit_times.clone());
    let bounds = since.0 + beyond_ms..=time::UnixMillis::now().0 + beyond_ms;
    assert!(stamps.len() > seen && stamps[seen..].iter().all(|stamp| bounds.contains(stamp)), "{stamps:?}: {bounds:?}");
    stamps.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_times_are_what_the_cluster_says_and_never_fall() {
    const DAY: i64 = 24 * 3_600_000;
    /// Ships a row, by whose acknowledgement the agent hears the time.
    async fn ship(it: &Shipping, number: u32) {
        insert(&it.app, number, number + 1, 10);
        sync(&it.agent).await;
    }
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let (path, app) = database(directory.path(), 4096);
    insert(&app, 0, 1, 10);
    let fake = Fake::start(2).await;
    fake.with(|state| state.beyond_ms = -400 * DAY);
    // The wall clock of the test may be slewed meanwhile, and the agent's begins with the answer.
    let slack = |time: time::UnixMillis| time::UnixMillis(time.0 - 2_000);
    let began = slack(time::UnixMillis::now());
    let agent = start(&fake, &path).await;
    let it = Shipping { directory, path, app, fake, agent };
    ship(&it, 1).await;
    let seen = assert_stamped(&it.fake, 0, -400 * DAY, began);

    // It learns of another time by acknowledgements alone.
    it.fake.with(|state| state.beyond_ms = DAY);
    ship(&it, 2).await;
    let seen = it.fake.with(|state| state.commit_times.len()).max(seen);
    let began = slack(time::UnixMillis::now());
    ship(&it, 3).await;
    let seen = assert_stamped(&it.fake, seen, DAY, began);
    let highest = it.fake.with(|state| *state.commit_times.last().unwrap());

    // The cluster's clocks step back: time stands still for the database, and for another life of its agent.
    it.fake.with(|state| state.beyond_ms = 0);
    ship(&it, 4).await;
    ship(&it, 5).await;
    let last = it.fake.with(|state| state.commit_times[seen..].to_vec());
    assert!(last.len() >= 2 && last.iter().skip(1).all(|stamp| *stamp == last[0]) && last[0] >= highest, "{last:?}");
    let Shipping { directory, path, app, fake, agent } = it;
    drop(agent);
    fake.lead(1);
    insert(&app, 6, 7, 10);
    let agent = start(&fake, &path).await;
    sync(&agent).await;
    assert_eq!(fake.with(|state| *state.commit_times.last().unwrap()), last[0]);
    assert_equal(&fake, &path);
    drop(directory);
}
