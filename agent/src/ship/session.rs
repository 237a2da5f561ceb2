//! Shipping under one claim: capture, send, be acknowledged, follow the leader.

use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use seawall_host::probe::{mutant, sometimes};
use seawall_host::time::Instant;
use seawall_host::watch::ChangeSignal;
use seawall_host::{random, task, time};
use seawall_proto::position::{Epoch, PageNumber, Position, Txid};
use seawall_proto::v1::append_response::{Outcome, Reason, Refused};
use seawall_proto::v1::{self, AppendOpen, AppendRequest, AppendResponse, SegmentPart};
use tokio::sync::oneshot;

use super::cluster::{Cluster, Link, describe};
use super::driver::{DriverConfig, end_of};
use super::outbox::{Outbox, Reconciled};
use super::shared::{Shared, SyncAnswer};
use super::source::{Source, Step};
use crate::SyncError;
use crate::capture::Maintained;
use crate::status::DatabaseState;

/// A stream that acknowledges nothing for this long, with something on its way, is given up.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Refusals in a row, without an acknowledgement, after which the database is claimed anew.
const FRUITLESS_LIMIT: u32 = 3;
/// Attempts in a row to take the write lock for a barrier.
const BARRIER_ATTEMPTS: u32 = 20;
/// After a change of the WAL its commit may take this long to show.
const SHOWS_AFTER: Duration = Duration::from_millis(100);
const SHORTEST_POLL: Duration = Duration::from_millis(1);
/// While the WAL has uncommitted frames, or still has to be backfilled.
const LONGEST_POLL: Duration = Duration::from_millis(50);
/// Where nothing happens: signals of changes may be missed.
const SLOW_POLL: Duration = Duration::from_secs(1);
/// Between attempts to reach the leader.
const RELINK_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_RELINK_PAUSE: Duration = Duration::from_secs(2);
/// Between attempts when nodes have no room.
const NO_SPACE_PAUSE: Duration = Duration::from_secs(2);
/// How often the whole database is compared with what was captured.
const SCRUB_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Between two steps of that: about 20 MB a second.
const SCRUB_PAUSE: Duration = Duration::from_millis(50);

/// The reason for claiming anew when the nodes' copies were found to be wrong.
pub(super) const QUARANTINED: &str = "quarantined";

/// How shipping under one claim ended.
#[derive(Debug)]
pub(super) enum End {
    /// The database can't be read.
    Unusable(String),
    /// Claim and compare again.
    Reclaim {
        reason: &'static str,
        error: String,
        /// The frames of the WAL can't be relied on.
        untrusted: bool,
    },
    /// Another agent has claimed the database.
    Fenced(String),
}

/// Syncs that wait. They outlive a session.
#[derive(Default)]
pub(super) struct Waiting(Vec<(Option<Txid>, oneshot::Sender<SyncAnswer>)>);

impl Waiting {
    /// Answers all with an error.
    pub(super) fn refuse(&mut self, error: &SyncError) {
        for (_, request) in self.0.drain(..) {
            let _ = request.send(Err(error.clone()));
        }
    }
}

/// Shipping under one claim.
pub(super) struct Session<'a> {
    config: &'a DriverConfig,
    cluster: &'a mut Cluster,
    shared: &'a Shared,
    waiting: &'a mut Waiting,
    changes: &'a ChangeSignal,
    source: Option<Source>,
    epoch: Epoch,
    head: Position,
    outbox: Outbox,
    link: Option<Link>,
    /// The last time that something was acknowledged, that the network took something, or that nothing was on its way.
    progress: Instant,
    /// The head that was claimed.
    claimed: Txid,
    /// The cluster has what this claim began with: a comparison, if one was due.
    settled: bool,
    /// The guard lets the WAL restart, which slows down an application that writes while nothing is captured.
    at_rest: bool,
    fruitless: u32,
    barrier_attempts: u32,
    poll: Duration,
    changed: Instant,
    scrubbed: Instant,
    scrub_next: Option<PageNumber>,
    warned: bool,
}

enum Event {
    Answer(Result<Option<AppendResponse>, tonic::Status>),
    Changed,
    Requested,
    Tick,
}

impl<'a> Session<'a> {
    #[expect(clippy::too_many_arguments, reason = "what a claim gave, and what outlives it")]
    pub(super) fn new(
        config: &'a DriverConfig,
        cluster: &'a mut Cluster,
        shared: &'a Shared,
        waiting: &'a mut Waiting,
        changes: &'a ChangeSignal,
        source: Source,
        epoch: Epoch,
        head: Position,
    ) -> Self {
        // What an earlier session captured counts no longer: look again.
        for (target, _) in &mut waiting.0 {
            *target = None;
        }
        let now = Instant::now();
        Self {
            config,
            cluster,
            shared,
            waiting,
            changes,
            source: Some(source),
            epoch,
            head,
            outbox: Outbox::new(head.txid, head.checksum, &config.sizes),
            link: None,
            progress: now,
            claimed: head.txid,
            settled: false,
            at_rest: true,
            fruitless: 0,
            barrier_attempts: 0,
            poll: SHORTEST_POLL,
            changed: now,
            scrubbed: now,
            scrub_next: None,
            warned: false,
        }
    }

    /// Ships until something ends the claim; answers also whether the cluster has what the claim began with.
    pub(super) async fn run(mut self) -> (End, bool) {
        loop {
            if let Err(end) = self.turn().await {
                return (end, self.settled);
            }
        }
    }

    async fn turn(&mut self) -> Result<(), End> {
        while self.link.is_none() {
            self.connect().await?;
        }
        self.drain().await?;
        if self.link.is_none() {
            return Ok(());
        }
        if !self.outbox.is_awaiting() {
            self.progress = Instant::now();
        } else if self.progress.elapsed() > ANSWER_LIMIT {
            self.unlink("the leader acknowledges nothing");
            return Ok(());
        }
        if self.outbox.is_full() {
            sometimes("agent held up by what is not acknowledged");
            self.stand_guard().await?;
            return self.pause(SLOW_POLL, true).await;
        }
        self.waiting.0.extend(self.shared.take_requests().into_iter().map(|request| (None, request)));
        let step = self.step().await?;
        self.take_in(step).await
    }

    /// While nothing is captured the guard must not be where it slows the application down.
    async fn stand_guard(&mut self) -> Result<(), End> {
        if !self.at_rest {
            return Ok(());
        }
        let Some(mut source) = self.source.take() else { return Ok(()) };
        let done = task::blocking(move || {
            let outcome = source.stand_guard();
            (source, outcome)
        })
        .await;
        let Ok((source, outcome)) = done else { return Ok(()) };
        outcome.map_err(end_of)?;
        self.at_rest = source.at_rest();
        self.source = Some(source);
        Ok(())
    }

    /// Lets the source do one step.
    async fn step(&mut self) -> Result<Step, End> {
        let lost =
            || End::Reclaim { reason: "lost-task", error: "capture was interrupted".to_owned(), untrusted: false };
        let mut source = self.source.take().ok_or_else(lost)?;
        let done = task::blocking(move || {
            let step = source.step();
            (source, step)
        })
        .await;
        let (source, step) = done.map_err(|_| lost())?;
        let step = step.map_err(end_of)?;
        self.source = Some(source);
        self.at_rest = step.at_rest;
        Ok(step)
    }

    async fn take_in(&mut self, step: Step) -> Result<(), End> {
        for piece in step.pieces {
            let ends = piece.end.is_some();
            for part in self.outbox.add(piece) {
                self.count_bytes(part.payload.len());
                self.send(part).await?;
            }
            if ends {
                self.report();
            }
        }
        if step.transactions > 0 {
            metrics::counter!("seawall_agent_transactions_total", "database" => self.config.name.to_string())
                .increment(step.transactions);
        }
        if mutant("agent-acknowledges-before-quorum") {
            self.outbox.acknowledge(step.last);
            self.report();
        }
        self.shared.update(|status| status.shipped = step.last);
        if step.caught_up {
            for (target, _) in &mut self.waiting.0 {
                target.get_or_insert(step.last);
            }
            self.answer_syncs();
        }
        if self.source.as_ref().is_some_and(|source| !source.resyncing()) {
            self.set_live();
            self.settled |= self.outbox.segments() == 0 || self.outbox.acknowledged().0 > self.claimed;
        }
        if step.busy {
            return self.pause(random::jitter(SHORTEST_POLL), false).await;
        }
        self.note_maintenance(step.maintained);
        if step.maintained == Maintained::Busy && self.barrier_attempts < BARRIER_ATTEMPTS {
            self.barrier_attempts += 1;
            if let Some(source) = &mut self.source {
                source.retry_barrier();
            }
            return self.pause(random::jitter(SHORTEST_POLL), false).await;
        }
        if step.maintained != Maintained::Busy {
            self.barrier_attempts = 0;
        }
        if step.found {
            self.changed = Instant::now();
            self.poll = SHORTEST_POLL;
            return Ok(());
        }
        if !self.warned {
            self.warn().await?;
        }
        let scrubbing = self.scrub().await?;
        let delay = if step.frames_pending || self.changed.elapsed() < SHOWS_AFTER {
            self.poll = (self.poll * 2).min(LONGEST_POLL);
            self.poll
        } else if step.at_rest {
            SLOW_POLL
        } else {
            LONGEST_POLL
        };
        self.pause(if scrubbing { delay.min(SCRUB_PAUSE) } else { delay }, true).await
    }

    /// Says once what is known of the application's SQLite.
    async fn warn(&mut self) -> Result<(), End> {
        let Some(source) = self.source.take() else { return Ok(()) };
        let done = task::blocking(move || {
            let warnings = source.warnings();
            (source, warnings)
        })
        .await;
        let Ok((source, warnings)) = done else { return Ok(()) };
        self.source = Some(source);
        if let Some(warnings) = warnings.map_err(end_of)? {
            self.warned = true;
            for warning in &warnings {
                tracing::warn!(database = %self.config.name, warning, "known defect");
            }
            self.shared.update(|status| status.warnings = warnings);
        }
        Ok(())
    }

    /// Compares some pages with what was captured, once a day; answers whether more are to come.
    async fn scrub(&mut self) -> Result<bool, End> {
        let next = match self.scrub_next {
            Some(next) => next,
            None if self.scrubbed.elapsed() >= SCRUB_EVERY => PageNumber(1),
            None => return Ok(false),
        };
        let Some(source) = self.source.take() else { return Ok(false) };
        let done = task::blocking(move || {
            let outcome = source.scrub(next);
            (source, outcome)
        })
        .await;
        let Ok((source, outcome)) = done else { return Ok(false) };
        self.source = Some(source);
        self.scrub_next = outcome.map_err(end_of)?;
        if self.scrub_next.is_none() {
            self.scrubbed = Instant::now();
        }
        Ok(self.scrub_next.is_some())
    }

    /// Waits for whatever comes first; `watching` also for changes of the WAL and requests.
    async fn pause(&mut self, delay: Duration, watching: bool) -> Result<(), End> {
        let full = self.outbox.is_full();
        let Some(link) = &mut self.link else { return Ok(()) };
        let event = {
            let answer = pin!(link.answers.message());
            let (shared, changes) = (self.shared, self.changes);
            let noticed = pin!(async move {
                if !watching || full {
                    return std::future::pending().await;
                }
                match select(pin!(shared.requested.notified()), pin!(changes.changed())).await {
                    Either::Left(_) => Event::Requested,
                    Either::Right(_) => Event::Changed,
                }
            });
            match select(answer, select(noticed, pin!(time::sleep(delay)))).await {
                Either::Left((answer, _)) => Event::Answer(answer),
                Either::Right((Either::Left((event, _)), _)) => event,
                Either::Right((Either::Right(_), _)) => Event::Tick,
            }
        };
        match event {
            Event::Answer(answer) => self.answer(answer).await,
            Event::Changed => {
                self.changed = Instant::now();
                self.poll = SHORTEST_POLL;
                Ok(())
            }
            Event::Requested | Event::Tick => Ok(()),
        }
    }

    /// Takes in the answers that have come.
    async fn drain(&mut self) -> Result<(), End> {
        while let Some(link) = &mut self.link {
            let ready = futures::FutureExt::now_or_never(link.answers.message());
            match ready {
                Some(answer) => self.answer(answer).await?,
                None => break,
            }
        }
        Ok(())
    }

    async fn answer(&mut self, answer: Result<Option<AppendResponse>, tonic::Status>) -> Result<(), End> {
        match answer.map(|answer| answer.map(|answer| answer.outcome)) {
            Ok(Some(Some(Outcome::Committed(txid)))) => {
                if Txid(txid) > self.outbox.acknowledged().0 {
                    self.fruitless = 0;
                    self.progress = Instant::now();
                }
                self.outbox.acknowledge(Txid(txid));
                self.report();
                Ok(())
            }
            Ok(Some(Some(Outcome::Refused(refused)))) => self.refused(&refused).await,
            Ok(Some(None) | None) => {
                self.unlink("the leader ended the stream");
                Ok(())
            }
            Err(status) => {
                self.unlink(status.message());
                Ok(())
            }
        }
    }

    async fn refused(&mut self, refused: &Refused) -> Result<(), End> {
        let error = describe(refused);
        let reclaim = |reason| Err(End::Reclaim { reason, error: error.clone(), untrusted: false });
        self.link = None;
        self.cluster.forget_leader(&refused.leader_address);
        match refused.reason() {
            Reason::Fenced => Err(End::Fenced(error)),
            Reason::Invalid => reclaim("invalid"),
            Reason::Quarantined => reclaim(QUARANTINED),
            Reason::NotAdjacent if self.fruitless >= FRUITLESS_LIMIT => reclaim("not-adjacent"),
            Reason::NotAdjacent => {
                // Perhaps what was on its way by the stream before has been committed since the head was read.
                self.fruitless += 1;
                Ok(())
            }
            Reason::NoSpace => {
                sometimes("agent told to wait for space");
                self.wait_state(error);
                time::sleep(random::jitter(NO_SPACE_PAUSE)).await;
                Ok(())
            }
            Reason::NotLeader | Reason::Unknown | Reason::Unspecified => {
                self.wait_state(error);
                Ok(())
            }
        }
    }

    fn unlink(&mut self, error: &str) {
        self.link = None;
        self.cluster.forget_leader("");
        self.wait_state(error.to_owned());
    }

    fn wait_state(&self, error: String) {
        tracing::info!(database = %self.config.name, error, "looking for the leader");
        self.shared.update(|status| {
            status.state = DatabaseState::Waiting;
            status.last_error = Some(error);
        });
    }

    fn set_live(&self) {
        if self.link.is_some() {
            self.shared.update(|status| {
                status.state = DatabaseState::Live;
                status.last_error = None;
            });
        }
    }

    /// Finds the leader, learns what it has, opens a stream and sends again what it has not.
    async fn connect(&mut self) -> Result<(), End> {
        let mut pause = RELINK_PAUSE;
        loop {
            self.stand_guard().await?;
            let problem = match self.cluster.head(&self.config.name).await {
                Ok(Some((head, epoch))) => {
                    self.reconcile(&head, epoch)?;
                    let open = AppendOpen {
                        database: self.config.name.to_string(),
                        lineage: self.head.lineage.0,
                        epoch: self.epoch.0,
                        agent_id: self.config.agent_id,
                    };
                    match self.cluster.append(open).await {
                        Ok(link) => {
                            self.link = Some(link);
                            break;
                        }
                        Err(error) => error.to_string(),
                    }
                }
                Ok(None) => {
                    let error = format!("the cluster no longer knows `{}`", self.config.name);
                    return Err(End::Reclaim { reason: "unknown-database", error, untrusted: false });
                }
                Err(error) => error.to_string(),
            };
            self.wait_state(problem);
            time::sleep(random::jitter(pause)).await;
            pause = (pause * 2).min(LONGEST_RELINK_PAUSE);
        }
        self.progress = Instant::now();
        for part in self.outbox.parts() {
            sometimes("part sent again by another stream");
            self.send(part).await?;
        }
        Ok(())
    }

    fn reconcile(&mut self, head: &v1::Head, epoch: u64) -> Result<(), End> {
        if epoch > self.epoch.0 {
            let error = format!("another agent claimed `{}` with epoch {epoch}", self.config.name);
            return Err(End::Fenced(error));
        }
        let before = self.outbox.segments();
        let reconciled = if mutant("retry-without-dedupe") {
            Reconciled::Resend
        } else if head.lineage == self.head.lineage.0 {
            self.outbox.reconcile(head)
        } else {
            Reconciled::Foreign
        };
        if self.outbox.segments() < before {
            sometimes("unknown outcome resolved by reading the head");
        }
        self.report();
        match reconciled {
            Reconciled::Resend => Ok(()),
            Reconciled::NotKept => {
                let error = "a large transaction was cut off on its way".to_owned();
                Err(End::Reclaim { reason: "large-transaction-cut-off", error, untrusted: false })
            }
            Reconciled::Foreign => {
                let error = format!("the cluster's head {} is no state that this agent shipped", head.txid);
                Err(End::Reclaim { reason: "foreign-head", error, untrusted: false })
            }
        }
    }

    /// Hands a part to the network. Without a stream it waits in the outbox for the next one.
    async fn send(&mut self, part: SegmentPart) -> Result<(), End> {
        let message = AppendRequest { message: Some(v1::append_request::Message::Part(part)) };
        let stalled = Instant::now();
        while let Some(link) = &mut self.link {
            let event = {
                let answer = pin!(link.answers.message());
                let permit = pin!(time::timeout(SLOW_POLL, link.parts.reserve()));
                match select(answer, permit).await {
                    Either::Left((answer, _)) => Some(Event::Answer(answer)),
                    Either::Right((Ok(Ok(permit)), _)) => {
                        permit.send(message);
                        self.progress = Instant::now();
                        return Ok(());
                    }
                    Either::Right((Ok(Err(_)), _)) => None,
                    Either::Right((Err(time::Elapsed), _)) => Some(Event::Tick),
                }
            };
            let event = match event {
                Some(event) => event,
                // The stream has ended; the answers say why.
                None => {
                    let last = time::timeout(ANSWER_LIMIT, link.answers.message()).await;
                    Event::Answer(last.unwrap_or(Ok(None)))
                }
            };
            match event {
                Event::Answer(answer) => self.answer(answer).await?,
                _ if stalled.elapsed() > ANSWER_LIMIT => self.unlink("the leader takes nothing"),
                _ => {}
            }
        }
        Ok(())
    }

    /// Tells what is acknowledged.
    fn report(&mut self) {
        let (txid, checksum) = self.outbox.acknowledged();
        self.head = Position { txid, checksum, ..self.head };
        let pending = self.outbox.bytes() as u64;
        let (head, mut lag) = (self.head, 0);
        self.shared.update(|status| {
            status.head = head;
            status.pending_bytes = pending;
            lag = status.shipped.0.saturating_sub(txid.0);
        });
        let name = || self.config.name.to_string();
        metrics::gauge!("seawall_agent_pending_bytes", "database" => name()).set(pending as f64);
        metrics::gauge!("seawall_agent_lag_transactions", "database" => name()).set(lag as f64);
        self.answer_syncs();
    }

    fn answer_syncs(&mut self) {
        let (head, epoch) = (self.head, self.epoch);
        let (ready, waiting): (Vec<_>, Vec<_>) =
            self.waiting.0.drain(..).partition(|(target, _)| target.is_some_and(|target| target <= head.txid));
        self.waiting.0 = waiting;
        for (_, request) in ready {
            let _ = request.send(Ok((head, epoch)));
        }
    }

    fn count_bytes(&self, bytes: usize) {
        metrics::counter!("seawall_agent_shipped_bytes_total", "database" => self.config.name.to_string())
            .increment(bytes as u64);
    }

    fn note_maintenance(&self, maintained: Maintained) {
        let counter = match maintained {
            Maintained::Nothing | Maintained::GaveWay => return,
            Maintained::Checkpointed => "seawall_agent_checkpoints_total",
            Maintained::Sealed | Maintained::NotSealed => "seawall_agent_barriers_total",
            Maintained::Busy => "seawall_agent_busy_barriers_total",
        };
        metrics::counter!(counter, "database" => self.config.name.to_string()).increment(1);
        self.shared.update(|status| match maintained {
            Maintained::Checkpointed => {
                sometimes("checkpoint by the agent");
                status.checkpoints += 1;
            }
            Maintained::Sealed | Maintained::NotSealed => status.barriers += 1,
            Maintained::Busy => status.busy_barriers += 1,
            Maintained::Nothing | Maintained::GaveWay => {}
        });
    }
}
