//! What lanes achieved, on its way through Raft.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::{Either, select};
use seawall_host::time::UnixMillis;
use seawall_host::{random, time};
use seawall_proto::database_name::DatabaseName;
use seawall_proto::v1;
use seawall_proto::v1::command::Command;
use tokio::sync::Notify;

use super::plan::{LaneProgress, back_off};
use super::{CommittedLog, FanoutOptions};

/// At most this many go into one command, far below what one entry may carry.
const MOST_PER_COMMAND: usize = 1000;

#[derive(Default)]
struct Pending {
    progress: BTreeMap<(DatabaseName, String), v1::DestinationProgress>,
    /// Destinations to be detached where they are. They are judged again if these do not get through.
    decrees: Vec<v1::DestinationProgress>,
    urgent: bool,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.progress.is_empty() && self.decrees.is_empty()
    }
}

/// Collects progress; one task ([`Reporter::run`]) proposes it. Only the newest of each lane is kept.
pub(super) struct Reporter {
    log: Arc<dyn CommittedLog>,
    options: FanoutOptions,
    pending: Mutex<Pending>,
    wake: Notify,
}

impl Reporter {
    pub(super) fn new(log: Arc<dyn CommittedLog>, options: FanoutOptions) -> Self {
        Self { log, options, pending: Mutex::default(), wake: Notify::new() }
    }

    /// Takes in the progress of a lane; `retention_due` is when something of it may expire first; `urgent` if someone
    /// waits for it.
    pub(super) fn report(
        &self,
        database: &DatabaseName,
        destination: &str,
        progress: LaneProgress,
        retention_due: UnixMillis,
        urgent: bool,
    ) {
        let message = v1::DestinationProgress {
            database: database.to_string(),
            destination: destination.to_owned(),
            lineage: progress.lineage.0,
            watermark: progress.watermark.0,
            snapshot: progress.snapshot.0,
            bytes_since_snapshot: progress.bytes_since_snapshot,
            snapshot_time_ms: progress.snapshot_time.0,
            detached: false,
            level_one: Some(progress.marks.one.into()),
            level_two: Some(progress.marks.two.into()),
            floors: Vec::new(),
            retention_due_ms: retention_due.0,
        };
        let mut pending = self.pending();
        pending.progress.insert((database.clone(), destination.to_owned()), message);
        pending.urgent |= urgent;
        drop(pending);
        self.wake.notify_one();
    }

    /// Has destinations detached where they are, in place of what was to be decreed before.
    pub(super) fn detach(&self, decrees: Vec<v1::DestinationProgress>) {
        let mut pending = self.pending();
        pending.decrees = decrees;
        pending.decrees.truncate(MOST_PER_COMMAND);
        pending.urgent |= !pending.decrees.is_empty();
        drop(pending);
        self.wake.notify_one();
    }

    /// Proposes at once what is pending, if anything of `database` is.
    pub(super) fn hurry(&self, database: &DatabaseName) {
        let mut pending = self.pending();
        if pending.progress.keys().any(|(pending, _)| pending == database) {
            pending.urgent = true;
            drop(pending);
            self.wake.notify_one();
        }
    }

    /// Proposes what is pending, for as long as it is polled.
    pub(super) async fn run(&self) {
        let mut failures = 0;
        loop {
            while self.pending().is_empty() {
                self.wake.notified().await;
            }
            let (batch, decrees) = (self.take_batch(), std::mem::take(&mut self.pending().decrees));
            let destinations = batch.values().cloned().chain(decrees).collect();
            let command = v1::ProgressCommand { destinations, ..v1::ProgressCommand::default() };
            let command = v1::Command { command: Some(Command::Progress(command)) };
            let until = time::Instant::now();
            match self.log.propose(command).await {
                Ok(_) => {
                    failures = 0;
                    self.wait_until(until + self.options.progress_interval).await;
                }
                Err(error) => {
                    // Also an unknown outcome: numbers only rise, so that saying it twice does no harm.
                    tracing::debug!(%error, "progress of destinations was not taken in yet");
                    self.put_back(batch);
                    failures += 1;
                    let wait = back_off(failures, &self.options).min(2 * self.options.progress_interval);
                    time::sleep(random::jitter(wait)).await;
                }
            }
        }
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_batch(&self) -> BTreeMap<(DatabaseName, String), v1::DestinationProgress> {
        let mut pending = self.pending();
        let rest = pending.progress.keys().nth(MOST_PER_COMMAND).cloned();
        let rest = rest.map(|first| pending.progress.split_off(&first)).unwrap_or_default();
        // A rest is not made to wait: the next batch follows at once.
        pending.urgent = !rest.is_empty();
        std::mem::replace(&mut pending.progress, rest)
    }

    fn put_back(&self, batch: BTreeMap<(DatabaseName, String), v1::DestinationProgress>) {
        let mut pending = self.pending();
        for (lane, progress) in batch {
            pending.progress.entry(lane).or_insert(progress);
        }
        pending.urgent = true;
    }

    /// Waits until `deadline`, or until something urgent is pending.
    async fn wait_until(&self, deadline: time::Instant) {
        while !self.pending().urgent && time::Instant::now() < deadline {
            let woken = std::pin::pin!(self.wake.notified());
            let timer = std::pin::pin!(time::sleep_until(deadline));
            match select(woken, timer).await {
                Either::Left(_) => {}
                Either::Right(_) => return,
            }
        }
    }
}
