//! The agent's capture beside an application that dies in every way: what it captures is what the source truly was.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{AbortHandle, Abortable};
use seawall_agent::ClusterClock;
use seawall_agent::capture::{Base, Capture, CaptureError, Look, PageVector, Progress, Resync, Sink};
use seawall_host::time::{Instant, UnixMillis, sleep, timeout};
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{Lineage, PageNumber, PageSize, Position, Txid};
use seawall_proto::segment::EncodeError;
use seawall_proto::v1::WalPosition;

use super::directory::TemporaryDirectory;
use super::machine::MachineDeath;
use super::source::Source;
use super::sqlite::SeededSqlite;
use super::{Application, ApplicationOptions};
use crate::oracles::{history_is_source, restored_equals_source};
use crate::world::{SimWorld, WorldOptions};

/// What a cluster would hold: the captured commits, and the pages as of the last.
#[derive(Default)]
struct Held {
    positions: Vec<Position>,
    page_size: Option<PageSize>,
    pages: BTreeMap<u32, Vec<u8>>,
    open: BTreeMap<u32, Vec<u8>>,
    resyncs: u32,
}

impl Sink for Held {
    fn begin(&mut self, _transactions: u32) -> Result<(), EncodeError> {
        Ok(())
    }

    fn page(&mut self, page: PageNumber, bytes: &[u8]) -> Result<(), EncodeError> {
        self.open.insert(page.0, bytes.to_vec());
        Ok(())
    }

    fn commit(&mut self, page_count: u32, _time: UnixMillis, checksum: Checksum) -> Result<(), EncodeError> {
        self.pages.append(&mut self.open);
        self.pages.retain(|page, _| *page <= page_count);
        let txid = Txid(self.positions.len() as u64 + 1);
        self.positions.push(Position { lineage: Lineage(1), txid, checksum });
        Ok(())
    }

    fn end(&mut self, _wal: Option<WalPosition>) -> Result<(), EncodeError> {
        Ok(())
    }
}

impl Held {
    fn base(&self, page_size: PageSize) -> Base {
        if self.page_size != Some(page_size) {
            return Base::Nothing;
        }
        let hashes = self.pages.iter().map(|(page, bytes)| Checksum::of_page(PageNumber(*page), bytes).0);
        Base::State(PageVector::from_hashes(page_size, hashes.collect()))
    }

    fn check(&self, source: &Source) {
        source.with_history(|history| {
            history_is_source::check(&self.positions, history).unwrap();
            let image: Vec<u8> = self.pages.values().flatten().copied().collect();
            let claimed = self.positions.last().unwrap();
            restored_equals_source::check(&image, self.page_size.unwrap(), claimed, history).unwrap();
        });
    }
}

/// Captures until something comes in between; a cluster is never asked.
async fn capture(source: &Source, held: &Mutex<Held>) -> Result<(), CaptureError> {
    const BUDGET: usize = 64 << 10;
    let mut wal = source.path().as_os_str().to_owned();
    wal.push("-wal");
    let changes = seawall_host::watch::watch(wal.as_ref());
    let mut capture =
        Capture::open(source.path(), Arc::new(ClusterClock::at(UnixMillis::now()))).map_err(CaptureError::Unusable)?;
    capture.attach()?;
    let mut resync = {
        let mut held = held.lock().unwrap();
        held.open.clear();
        held.resyncs += 1;
        let base = held.base(capture.page_size());
        held.page_size = Some(capture.page_size());
        Some(Resync::new(base, false))
    };
    loop {
        let now = Instant::now();
        let outcome = {
            let sink = &mut *held.lock().unwrap();
            match &mut resync {
                Some(it) => it.step(&mut capture, now, sink, BUDGET),
                None => step(&mut capture, now, sink, BUDGET),
            }
        };
        match outcome {
            Ok(Progress::CaughtUp) => {
                resync = None;
                let _ = timeout(Duration::from_millis(200), changes.changed()).await;
            }
            Ok(Progress::More) | Err(CaptureError::Busy) => sleep(Duration::from_millis(1)).await,
            Err(error) => return Err(error),
        }
    }
}

fn step(capture: &mut Capture, now: Instant, sink: &mut Held, budget: usize) -> Result<Progress, CaptureError> {
    if capture.look()? == Look::Found {
        capture.note_commit(now);
        if capture.advance(sink, budget)? == Progress::More {
            return Ok(Progress::More);
        }
    }
    capture.maintain(now, sink)?;
    Ok(Progress::CaughtUp)
}

/// Runs an agent's capture on the application's machine until it is aborted.
fn attach(application: &Application, held: &Arc<Mutex<Held>>) -> AbortHandle {
    let (abort, registration) = AbortHandle::new_pair();
    let (source, held) = (Arc::clone(&application.sources()[0]), Arc::clone(held));
    let task = async move {
        loop {
            let _ = capture(&source, &held).await;
            sleep(Duration::from_millis(50)).await;
        }
    };
    let task = Abortable::new(task, registration);
    crate::world::current().spawn_on(application.machine(), async move {
        let _ = task.await;
    });
    abort
}

async fn scenario(application: &Application, held: &Arc<Mutex<Held>>) {
    let world = crate::world::current();
    let source = &application.sources()[0];
    for round in 0..15 {
        application.start();
        let mut agent = attach(application, held);
        sleep(Duration::from_millis(2500)).await;
        match round % 5 {
            0 => application.kill().await,
            1 => {
                // The application writes on without its agent, and ends in order.
                agent.abort();
                sleep(Duration::from_millis(800)).await;
                application.stop().await;
            }
            2 => {
                agent.abort();
                application.kill().await;
                sleep(Duration::from_millis(1)).await;
                application.replace_with_backup(source).unwrap();
                application.change_page_size(source).unwrap();
            }
            3 => {
                application.machine_dies(MachineDeath::PowerLoss).unwrap();
                world.start(application.machine());
            }
            _ => {
                application.machine_dies(MachineDeath::Reset).unwrap();
                world.start(application.machine());
            }
        }
        agent.abort();
        agent = attach(application, held);
        sleep(Duration::from_secs(3)).await;
        // Nobody writes: capture has caught up with the very state of the source.
        let newest = source.with_history(|history| history.newest().unwrap().1.content.checksum);
        let held = held.lock().unwrap();
        assert_eq!(held.positions.last().unwrap().checksum, newest, "round {round}");
        held.check(source);
        drop(held);
        agent.abort();
    }
}

#[test]
fn capture_follows_the_source_through_every_death() {
    let mut captured = 0;
    for seed in 0..8 {
        let _sqlite = SeededSqlite::new(seed);
        let directory = TemporaryDirectory::new().unwrap();
        let world = SimWorld::new(seed, WorldOptions::default());
        let within = Arc::clone(&world);
        let outcome = world.run(async move {
            let machine = within.add_machine("s1");
            let options = ApplicationOptions { databases: vec!["app".parse().unwrap()], disruptive: true };
            let application = Application::new(machine, &directory, &options).unwrap();
            let held = Arc::new(Mutex::new(Held::default()));
            scenario(&application, &held).await;
            within.kill(machine, true);
            let held = held.lock().unwrap();
            assert!(held.resyncs >= 30, "{}", held.resyncs);
            held.positions.len()
        });
        captured += outcome.unwrap();
    }
    assert!(captured > 800, "{captured}");
}
