//! A node's end of a place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use seawall_node::destination::{ByteStream, Creation, Destination, DestinationError, ListedObject};
use tokio::sync::{mpsc, oneshot};

use super::exchange::{Arrival, Failure, Piece, Upload, send};
use super::place::Place;
use super::plan::{Kind, Plan};

/// So many pieces of a stream may be on their way.
const BUFFERED_PIECES: usize = 2;

/// A place as one life of one node reaches it.
///
/// As with a real store, the caller merely waits: what it sent is carried out whether or not it lives to hear of it.
/// Whether the place creates conditionally is learnt by [`Destination::probe`]; if it does not, existence is asked for
/// before each creation, which leaves a gap between the two.
#[derive(Debug)]
pub struct SimDestination {
    place: Arc<Place>,
    conditional: AtomicBool,
}

impl SimDestination {
    /// A handle on `place`.
    pub fn new(place: Arc<Place>) -> Self {
        Self { place, conditional: AtomicBool::new(true) }
    }

    async fn answered<T>(
        &self,
        action: &str,
        name: &str,
        answer: oneshot::Receiver<Result<T, Failure>>,
    ) -> Result<T, DestinationError> {
        let lost = || Err(Failure::unavailable("the world ended"));
        answer.await.unwrap_or_else(|_| lost()).map_err(|failure| {
            let (destination, action) = (self.place.url().to_owned(), format!("{action} {name}"));
            match failure {
                Failure::NotFound => DestinationError::NotFound { destination, name: name.to_owned() },
                Failure::Refused(cause) => DestinationError::Refused { destination, action, cause },
                Failure::Unavailable(cause) => DestinationError::Unavailable { destination, action, cause },
            }
        })
    }

    /// Whether a creation is in vain, as far as can be told where the place itself does not look.
    async fn exists(&self, name: &str) -> Result<bool, DestinationError> {
        if self.creates_conditionally() {
            return Ok(false);
        }
        let answer =
            send(&self.place, Kind::Look, name, Upload::Nothing, |place, name, _, _, _| Ok((place.holds(name), 0)));
        self.answered("look for", name, answer).await
    }
}

fn create(
    place: &Arc<Place>,
    name: &str,
    plan: &Plan,
    arrival: Arrival,
    content: Bytes,
) -> Result<(Creation, u64), Failure> {
    Ok((place.create(name, content, plan, arrival).into(), 0))
}

#[async_trait]
impl Destination for SimDestination {
    fn url(&self) -> &str {
        self.place.url()
    }

    async fn probe(&self) -> Result<(), DestinationError> {
        let answer = send(&self.place, Kind::Probe, "", Upload::Nothing, |place, _, _, _, _| {
            place.admits(1)?;
            Ok((place.creates_conditionally(), 0))
        });
        let conditional = self.answered("try", "it", answer).await?;
        self.conditional.store(conditional, Ordering::Relaxed);
        Ok(())
    }

    fn creates_conditionally(&self) -> bool {
        self.conditional.load(Ordering::Relaxed)
    }

    async fn create(&self, name: &str, parts: Vec<Bytes>) -> Result<Creation, DestinationError> {
        if self.exists(name).await? {
            return Ok(Creation::AlreadyExists);
        }
        let answer = send(&self.place, Kind::Create, name, Upload::Whole(parts), create);
        self.answered("create", name, answer).await
    }

    async fn create_streaming(
        &self,
        name: &str,
        size_hint: Option<u64>,
        mut content: ByteStream,
    ) -> Result<Creation, DestinationError> {
        if self.exists(name).await? {
            return Ok(Creation::AlreadyExists);
        }
        let (sender, pieces) = mpsc::channel(BUFFERED_PIECES);
        let answer = send(&self.place, Kind::Create, name, Upload::Stream { pieces, size_hint }, create);
        loop {
            let piece = match content.next().await {
                Some(Ok(part)) => Piece::Part(part),
                // The sender is dropped without an end: the place gives the upload up.
                Some(Err(error)) => {
                    let (destination, cause) = (self.place.url().to_owned(), error.to_string());
                    return Err(DestinationError::Source { destination, name: name.to_owned(), cause });
                }
                None => Piece::End,
            };
            let ended = matches!(piece, Piece::End);
            // The place hung up: its answer says why.
            if sender.send(piece).await.is_err() || ended {
                break;
            }
        }
        self.answered("create", name, answer).await
    }

    async fn read(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, DestinationError> {
        let answer = send(&self.place, Kind::Read, name, Upload::Nothing, move |place, name, _, _, _| {
            let content = place.read(name, offset, length).ok_or(Failure::NotFound)?;
            let bytes = content.len() as u64;
            Ok((content, bytes))
        });
        self.answered("read", name, answer).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ListedObject>, DestinationError> {
        let answer = send(&self.place, Kind::List, prefix, Upload::Nothing, |place, prefix, plan, arrival, _| {
            Ok((place.list(prefix, plan, arrival), 0))
        });
        self.answered("list", prefix, answer).await
    }

    async fn delete(&self, name: &str) -> Result<(), DestinationError> {
        let answer = send(&self.place, Kind::Delete, name, Upload::Nothing, |place, name, _, arrival, _| {
            place.delete(name, arrival);
            Ok(((), 0))
        });
        self.answered("delete", name, answer).await
    }
}
