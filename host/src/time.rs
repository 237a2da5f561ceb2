//! Clocks and timers.

use std::future::Future;
use std::ops::{Add, Sub};
use std::time::Duration;

use futures::future::{Either, select};

use crate::world;

/// A moment of a machine's monotonic clock, in nanoseconds since an origin of the world's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The current moment.
    pub fn now() -> Self {
        world::current().now()
    }

    /// A moment from its nanoseconds since the world's origin; for worlds.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the world's origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long ago this moment was; zero if it lies ahead.
    pub fn elapsed(self) -> Duration {
        Self::now() - self
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A wall-clock time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// The wall clock now. It may jump: never measure with it.
    pub fn now() -> Self {
        world::current().wall_clock()
    }
}

/// The time-out of [`timeout`] passed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct Elapsed;

/// Waits for `duration`.
pub async fn sleep(duration: Duration) {
    let world = world::current();
    world.sleep_until(world.now() + duration).await;
}

/// Waits until `deadline`.
pub async fn sleep_until(deadline: Instant) {
    world::current().sleep_until(deadline).await;
}

/// Gives `future` at most `duration`.
///
/// # Errors
/// [`Elapsed`] if it did not complete in time; it is dropped then.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    timeout_at(Instant::now() + duration, future).await
}

/// Gives `future` until `deadline`.
///
/// # Errors
/// [`Elapsed`] if it did not complete in time; it is dropped then.
pub async fn timeout_at<F: Future>(deadline: Instant, future: F) -> Result<F::Output, Elapsed> {
    let future = std::pin::pin!(future);
    let timer = world::current().sleep_until(deadline);
    match select(future, timer).await {
        Either::Left((output, _)) => Ok(output),
        Either::Right(((), _)) => Err(Elapsed),
    }
}
