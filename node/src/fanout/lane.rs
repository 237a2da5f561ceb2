//! One database on its way to one destination.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{Either, select};
use seawall_host::probe::{mutant, sometimes};
use seawall_host::task::OwnedTask;
use seawall_host::time::{self, Instant, UnixMillis};
use seawall_host::{random, task::spawn_owned};
use seawall_proto::object_name::Level;
use seawall_proto::position::{Lineage, Position, Txid};
use tokio::sync::{Notify, Semaphore};

use super::merge::{Merge, upload_merged};
use super::plan::{LaneProgress, Situation, Step, Taken, Window, WindowLimits, back_off, decide};
use super::progress::Reporter;
use super::retention::first_expiry;
use super::status::LaneBoard;
use super::upload::{self, UploadError, Uploaded};
use super::{CommittedLog, FanoutOptions, ImageSource};
use crate::destination::NamedDestination;

/// Records asked of the position log at a time.
const RECORDS_AT_A_TIME: usize = 256;

/// What all lanes to one destination share, so that one destination's trouble takes nothing from another.
pub(super) struct Outlet {
    pub(super) destination: NamedDestination,
    /// KiB of windows in memory.
    pub(super) memory: Semaphore,
    /// Windows on their way.
    pub(super) uploads: Arc<Semaphore>,
    /// Snapshots and merged objects under way.
    pub(super) merges: Semaphore,
}

impl Outlet {
    pub(super) fn new(destination: NamedDestination, options: &FanoutOptions) -> Self {
        let memory = options.memory_bytes.max(destination.windows.upload_bytes);
        Self {
            destination,
            memory: Semaphore::new(usize::try_from(memory >> 10).unwrap_or(usize::MAX >> 4).max(1)),
            uploads: Arc::new(Semaphore::new(options.uploads_at_once.max(1))),
            merges: Semaphore::new(options.merges_at_once.max(1)),
        }
    }
}

/// What a lane works with.
#[derive(Clone)]
pub(super) struct LaneContext {
    pub(super) log: Arc<dyn CommittedLog>,
    pub(super) images: Arc<dyn ImageSource>,
    pub(super) reporter: Arc<Reporter>,
    pub(super) outlet: Arc<Outlet>,
    pub(super) board: Arc<LaneBoard>,
    pub(super) options: FanoutOptions,
}

/// The state that an object leads to, and its length in bytes; or why it is not there.
type MergeOutcome = Result<(Position, u64), UploadError>;

/// A snapshot or a merged object under way.
struct MergeRun {
    level: Level,
    _task: OwnedTask,
    outcome: Arc<Mutex<Option<MergeOutcome>>>,
    begun: UnixMillis,
    bytes_before: u64,
}

/// How attempts of one kind fare.
#[derive(Default)]
struct Attempts {
    failures: u32,
    last: Option<Instant>,
    retry_at: Option<Instant>,
}

impl Attempts {
    fn succeeded(&mut self) {
        *self = Self::default();
    }

    fn failed(&mut self, options: &FanoutOptions) {
        self.failures = self.failures.saturating_add(1);
        let now = Instant::now();
        self.last = Some(now);
        self.retry_at = Some(now + random::jitter(back_off(self.failures, options)));
    }

    /// Someone waits: try again now, unless that was tried a moment ago.
    fn hasten(&mut self, options: &FanoutOptions) {
        self.retry_at = self.last.map(|last| last + options.retry_first).min(self.retry_at);
    }
}

/// The lane's task.
pub(super) struct Lane {
    context: LaneContext,
    progress: LaneProgress,
    window: Window,
    gap: bool,
    uploads: Attempts,
    snapshot_attempts: Attempts,
    merge_attempts: Attempts,
    merge: Option<MergeRun>,
    database_bytes: u64,
}

impl Lane {
    pub(super) fn new(context: LaneContext) -> Self {
        Self {
            context,
            progress: LaneProgress::replicated(Lineage(0), None),
            window: Window::new(Txid::NONE),
            gap: false,
            uploads: Attempts::default(),
            snapshot_attempts: Attempts::default(),
            merge_attempts: Attempts::default(),
            merge: None,
            database_bytes: 0,
        }
    }

    /// Carries on for as long as it is polled.
    pub(super) async fn run(mut self) {
        loop {
            self.finish_merge();
            self.look();
            let (close_to, snapshot_wanted, asked) = {
                let mut state = self.context.board.state();
                (state.close_to, state.snapshot_wanted, std::mem::take(&mut state.asked))
            };
            if asked {
                self.uploads.hasten(&self.context.options);
                self.snapshot_attempts.hasten(&self.context.options);
                self.merge_attempts.hasten(&self.context.options);
            }
            let step = decide(&Situation {
                now: Instant::now(),
                wall_clock: self.now(),
                windows: &self.context.outlet.destination.windows,
                progress: self.progress,
                window: &self.window,
                gap: self.gap,
                close_to,
                retry_at: self.uploads.retry_at,
                merge_running: self.merge.is_some(),
                snapshot_wanted,
                snapshot_retry_at: self.snapshot_attempts.retry_at,
                merge_retry_at: self.merge_attempts.retry_at,
                database_bytes: self.database_bytes,
            });
            match step {
                Step::UploadWindow => self.upload_window(close_to).await,
                Step::Begin(level, at_least) => self.begin_merge(level, at_least),
                Step::Wait(until) => self.wait(until).await,
            }
        }
    }

    async fn wait(&self, until: Option<Instant>) {
        let woken = pin!(self.context.board.wake.notified());
        match until {
            Some(until) => _ = select(woken, pin!(time::sleep_until(until))).await,
            None => woken.await,
        }
    }

    /// Takes note of what was committed since.
    fn look(&mut self) {
        let board = Arc::clone(&self.context.board);
        let Some(view) = self.context.log.database(&board.database) else { return };
        let head = Txid(view.head.txid);
        let agreed = LaneProgress::replicated(Lineage(view.head.lineage), view.destinations.get(&board.destination));
        if agreed.lineage != self.progress.lineage || agreed.watermark > self.progress.watermark {
            self.progress = agreed;
            self.window = Window::new(agreed.watermark);
            self.gap = false;
            if self.merge.take().is_some() {
                board.resumes_nowhere();
            }
        }
        // What was uploaded since the decree and is not agreed on yet ends it.
        let agreed_on = view.destinations.get(&board.destination);
        let detached = agreed_on.is_some_and(|it| it.detached && it.lineage == agreed.lineage.0)
            && agreed.watermark == self.progress.watermark;
        if detached && !self.gap {
            tracing::error!(
                database = %board.database,
                destination = board.destination,
                watermark = %agreed.watermark,
                "a destination outgrew its share of the disk: it goes on from a snapshot, with a gap in its history"
            );
            self.gap = true;
            self.window = Window::new(agreed.watermark);
        }
        self.database_bytes = u64::from(view.head.page_count) * u64::from(view.head.page_size);
        // What came during a long upload has waited since then.
        let unseen_since = if self.window.is_full() { None } else { board.state().unseen_since.take() };
        self.fill_window(head, unseen_since.unwrap_or_else(Instant::now));
        let mut state = board.state();
        state.watermark = self.progress.watermark;
        state.head = head;
        state.window_bytes = self.window.bytes();
        state.pending_since =
            if self.gap { state.pending_since.or_else(|| Some(Instant::now())) } else { self.window.opened() };
        drop(state);
        board.publish();
    }

    fn fill_window(&mut self, head: Txid, since: Instant) {
        let limits = WindowLimits {
            bytes: self.context.outlet.destination.windows.upload_bytes,
            segments: self.context.options.window_segments,
        };
        let database = &self.context.board.database;
        while !self.gap && !self.window.is_full() && self.window.last() < head {
            let after = self.window.last();
            let records = self.context.log.segments(database, self.progress.lineage, after, RECORDS_AT_A_TIME);
            if records.is_empty() {
                // What is committed is not in the position log any more. The window itself may still be there.
                self.gap = self.window.segments().is_empty();
                return;
            }
            for record in records {
                match self.window.take(record, since, limits) {
                    Taken::Yes => {}
                    Taken::Full => break,
                    Taken::Gap => {
                        self.gap = self.window.segments().is_empty();
                        return;
                    }
                }
            }
        }
    }

    async fn upload_window(&mut self, close_to: Txid) {
        self.window.seal();
        let outlet = Arc::clone(&self.context.outlet);
        let board = Arc::clone(&self.context.board);
        let window_bytes = outlet.destination.windows.upload_bytes;
        let kib = u32::try_from(self.window.bytes().min(window_bytes) >> 10).unwrap_or(u32::MAX).max(1);
        // Never closed, so that the only way on is with the permits.
        let Ok(_room) = outlet.memory.acquire_many(kib).await else { return };
        let Ok(_turn) = outlet.uploads.acquire().await else { return };
        let place = &*outlet.destination.destination;
        if mutant("watermark-before-upload") {
            let ahead = self.progress.after_window(self.window.state(), self.window.bytes(), self.now());
            self.report(ahead, true);
        }
        board.state().uploading = true;
        let uploaded =
            upload::upload_window(&self.context.log, place, &board.database, &self.window, window_bytes).await;
        board.state().uploading = false;
        let uploaded = match uploaded {
            Err(UploadError::Gone(_)) if mutant("gap-counted-as-uploaded") => Ok(Uploaded { bytes: 0 }),
            uploaded => uploaded,
        };
        match uploaded {
            Ok(uploaded) => {
                let awaited = close_to > self.progress.watermark;
                let now = self.now();
                self.progress = self.progress.after_window(self.window.state(), self.counted(uploaded.bytes), now);
                self.window = Window::new(self.progress.watermark);
                if self.uploads.failures > 0 {
                    sometimes("upload succeeded after it failed");
                }
                self.uploads.succeeded();
                board.metrics.uploaded(Level::Log, uploaded.bytes);
                let mut state = board.state();
                state.window_error = None;
                state.last_success = Some(UnixMillis::now());
                // Whoever asked meanwhile for what this window covers does not wait either.
                let awaited = awaited || state.close_to > self.progress.watermark || state.asked;
                drop(state);
                self.report(self.progress, awaited);
            }
            Err(UploadError::Gone(_)) => {
                self.gap = true;
                self.window = Window::new(self.progress.watermark);
            }
            Err(error) => {
                self.uploads.failed(&self.context.options);
                self.failed(&error, "upload");
                board.state().window_error = Some(error.to_string());
            }
        }
    }

    fn failed(&self, error: &UploadError, what: &str) {
        let board = &self.context.board;
        board.metrics.failed();
        tracing::warn!(database = %board.database, destination = board.destination, %error, "{what} failed, trying again");
    }

    /// How much of a window's bytes counts towards the next snapshot: what is merged soon is not what a restore reads.
    fn counted(&self, bytes: u64) -> u64 {
        if self.context.outlet.destination.windows.level_one_interval.is_zero() { bytes } else { 0 }
    }

    /// The cluster's time, as far as it is known.
    fn now(&self) -> UnixMillis {
        self.context.log.cluster_time().unwrap_or_else(UnixMillis::now)
    }

    fn report(&self, progress: LaneProgress, urgent: bool) {
        let Outlet { destination, .. } = &*self.context.outlet;
        let due = first_expiry(&destination.retention, self.now());
        let board = &self.context.board;
        self.context.reporter.report(&board.database, &board.destination, progress, due, urgent);
    }

    fn begin_merge(&mut self, level: Level, at_least: Txid) {
        let outcome = Arc::new(Mutex::new(None));
        let lineage = self.progress.lineage;
        let after = self.progress.marks.of(level).unwrap_or_default().position(lineage);
        let merge = Merge { level, after, at_least };
        let (context, slot) = (self.context.clone(), Arc::clone(&outcome));
        let work = async move {
            let give_up = Arc::new(Notify::new());
            // The image is let go of before anybody hears of it.
            let result = {
                let upload = pin!(upload_merged(&context, merge, &give_up));
                match select(upload, pin!(give_up.notified())).await {
                    Either::Left((result, _)) => result,
                    Either::Right(((), _)) => {
                        sometimes("snapshot given up because the log behind it outgrew its share");
                        Err(UploadError::Outgrown { limit: context.log.destination_limit() })
                    }
                }
            };
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            context.board.wake.notify_one();
        };
        self.merge = Some(MergeRun {
            level,
            _task: spawn_owned(work),
            outcome,
            begun: self.now(),
            bytes_before: self.progress.bytes_since_snapshot,
        });
    }

    /// Takes note of a snapshot or merged object that has ended.
    fn finish_merge(&mut self) {
        let Some(run) = &self.merge else { return };
        let Some(result) = run.outcome.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let (level, begun, bytes_before) = (run.level, run.begun, run.bytes_before);
        let is_snapshot = level == Level::Snapshot;
        self.merge = None;
        let attempts = if is_snapshot { &mut self.snapshot_attempts } else { &mut self.merge_attempts };
        let board = Arc::clone(&self.context.board);
        let (position, bytes) = match result {
            Ok(uploaded) => {
                attempts.succeeded();
                uploaded
            }
            Err(error) => {
                board.resumes_nowhere();
                attempts.failed(&self.context.options);
                self.failed(&error, if is_snapshot { "snapshot" } else { "merged object" });
                board.state().merge_error = Some(error.to_string());
                return;
            }
        };
        // Whatever it was begun for: the gap may have opened since.
        let for_gap = is_snapshot && self.gap && position.txid > self.progress.watermark;
        if is_snapshot {
            if !for_gap {
                board.resumes_nowhere();
            } else if board.state().detached {
                sometimes("destination gone on after it was detached");
            }
            self.progress = self.progress.after_snapshot(position, begun, bytes_before, for_gap);
            sometimes("snapshot uploaded");
        } else {
            self.progress = self.progress.after_merged(level, position, bytes, begun);
            if level == Level::Two {
                sometimes("level 2 uploaded");
            } else {
                sometimes("level 1 uploaded");
            }
        }
        if for_gap {
            sometimes("history at a destination gone on from a snapshot");
            self.gap = false;
            self.window = Window::new(self.progress.watermark);
            // The window that failed before the gap is not tried again.
            self.uploads.succeeded();
        }
        let mut state = board.state();
        state.merge_error = None;
        state.snapshot_wanted.take_if(|wanted| is_snapshot && position.txid >= *wanted);
        state.window_error.take_if(|_| for_gap);
        state.last_success = Some(UnixMillis::now());
        drop(state);
        self.report(self.progress, for_gap);
    }
}

/// Tries a destination until it answers, so that an operator learns early what is wrong with it.
pub(super) async fn probe(outlet: Arc<Outlet>, options: FanoutOptions) {
    let mut failures = 0;
    while let Err(error) = outlet.destination.destination.probe().await {
        failures += 1;
        tracing::warn!(destination = outlet.destination.name, %error, "a destination cannot be used yet");
        let wait: Duration = random::jitter(back_off(failures, &options));
        time::sleep(wait).await;
    }
}
