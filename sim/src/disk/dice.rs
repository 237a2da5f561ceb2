//! Where a disk's randomness comes from.

use std::sync::{Arc, Mutex, PoisonError};

use crate::random::{Random, Stream};

/// Runs what wants to draw on a stream.
type Draw = dyn Fn(&mut dyn FnMut(&mut Random)) + Send + Sync;

/// Lends a stream of random draws. Clones share it.
#[derive(Clone)]
pub struct Dice(Arc<Draw>);

impl Dice {
    /// Draws through `draw`, which must run what it is given exactly once.
    pub fn new(draw: impl Fn(&mut dyn FnMut(&mut Random)) + Send + Sync + 'static) -> Self {
        Self(Arc::new(draw))
    }

    /// Draws from a stream of its own.
    pub fn seeded(seed: u64) -> Self {
        let random = Mutex::new(Random::new(seed, Stream::Disk));
        Self::new(move |take| take(&mut random.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Draws what `take` wants.
    pub fn draw<T>(&self, take: impl FnOnce(&mut Random) -> T) -> T {
        let (mut take, mut drawn) = (Some(take), None);
        (self.0)(&mut |random| drawn = take.take().map(|take| take(random)));
        drawn.expect("a source of draws runs what it is given, once")
    }
}
