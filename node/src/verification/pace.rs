//! Reading a destination no faster than was allowed.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use seawall_host::time::{self, Instant};

use crate::destination::{ByteStream, Destination, DestinationError};
use crate::restore::{self, Breadth, Listing, PartRead, RestoreSource, SourceError, SourceObject};

/// Objects are read in pieces of this size.
const PIECE_BYTES: u64 = 1 << 20;

/// Lets so many bytes a second through, whoever reads them.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: u64,
    free_at: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), free_at: Mutex::default() }
    }

    /// Waits until `bytes` more may be read.
    pub(super) async fn take(&self, bytes: u64) {
        let until = self.reserve(bytes, Instant::now());
        if until > Instant::now() {
            time::sleep_until(until).await;
        }
    }

    /// When the reading of `bytes` may begin that is asked for at `now`: when what was let through before is read.
    fn reserve(&self, bytes: u64, now: Instant) -> Instant {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = free_at.map_or(now, |free| free.max(now));
        *free_at = Some(begins + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        begins
    }
}

/// A source that is read at a pace.
pub(super) struct PacedSource<S> {
    pub(super) inner: S,
    pub(super) pace: Arc<Pace>,
}

impl<S: RestoreSource> RestoreSource for PacedSource<S> {
    fn describe(&self) -> &str {
        self.inner.describe()
    }

    fn list(&self, breadth: Breadth) -> BoxFuture<'_, Result<Listing, SourceError>> {
        self.inner.list(breadth)
    }

    fn read(&self, object: &SourceObject) -> restore::ByteStream {
        let pace = Arc::clone(&self.pace);
        let paced = self.inner.read(object).then(move |piece| {
            let pace = Arc::clone(&pace);
            async move {
                if let Ok(piece) = &piece {
                    pace.take(piece.len() as u64).await;
                }
                piece
            }
        });
        paced.boxed()
    }

    fn read_part(&self, object: &SourceObject, offset: u64, length: u64) -> Option<PartRead> {
        let part = self.inner.read_part(object, offset, length)?;
        let pace = Arc::clone(&self.pace);
        let paced = async move {
            pace.take(length).await;
            part.await
        };
        Some(paced.boxed())
    }
}

/// The bytes of an object of `size` bytes, read at a pace. One that is not there gives an error of the kind
/// [`io::ErrorKind::NotFound`].
pub(super) fn read_object(place: Arc<dyn Destination>, path: String, size: u64, pace: Arc<Pace>) -> ByteStream {
    let pieces = stream::unfold(Some(0), move |offset| {
        let (place, path, pace) = (Arc::clone(&place), path.clone(), Arc::clone(&pace));
        async move {
            let offset = offset.filter(|offset| *offset < size)?;
            let length = PIECE_BYTES.min(size - offset);
            pace.take(length).await;
            let piece = match place.read(&path, offset, length).await {
                Ok(piece) if piece.len() as u64 == length => Ok(piece),
                Ok(piece) => {
                    let cause = format!("it ends after {} of {size} bytes", offset + piece.len() as u64);
                    Err(io::Error::new(io::ErrorKind::UnexpectedEof, cause))
                }
                Err(error @ DestinationError::NotFound { .. }) => Err(io::Error::new(io::ErrorKind::NotFound, error)),
                Err(error) => Err(io::Error::other(error)),
            };
            let next = piece.is_ok().then_some(offset + length);
            Some((piece, next))
        }
    });
    pieces.boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_let_through_than_was_allowed() {
        let pace = Pace::new(1000);
        let at = |millis: u64| Instant::from_nanos(millis * 1_000_000);
        assert_eq!(pace.reserve(500, at(10)), at(10));
        assert_eq!(pace.reserve(2000, at(20)), at(510), "the first half second is taken");
        assert_eq!(pace.reserve(1, at(30)), at(2510));
        assert_eq!(pace.reserve(1, at(9000)), at(9000), "what was not used is not saved up");
    }
}
