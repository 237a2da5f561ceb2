//! Shipping under one claim: capture, send, be acknowledged, follow the leader.

mod capturing;
mod link;

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use seawall_host::probe::{mutant, sometimes};
use seawall_host::time::Instant;
use seawall_host::watch::ChangeSignal;
use seawall_host::{random, time};
use seawall_proto::position::{Epoch, PageNumber, Position, Txid};
use seawall_proto::v1::AppendResponse;

use super::cluster::{Cluster, Link};
use super::driver::DriverConfig;
use super::outbox::Outbox;
use super::shared::Shared;
use super::source::{Source, Step};
use super::waiting::Waiting;
use crate::capture::Maintained;
use crate::status::DatabaseState;

/// A stream that acknowledges nothing for this long, with something on its way, is given up.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Attempts in a row to take the write lock for a barrier.
const BARRIER_ATTEMPTS: u32 = 20;
/// After a change of the WAL its commit may take this long to show.
const SHOWS_AFTER: Duration = Duration::from_millis(100);
const SHORTEST_POLL: Duration = Duration::from_millis(1);
/// While the WAL has uncommitted frames, or still has to be backfilled.
const LONGEST_POLL: Duration = Duration::from_millis(50);
/// Where nothing happens: signals of changes may be missed.
const SLOW_POLL: Duration = Duration::from_secs(1);
/// Between two steps of a comparison of the whole database with what was captured: about 20 MB a second.
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
    /// When the last parts of segments were handed to the stream, by their transactions, until they are acknowledged.
    sent: VecDeque<(Txid, Instant)>,
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
        waiting.forget_targets();
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
            sent: VecDeque::new(),
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
        self.waiting.add(self.shared.take_requests());
        let step = self.step().await?;
        self.take_in(step).await
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
            self.waiting.looked(step.last);
            self.waiting.answer(self.head, self.epoch);
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

    fn set_live(&self) {
        if self.link.is_some() {
            self.shared.update(|status| {
                status.state = DatabaseState::Live;
                status.last_error = None;
            });
        }
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
        self.waiting.answer(self.head, self.epoch);
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
