//! Restores, as an operator does them: with the product's own code, on a machine of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use seawall_host::{disk, time};
use seawall_node::restore::{
    DEFAULT_CHECKPOINT_INTERVAL, Outcome, Progress, Report, RestoreOptions, RestoreSource, When, restore, verify,
};
use seawall_proto::position::{Lineage, PageSize, Position};
use tokio::sync::{Mutex, oneshot};

use crate::disk::Crash;
use crate::random::Stream;
use crate::world::{self, Machine};

/// A restore that takes longer is given up.
const LIMIT: Duration = Duration::from_secs(900);

/// A database that was given back.
#[derive(Clone, Debug)]
pub struct GivenBack {
    /// The state that it claims to be.
    pub position: Position,
    /// The whole file.
    pub image: Bytes,
    /// Its page size, as its header says.
    pub page_size: PageSize,
}

/// Why nothing was given back.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RestoreFailure {
    /// It said so, and why.
    #[error("{0}")]
    Refused(String),
    /// It did not end.
    #[error("no answer after {LIMIT:?}")]
    Hangs,
    /// It said that it worked, and what it left is no database.
    #[error("success was reported, but {0}")]
    Broken(String),
}

/// One in so many restores is interrupted, and begun again.
const INTERRUPTED: f64 = 0.3;

/// The machines of an operator.
pub struct Operator {
    machine: Machine,
    /// Where restores are interrupted: one at a time.
    shaky: Machine,
    trouble: Mutex<()>,
    count: AtomicU64,
}

struct Quiet;

impl Progress for Quiet {
    fn planned(&self, _bytes: u64) {}
    fn read(&self, _bytes: u64) {}
    fn warn(&self, _message: &str) {}
}

impl Operator {
    /// An operator at `machine`, which is nobody else's, nor is `shaky`, which dies in the middle of restores.
    pub fn new(machine: Machine, shaky: Machine) -> Self {
        Self { machine, shaky, trouble: Mutex::new(()), count: AtomicU64::new(0) }
    }

    /// The machine.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// Restores per run so far.
    pub fn restores(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Lets a restore of the newest state say what it would do.
    ///
    /// # Errors
    /// [`RestoreFailure`].
    pub async fn inquire(
        &self,
        source: impl FnOnce() -> Arc<dyn RestoreSource> + Send + 'static,
    ) -> Result<(), RestoreFailure> {
        let (answer, answered) = oneshot::channel();
        world::current().spawn_on(self.machine, async move {
            let options = RestoreOptions { dry_run: true, ..RestoreOptions::new("/restored/nothing.db") };
            let _ = answer.send(run(source(), options).await);
        });
        answered.await.unwrap_or(Err(RestoreFailure::Hangs)).map(|_outcome| ())
    }

    /// Verifies everything that `source` has, to the last page.
    ///
    /// # Errors
    /// [`RestoreFailure`] if it cannot be listed.
    pub async fn verify(
        &self,
        source: impl FnOnce() -> Arc<dyn RestoreSource> + Send + 'static,
    ) -> Result<Report, RestoreFailure> {
        let (answer, answered) = oneshot::channel();
        world::current().spawn_on(self.machine, async move {
            let source = source();
            let verified = time::timeout(LIMIT, verify(source.as_ref(), true, 4, &Quiet)).await;
            let verified = verified.map_err(|_elapsed| RestoreFailure::Hangs);
            let verified = verified.and_then(|it| it.map_err(|error| RestoreFailure::Refused(error.to_string())));
            let _ = answer.send(verified);
        });
        answered.await.unwrap_or(Err(RestoreFailure::Hangs))
    }

    /// Restores `when` (of one lineage, if it is named) from what `source` makes; now and then only when begun again.
    ///
    /// # Errors
    /// [`RestoreFailure`].
    pub async fn restore(
        &self,
        source: impl Fn() -> Arc<dyn RestoreSource> + Send + Sync + 'static,
        when: When,
        lineage: Option<Lineage>,
    ) -> Result<GivenBack, RestoreFailure> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let output = PathBuf::from(format!("/restored/{number}.db"));
        let source: Source = Arc::new(source);
        let world = world::current();
        let interrupted = world.draw(Stream::Oracles, |random| random.chance(INTERRUPTED));
        let _alone = if interrupted { Some(self.trouble.lock().await) } else { None };
        let machine = if interrupted { self.shaky } else { self.machine };
        let options = RestoreOptions {
            when,
            lineage,
            checkpoint_interval: if interrupted { Duration::ZERO } else { DEFAULT_CHECKPOINT_INTERVAL },
            ..RestoreOptions::new(&output)
        };
        if interrupted {
            interrupt(machine, &source, &options).await;
        }
        let answered = begin(machine, &source, options).await;
        let position = match answered.unwrap_or(Err(RestoreFailure::Hangs))? {
            Outcome::Restored(restored) => restored.position,
            other => return Err(RestoreFailure::Broken(format!("what happened was {other:?}"))),
        };
        let disk = world::current().disk_of(machine);
        let image = disk.peek(&output).ok_or_else(|| RestoreFailure::Broken("there is no file".to_owned()))?;
        let page_size = page_size(&image)?;
        let (removed, gone) = oneshot::channel();
        world::current().spawn_on(machine, async move {
            let _ = removed.send(disk::remove_file(&output).await);
        });
        let _ = gone.await;
        Ok(GivenBack { position, image, page_size })
    }
}

type Source = Arc<dyn Fn() -> Arc<dyn RestoreSource> + Send + Sync>;

type Answer = oneshot::Receiver<Result<Outcome, RestoreFailure>>;

/// Begins a restore on `machine`.
fn begin(machine: Machine, source: &Source, options: RestoreOptions) -> Answer {
    let (answer, answered) = oneshot::channel();
    let source = Arc::clone(source);
    world::current().spawn_on(machine, async move {
        let _ = answer.send(run(source(), options).await);
    });
    answered
}

/// Begins a restore on `machine`, of that state or the newest, and lets the machine die while it goes on.
async fn interrupt(machine: Machine, source: &Source, options: &RestoreOptions) {
    let world = world::current();
    let (newest, patience, power) = world.draw(Stream::Oracles, |random| {
        let patience = random.duration(Duration::from_millis(1)..Duration::from_millis(400));
        (random.chance(0.3), patience, random.chance(0.5))
    });
    let when = if newest { When::Newest } else { options.when };
    let answered = begin(machine, source, RestoreOptions { when, ..options.clone() });
    let _ = time::timeout(patience, answered).await;
    world.kill(machine, power);
    world.disk_of(machine).crash(if power { Crash::Power } else { Crash::Process });
    world.start(machine);
    // It may have been done already.
    let (removed, gone) = oneshot::channel();
    let output = options.output.clone();
    world.spawn_on(machine, async move {
        let _ = removed.send(disk::remove_file(&output).await);
    });
    let _ = gone.await;
}

async fn run(source: Arc<dyn RestoreSource>, options: RestoreOptions) -> Result<Outcome, RestoreFailure> {
    let refused = |error: &dyn std::fmt::Display| RestoreFailure::Refused(error.to_string());
    if let Some(parent) = options.output.parent() {
        disk::create_directories(parent).await.map_err(|error| refused(&error))?;
    }
    let outcome = time::timeout(LIMIT, restore(source.as_ref(), &options, &Quiet)).await;
    outcome.map_err(|_elapsed| RestoreFailure::Hangs)?.map_err(|error| refused(&error))
}

/// The page size at offset 16 of a database's header (1 stands for 65536); an empty file has none that matters.
fn page_size(image: &[u8]) -> Result<PageSize, RestoreFailure> {
    let bytes: [u8; 2] = match image.get(16..18) {
        Some(bytes) => [bytes[0], bytes[1]],
        None if image.is_empty() => [0x10, 0],
        None => return Err(RestoreFailure::Broken("the file is shorter than a header".to_owned())),
    };
    let size = match u16::from_be_bytes(bytes) {
        1 => 65_536,
        size => u32::from(size),
    };
    PageSize::new(size).map_err(|error| RestoreFailure::Broken(error.to_string()))
}
