//! One request and its answer. The far end's side is a task of nobody's machine: what a dead caller sent may still
//! take effect.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use seawall_host::time;
use tokio::sync::{mpsc, oneshot};

use crate::world::{self, Machine};

use super::place::Place;
use super::plan::{Fate, Kind, LONGEST_TRANSFER, Plan};
use super::{ANSWER_LOST, LATE_CREATION, PARTIAL_UPLOAD, THROTTLED};

/// Why a request was not carried out, or is not known to have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    NotFound,
    Refused(String),
    Unavailable(String),
}

impl Failure {
    pub(super) fn unavailable(cause: &str) -> Self {
        Self::Unavailable(cause.to_owned())
    }

    pub(super) fn refused() -> Self {
        Self::Refused("403: mend the credentials".to_owned())
    }

    fn timed_out() -> Self {
        Self::unavailable("it did not answer in time")
    }
}

/// When a request took effect, and whose it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) at: Duration,
    pub(super) by: Machine,
}

/// What a request carries.
pub(super) enum Upload {
    Nothing,
    /// All of it at once.
    Whole(Vec<Bytes>),
    /// Piece by piece. Without its [`Piece::End`] it was given up.
    Stream {
        pieces: mpsc::Receiver<Piece>,
        size_hint: Option<u64>,
    },
}

/// A piece of a streamed upload.
pub(super) enum Piece {
    Part(Bytes),
    End,
}

impl Upload {
    /// How long it is, if that is known.
    fn size(&self) -> Option<u64> {
        match self {
            Self::Nothing => Some(0),
            Self::Whole(parts) => Some(parts.iter().map(|part| part.len() as u64).sum()),
            Self::Stream { size_hint, .. } => *size_hint,
        }
    }

    /// The next piece; `None` if it was given up.
    async fn next(&mut self) -> Option<Piece> {
        match self {
            Self::Nothing => Some(Piece::End),
            Self::Whole(parts) => {
                let parts = std::mem::take(parts);
                *self = Self::Nothing;
                Some(Piece::Part(join(parts)))
            }
            Self::Stream { pieces, .. } => pieces.recv().await,
        }
    }
}

/// Sends a request. `effect` is what it does when it arrives, with what it carried; it answers with how many bytes its
/// answer has, too.
pub(super) fn send<T, F>(
    place: &Arc<Place>,
    kind: Kind,
    name: &str,
    upload: Upload,
    effect: F,
) -> oneshot::Receiver<Result<T, Failure>>
where
    T: Send + 'static,
    F: FnOnce(&Arc<Place>, &str, &Plan, Arrival, Bytes) -> Result<(T, u64), Failure> + Send + 'static,
{
    let world = world::current();
    let (answer, answered) = oneshot::channel();
    let exchange =
        Exchange { place: Arc::clone(place), kind, name: name.to_owned(), plan: place.plan(kind), by: world.machine() };
    world.spawn_on(Machine::SIMULATOR, exchange.run(upload, effect, answer));
    answered
}

struct Exchange {
    place: Arc<Place>,
    kind: Kind,
    name: String,
    plan: Plan,
    by: Machine,
}

impl Exchange {
    async fn run<T, F>(self, upload: Upload, effect: F, answer: oneshot::Sender<Result<T, Failure>>)
    where
        F: FnOnce(&Arc<Place>, &str, &Plan, Arrival, Bytes) -> Result<(T, u64), Failure>,
    {
        let arrived = match self.arrive().await {
            Ok(()) => self.receive(upload).await,
            Err(failure) => Err(failure),
        };
        // Whoever waits for the answer may be dead: then nobody hears it.
        let content = match arrived {
            Ok(content) => content,
            Err(failure) => return drop(answer.send(Err(failure))),
        };
        if let Fate::Late(delay) = self.plan.fate {
            pause(self.plan.time_out).await;
            let _ = answer.send(Err(Failure::timed_out()));
            pause(delay).await;
            if self.carry_out(content, effect).await.is_ok() {
                world::current().reached(LATE_CREATION);
            }
            return;
        }
        let outcome = self.carry_out(content, effect).await;
        let _ = answer.send(self.answer(outcome).await);
    }

    /// The request's way to the place.
    async fn arrive(&self) -> Result<(), Failure> {
        pause(self.plan.outbound).await;
        match self.plan.fate {
            Fate::Served | Fate::AnswerLost | Fate::Late(_) | Fate::BrokenOff(_) => self.still_there().await,
            Fate::RequestLost => {
                pause(self.plan.time_out).await;
                Err(Failure::timed_out())
            }
            Fate::Unreachable(after) => {
                pause(after).await;
                Err(Failure::unavailable("it cannot be reached"))
            }
            Fate::Throttled => {
                world::current().reached(THROTTLED);
                pause(self.plan.inbound).await;
                Err(Failure::unavailable("503: slow down"))
            }
            Fate::Refused => {
                pause(self.plan.inbound).await;
                Err(Failure::refused())
            }
        }
    }

    /// An exchange that finds the place gone ends in a time-out.
    async fn still_there(&self) -> Result<(), Failure> {
        if self.place.is_gone() {
            pause(self.plan.time_out).await;
            return Err(Failure::timed_out());
        }
        Ok(())
    }

    /// Takes in what the request carries.
    async fn receive(&self, mut upload: Upload) -> Result<Bytes, Failure> {
        let breaks_at = match self.plan.fate {
            // Of what is not known to have a length, the first piece breaks it off.
            Fate::BrokenOff(share) => Some((upload.size().unwrap_or(0) as f64 * share) as u64),
            _ => None,
        };
        if self.kind != Kind::Create {
            return Ok(Bytes::new());
        }
        self.place.creation_begins(&self.name);
        let received = self.receive_pieces(&mut upload, breaks_at).await;
        if received.is_err() {
            self.place.creation_ends(&self.name);
        }
        received
    }

    async fn receive_pieces(&self, upload: &mut Upload, breaks_at: Option<u64>) -> Result<Bytes, Failure> {
        let mut parts = Vec::new();
        let mut received = 0_u64;
        // However many pieces it has, all of it is one transfer.
        let mut left = LONGEST_TRANSFER;
        let mut transfer = |bytes| {
            let duration = self.plan.transfer(bytes).min(left);
            left -= duration;
            pause(duration)
        };
        loop {
            let piece = upload.next().await.ok_or_else(|| Failure::unavailable("the upload was given up"))?;
            let Piece::Part(part) = piece else { break };
            let size = part.len() as u64;
            if let Some(at) = breaks_at.filter(|at| received + size > *at) {
                transfer(at.saturating_sub(received)).await;
                return Err(broken_off());
            }
            transfer(size).await;
            self.still_there().await?;
            received += size;
            self.place.admits(received)?;
            parts.push(part);
        }
        if breaks_at.is_some() { Err(broken_off()) } else { Ok(join(parts)) }
    }

    async fn carry_out<T, F>(&self, content: Bytes, effect: F) -> Result<(T, u64), Failure>
    where
        F: FnOnce(&Arc<Place>, &str, &Plan, Arrival, Bytes) -> Result<(T, u64), Failure>,
    {
        let outcome = match self.still_there().await {
            Ok(()) => {
                let arrival = Arrival { at: world::current().time(), by: self.by };
                self.place
                    .admits(content.len() as u64)
                    .and_then(|()| effect(&self.place, &self.name, &self.plan, arrival, content))
            }
            Err(failure) => Err(failure),
        };
        if self.kind == Kind::Create {
            self.place.creation_ends(&self.name);
        }
        outcome
    }

    /// The answer's way back.
    async fn answer<T>(&self, outcome: Result<(T, u64), Failure>) -> Result<T, Failure> {
        let (value, bytes) = match outcome {
            Ok(answered) => answered,
            Err(failure) => {
                pause(self.plan.inbound).await;
                return Err(failure);
            }
        };
        if self.plan.fate == Fate::AnswerLost {
            if matches!(self.kind, Kind::Create | Kind::Delete) {
                world::current().reached(ANSWER_LOST);
            }
            pause(self.plan.time_out).await;
            return Err(Failure::timed_out());
        }
        pause(self.plan.inbound + self.plan.transfer(bytes)).await;
        self.still_there().await?;
        Ok(value)
    }
}

fn broken_off() -> Failure {
    world::current().reached(PARTIAL_UPLOAD);
    Failure::unavailable("the connection broke off")
}

async fn pause(duration: Duration) {
    if !duration.is_zero() {
        time::sleep(duration).await;
    }
}

fn join(mut parts: Vec<Bytes>) -> Bytes {
    if parts.len() == 1 {
        return parts.swap_remove(0);
    }
    let mut joined = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    for part in parts {
        joined.extend_from_slice(&part);
    }
    joined.freeze()
}
