//! Lanes begin and end with leadership; pins stand on every node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use seawall_host::probe::{mutant, sometimes};
use seawall_host::task::{OwnedTask, spawn_owned};
use seawall_host::time::{self, Instant};
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, Txid};
use seawall_proto::v1;
use tokio::sync::Semaphore;

use super::lane::{Lane, LaneContext, Outlet, probe};
use super::plan::{LaneProgress, is_outgrown};
use super::progress::Reporter;
use super::status::{LaneBoard, LaneStatus};
use super::sweep::Sweeper;
use super::{CommittedLog, FanoutOptions, ImageSource, Pin};
use crate::destination::NamedDestination;
use crate::replica::DatabaseView;
use crate::service::ingest::Receipts;

/// Changes of the replica are looked at together when they come faster than this …
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// … or than this for each database, so that looking takes a small part of one processor however many there are.
const LOOK_INTERVAL_EACH: Duration = Duration::from_micros(50);

/// How often it is judged whether destinations outgrew their share.
const JUDGE_INTERVAL: Duration = Duration::from_secs(1);

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
        images: Arc<dyn ImageSource>,
    ) -> Self {
        let names = destinations.iter().map(|destination| destination.name.clone()).collect();
        let handle = FanoutHandle { destinations: names, board: Arc::default() };
        let mut supervisor = Supervisor {
            outlets: outlets(destinations, &options),
            options,
            log,
            images,
            board: Arc::clone(&handle.board),
            kept: BTreeMap::new(),
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

    /// Has a snapshot uploaded, because nothing else at the destination leads to its watermark; does nothing unless this
    /// node leads.
    pub fn request_snapshot(&self, database: &DatabaseName, destination: &str) {
        if let Some(lane) = self.board().lanes.get(&(database.clone(), destination.to_owned())) {
            lane.want_snapshot();
        }
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
    /// When it was last judged, and by which limit.
    judged: Option<(Instant, u64)>,
    /// Whether anything changed since.
    changed: bool,
    _tasks: Vec<OwnedTask>,
}

struct Supervisor {
    options: FanoutOptions,
    outlets: Vec<Arc<Outlet>>,
    log: Arc<dyn CommittedLog>,
    images: Arc<dyn ImageSource>,
    board: Arc<Mutex<Board>>,
    kept: BTreeMap<LaneKey, Kept>,
    session: Option<Session>,
}

/// What is kept of the log for one database at one destination.
struct Kept {
    /// None while the destination is detached.
    pin: Option<Box<dyn Pin>>,
    progress: LaneProgress,
    head: Txid,
}

fn outlets(destinations: Vec<NamedDestination>, options: &FanoutOptions) -> Vec<Arc<Outlet>> {
    let mut outlets: Vec<Outlet> = destinations.into_iter().map(|place| Outlet::new(place, options)).collect();
    if mutant("destinations-take-turns") {
        let turn = Arc::new(Semaphore::new(1));
        outlets.iter_mut().for_each(|outlet| outlet.uploads = Arc::clone(&turn));
    }
    outlets.into_iter().map(Arc::new).collect()
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
            // Where nothing is committed any more, room may still become less.
            while let Err(time::Elapsed) = time::timeout(JUDGE_INTERVAL, async { seen = log.changed(seen).await }).await
            {
                self.judge();
            }
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
        if let Some(session) = &mut self.session {
            session.changed = true;
        }
        self.judge();
        databases.len()
    }

    /// The leader looks which destinations keep more of the log than they may, and proposes to detach them.
    fn judge(&mut self) {
        let Some(session) = &mut self.session else { return };
        let (now, limit) = (Instant::now(), self.log.destination_limit());
        let is_due = match session.judged {
            None => true,
            Some((at, by)) => (session.changed || by != limit) && now - at >= JUDGE_INTERVAL,
        };
        if !is_due {
            return;
        }
        (session.judged, session.changed) = (Some((now, limit)), false);
        let mut decrees = Vec::new();
        let board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, Kept { pin, progress, head }) in &self.kept {
            let kept = pin.as_ref().filter(|_| progress.watermark < *head).map_or(0, |pin| pin.bytes());
            if let Some(lane) = board.lanes.get(key) {
                lane.state().backlog_bytes = kept;
                lane.bound_resumption(limit);
            }
            if is_outgrown(progress.watermark, *head, kept, limit) {
                decrees.push(v1::DestinationProgress {
                    database: key.0.to_string(),
                    destination: key.1.clone(),
                    lineage: progress.lineage.0,
                    watermark: progress.watermark.0,
                    detached: true,
                    ..v1::DestinationProgress::default()
                });
            }
        }
        drop(board);
        // Until they are taken in: a command that did not get through may be the last for long.
        session.changed = !decrees.is_empty();
        session.reporter.detach(decrees);
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
            let sweeper = Sweeper::new(Arc::clone(&self.log), outlet.destination.clone(), self.options.sweep_interval);
            tasks.push(spawn_owned(sweeper.run()));
        }
        tasks.push(spawn_owned(publish(Arc::clone(&self.board))));
        self.board().reporter = Some(Arc::clone(&reporter));
        self.session = Some(Session {
            reporter,
            lanes: BTreeMap::new(),
            heads: BTreeMap::new(),
            judged: None,
            changed: true,
            _tasks: tasks,
        });
    }

    fn look_at(&mut self, database: &DatabaseName, view: &DatabaseView) {
        let head = (Lineage(view.head.lineage), Txid(view.head.txid));
        for outlet in self.outlets.clone() {
            let key = (database.clone(), outlet.destination.name.clone());
            let agreed = view.destinations.get(&key.1);
            let progress = LaneProgress::replicated(head.0, agreed);
            let needed = progress.watermark.next();
            let is_detached = agreed.is_some_and(|agreed| agreed.detached && agreed.lineage == head.0.0);
            let kept = self.kept.remove(&key).and_then(|kept| kept.pin);
            if is_detached && kept.is_some() && self.session.is_some() {
                tracing::error!(
                    database = %database,
                    destination = key.1,
                    watermark = progress.watermark.0,
                    head = head.1.0,
                    "detached: the destination was away or slow until it kept more of the log than its share. No log is kept \
                     for it any more; it goes on from a snapshot, and transactions before that will not be there"
                );
            }
            let pin = match kept {
                _ if is_detached && !mutant("detached-pin-kept") => None,
                Some(pin) => {
                    pin.advance(needed);
                    Some(pin)
                }
                None => Some(self.log.pin(database, "destination", needed)),
            };
            self.kept.insert(key.clone(), Kept { pin, progress, head: head.1 });
            self.ensure_lane(&key, &outlet);
            if let Some(lane) = self.board().lanes.get(&key) {
                lane.kept_from(progress.watermark);
                lane.is_detached(is_detached);
            }
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

    fn ensure_lane(&mut self, key: &LaneKey, outlet: &Arc<Outlet>) {
        let Some(session) = &mut self.session else { return };
        if session.lanes.contains_key(key) {
            return;
        }
        let interval = outlet.destination.windows.upload_interval;
        let lane = Arc::new(LaneBoard::new(key.0.clone(), key.1.clone(), interval));
        let context = LaneContext {
            log: Arc::clone(&self.log),
            images: Arc::clone(&self.images),
            reporter: Arc::clone(&session.reporter),
            outlet: Arc::clone(outlet),
            board: Arc::clone(&lane),
            options: self.options.clone(),
        };
        session.lanes.insert(key.clone(), spawn_owned(Lane::new(context).run()));
        let mut board = self.board();
        if let Some(txid) = board.closes.remove(key) {
            lane.close(txid);
        }
        board.lanes.insert(key.clone(), lane);
    }
}
