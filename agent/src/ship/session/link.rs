//! The stream to the leader: finding it, sending, answers and refusals.

use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use seawall_host::probe::{mutant, sometimes};
use seawall_host::time::Instant;
use seawall_host::{random, time};
use seawall_proto::position::Txid;
use seawall_proto::v1::append_response::{Outcome, Reason, Refused};
use seawall_proto::v1::{self, AppendOpen, AppendRequest, AppendResponse, SegmentPart};

use super::{ANSWER_LIMIT, End, Event, QUARANTINED, SLOW_POLL, Session};
use crate::ship::cluster::describe;
use crate::ship::outbox::Reconciled;
use crate::status::DatabaseState;

/// Refusals in a row, without an acknowledgement, after which the database is claimed anew.
const FRUITLESS_LIMIT: u32 = 3;
/// Between attempts when nodes have no room.
const NO_SPACE_PAUSE: Duration = Duration::from_secs(2);
/// Between attempts to reach the leader.
const RELINK_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_RELINK_PAUSE: Duration = Duration::from_secs(2);

impl Session<'_> {
    /// Takes in the answers that have come.
    pub(super) async fn drain(&mut self) -> Result<(), End> {
        while let Some(link) = &mut self.link {
            let ready = futures::FutureExt::now_or_never(link.answers.message());
            match ready {
                Some(answer) => self.answer(answer).await?,
                None => break,
            }
        }
        Ok(())
    }

    pub(super) async fn answer(&mut self, answer: Result<Option<AppendResponse>, tonic::Status>) -> Result<(), End> {
        if let Ok(Some(AppendResponse { cluster_time_ms, outcome, nodes })) = &answer {
            // It was given after what it acknowledges had been sent.
            let mut asked = None;
            if let Some(Outcome::Committed(txid)) = outcome {
                while self.sent.front().is_some_and(|(sent, _)| sent.0 <= *txid) {
                    asked = self.sent.pop_front().map(|(_, at)| at);
                }
            }
            self.cluster.hear(*cluster_time_ms, asked);
            self.cluster.hear_nodes(nodes);
        }
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

    pub(super) async fn refused(&mut self, refused: &Refused) -> Result<(), End> {
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

    pub(super) fn unlink(&mut self, error: &str) {
        self.link = None;
        self.cluster.forget_leader("");
        self.wait_state(error.to_owned());
    }

    pub(super) fn wait_state(&self, error: String) {
        tracing::info!(database = %self.config.name, error, "looking for the leader");
        self.shared.update(|status| {
            status.state = DatabaseState::Waiting;
            status.last_error = Some(error);
        });
    }

    /// Finds the leader, learns what it has, opens a stream and sends again what it has not.
    pub(super) async fn connect(&mut self) -> Result<(), End> {
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
                            self.sent.clear();
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

    pub(super) fn reconcile(&mut self, head: &v1::Head, epoch: u64) -> Result<(), End> {
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
    pub(super) async fn send(&mut self, part: SegmentPart) -> Result<(), End> {
        let ends = part.is_last.then_some(Txid(part.last));
        let message = AppendRequest { message: Some(v1::append_request::Message::Part(part)) };
        let stalled = Instant::now();
        while let Some(link) = &mut self.link {
            let event = {
                let answer = pin!(link.answers.message());
                let permit = pin!(time::timeout(SLOW_POLL, link.parts.reserve()));
                match select(answer, permit).await {
                    Either::Left((answer, _)) => Some(Event::Answer(answer)),
                    Either::Right((Ok(Ok(permit)), _)) => {
                        self.progress = Instant::now();
                        self.sent.extend(ends.map(|last| (last, self.progress)));
                        permit.send(message);
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
}
