//! openraft on the machine that `seawall_host` gives: its tasks, clock and randomness.

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use openraft_rt::{AsyncRuntime, OptionalSend};
use seawall_host::task::{JoinError, JoinHandle};
use seawall_host::time::{self, Elapsed};
use seawall_host::{random, task};

/// The runtime of [`TypeConfig`](super::types::TypeConfig). Watch channels are openraft's deterministic ones:
/// tokio's wake their receivers in random order.
pub struct HostRuntime {
    own: openraft_rt_tokio::TokioRuntime,
}

impl fmt::Debug for HostRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostRuntime")
    }
}

impl AsyncRuntime for HostRuntime {
    type JoinError = JoinError;
    type JoinHandle<T: OptionalSend + 'static> = JoinHandle<T>;
    type Sleep = BoxFuture<'static, ()>;
    type Instant = HostInstant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = HostTimeout<T>;
    type ThreadLocalRng = rand::rngs::SmallRng;
    type Mpsc = openraft_rt_tokio::TokioMpsc;
    type Watch = openraft_rt_sim::SimWatch;
    type Oneshot = openraft_rt_tokio::TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = openraft_rt_tokio::TokioMutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        task::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        Self::sleep_until(HostInstant(time::Instant::now() + duration))
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        time::sleep_until(deadline.0).boxed()
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        HostTimeout { future: Box::pin(future), sleep: Self::sleep(duration) }
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        HostTimeout { future: Box::pin(future), sleep: Self::sleep_until(deadline) }
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        matches!(join_error, JoinError::Panicked(_))
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        random::generator()
    }

    /// A runtime of its own on the real machine. A node never makes one: it runs inside its program's.
    fn new(threads: usize) -> Self {
        Self { own: openraft_rt_tokio::TokioRuntime::new(threads) }
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.own.block_on(future)
    }

    async fn spawn_blocking<F, T>(job: F) -> Result<T, io::Error>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        task::blocking(job).await.map_err(io::Error::other)
    }
}

/// The future of a time-out.
pub struct HostTimeout<F> {
    future: Pin<Box<F>>,
    sleep: BoxFuture<'static, ()>,
}

impl<F: Future> Future for HostTimeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        self.sleep.as_mut().poll(cx).map(|()| Err(Elapsed))
    }
}

/// A moment of the machine's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostInstant(pub time::Instant);

impl openraft_rt::Instant for HostInstant {
    fn now() -> Self {
        Self(time::Instant::now())
    }
}

impl Add<Duration> for HostInstant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}

impl AddAssign<Duration> for HostInstant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for HostInstant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0 - duration)
    }
}

impl SubAssign<Duration> for HostInstant {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl Sub for HostInstant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0 - earlier.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_openrafts_contract_of_a_runtime() {
        seawall_host::real::install();
        openraft_rt::testing::Suite::<HostRuntime>::test_all();
    }
}
