//! Lanes begin and end with leadership; pins stand on every node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use seawall_host::probe::sometimes;
use seawall_host::task::{OwnedTask, spawn_owned};
use seawall_host::time::{self, Instant};
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, Txid};

use super::lane::{Lane, LaneContext, Outlet, probe};
use super::plan::LaneProgress;
use super::progress::Reporter;
use super::status::{LaneBoard, LaneStatus};
use super::{CommittedLog, FanoutOptions, Pin, SnapshotSource};
use crate::destination::NamedDestination;
use crate::replica::DatabaseView;
use crate::service::ingest::Receipts;

/// Changes of the replica are looked at together when they come faster than this …
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// … or than this for each database, so that looking takes a small part of one processor however many there are.
const LOOK_INTERVAL_EACH: Duration = Duration::from_micros(50);

/// How often the metrics of lanes are refreshed.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(5);

type LaneKey = (DatabaseName, String);

/// What the supervisor's task shares with its handles.
#[derive(Default)]
struct Board {
    lanes: BTreeMap<LaneKey, Arc<LaneBoard>>,
    /// Asked for before the lane began, perhaps before this node has noticed that it leads.
    closes: BTreeMap<LaneKey, Txid>,
    reporter: Option<Arc<Reporter>>,
}

/// The running fan-out of a node. It ends when this is dropped.
pub struct Fanout {
    handle: FanoutHandle,
    _task: OwnedTask,
}

/// A way to ask the fan-out. Clones share it.
#[derive(Clone)]
pub struct FanoutHandle {
    destinations: Arc<[String]>,
    board: Arc<Mutex<Board>>,
}

impl Fanout {
    /// Starts following `log`: uploads while this node leads, and keeps what destinations lack in any case.
    pub fn start(
        options: FanoutOptions,
        destinations: Vec<NamedDestination>,
        log: Arc<dyn CommittedLog>,
        snapshots: Arc<dyn SnapshotSource>,
    ) -> Self {
        let names = destinations.iter().map(|destination| destination.name.clone()).collect();
        let handle = FanoutHandle { destinations: names, board: Arc::default() };
        let mut supervisor = Supervisor {
            outlets: destinations.into_iter().map(|place| Arc::new(Outlet::new(place, &options))).collect(),
            options,
            log,
            snapshots,
            board: Arc::clone(&handle.board),
            pins: BTreeMap::new(),
            session: None,
        };
        // What is known now is pinned when this returns.
        supervisor.look();
        Self { handle, _task: spawn_owned(supervisor.run()) }
    }

    /// A way to ask it.
    pub fn handle(&self) -> FanoutHandle {
        self.handle.clone()
    }
}

impl FanoutHandle {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every database at every destination, in the order of names; empty unless this node leads.
    pub fn status(&self) -> Vec<LaneStatus> {
        let now = Instant::now();
        self.board().lanes.values().map(|lane| lane.status(now)).collect()
    }
}

impl Receipts for FanoutHandle {
    fn destinations(&self) -> Vec<String> {
        self.destinations.to_vec()
    }

    fn close_window(&self, database: &DatabaseName, txid: Txid, destinations: &[String]) {
        let mut board = self.board();
        for destination in self.destinations.iter().filter(|name| destinations.contains(name)) {
            let key = (database.clone(), destination.clone());
            match board.lanes.get(&key) {
                Some(lane) => lane.close(txid),
                None => {
                    let asked = board.closes.entry(key).or_default();
                    *asked = txid.max(*asked);
                }
            }
        }
        let reporter = board.reporter.clone();
        drop(board);
        if let Some(reporter) = reporter {
            reporter.hurry(database);
        }
    }

    fn last_error(&self, database: &DatabaseName, destination: &str) -> Option<String> {
        let key = (database.clone(), destination.to_owned());
        let lane = self.board().lanes.get(&key).cloned();
        lane.and_then(|lane| lane.status(Instant::now()).last_error)
    }
}

/// What runs while this node leads.
struct Session {
    reporter: Arc<Reporter>,
    lanes: BTreeMap<LaneKey, OwnedTask>,
    /// Heads that the lanes were told of.
    heads: BTreeMap<DatabaseName, (Lineage, Txid)>,
    _tasks: Vec<OwnedTask>,
}

struct Supervisor {
    options: FanoutOptions,
    outlets: Vec<Arc<Outlet>>,
    log: Arc<dyn CommittedLog>,
    snapshots: Arc<dyn SnapshotSource>,
    board: Arc<Mutex<Board>>,
    pins: BTreeMap<LaneKey, Box<dyn Pin>>,
    session: Option<Session>,
}

/// Keeps the metrics of lanes true while their tasks wait for a destination.
async fn publish(board: Arc<Mutex<Board>>) {
    loop {
        time::sleep(PUBLISH_INTERVAL).await;
        let lanes: Vec<_> = board.lock().unwrap_or_else(PoisonError::into_inner).lanes.values().cloned().collect();
        lanes.iter().for_each(|lane| lane.publish());
    }
}

impl Supervisor {
    async fn run(mut self) {
        let log = Arc::clone(&self.log);
        let mut seen = 0;
        loop {
            let looked = Instant::now();
            let databases = self.look();
            seen = log.changed(seen).await;
            let databases = u32::try_from(databases).unwrap_or(u32::MAX);
            time::sleep_until(looked + LOOK_INTERVAL.max(LOOK_INTERVAL_EACH.saturating_mul(databases))).await;
        }
    }

    /// Takes note of leadership, and of every database; answers how many there are.
    fn look(&mut self) -> usize {
        let leads = self.log.leadership().is_leader;
        if leads && self.session.is_none() {
            self.begin_session();
        } else if !leads && self.session.take().is_some() {
            if self.board().lanes.values().any(|lane| lane.state().uploading) {
                sometimes("leader change during an upload");
            }
            *self.board() = Board::default();
        }
        let databases = self.log.databases();
        for database in &databases {
            if let Some(view) = self.log.database(database) {
                self.look_at(database, &view);
            }
        }
        databases.len()
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_session(&mut self) {
        let reporter = Arc::new(Reporter::new(Arc::clone(&self.log), self.options.clone()));
        let proposing = Arc::clone(&reporter);
        let mut tasks = vec![spawn_owned(async move { proposing.run().await })];
        for outlet in &self.outlets {
            tasks.push(spawn_owned(probe(Arc::clone(outlet), self.options.clone())));
        }
        tasks.push(spawn_owned(publish(Arc::clone(&self.board))));
        self.board().reporter = Some(Arc::clone(&reporter));
        self.session = Some(Session { reporter, lanes: BTreeMap::new(), heads: BTreeMap::new(), _tasks: tasks });
    }

    fn look_at(&mut self, database: &DatabaseName, view: &DatabaseView) {
        let head = (Lineage(view.head.lineage), Txid(view.head.txid));
        for outlet in self.outlets.clone() {
            let key = (database.clone(), outlet.destination.name.clone());
            let progress = LaneProgress::replicated(head.0, view.destinations.get(&key.1));
            let needed = progress.watermark.next();
            match self.pins.get(&key) {
                Some(pin) => pin.advance(needed),
                None => {
                    let pin = self.log.pin(database, "destination", needed);
                    self.pins.insert(key.clone(), pin);
                }
            }
            self.ensure_lane(key, &outlet);
        }
        let Some(session) = &mut self.session else { return };
        if session.heads.insert(database.clone(), head) != Some(head) {
            for lane in self.outlets.iter().map(|outlet| (database.clone(), outlet.destination.name.clone())) {
                if let Some(lane) = self.board().lanes.get(&lane) {
                    lane.head_is(head.1);
                }
            }
        }
    }

    fn ensure_lane(&mut self, key: LaneKey, outlet: &Arc<Outlet>) {
        let Some(session) = &mut self.session else { return };
        if session.lanes.contains_key(&key) {
            return;
        }
        let interval = outlet.destination.upload_interval;
        let lane = Arc::new(LaneBoard::new(key.0.clone(), key.1.clone(), interval));
        let context = LaneContext {
            log: Arc::clone(&self.log),
            snapshots: Arc::clone(&self.snapshots),
            reporter: Arc::clone(&session.reporter),
            outlet: Arc::clone(outlet),
            board: Arc::clone(&lane),
            options: self.options.clone(),
        };
        session.lanes.insert(key.clone(), spawn_owned(Lane::new(context).run()));
        let mut board = self.board();
        if let Some(txid) = board.closes.remove(&key) {
            lane.close(txid);
        }
        board.lanes.insert(key, lane);
    }
}
