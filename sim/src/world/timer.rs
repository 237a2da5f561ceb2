//! Waiting for a moment.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::SimWorld;
use super::machine::Machine;

/// Completes when the clock of `machine` shows `deadline`. [`Machine::SIMULATOR`]'s clock is true time.
pub(super) struct Sleep {
    world: Arc<SimWorld>,
    machine: Machine,
    deadline: u64,
    registered: Option<(u64, u64)>,
}

impl Sleep {
    pub(super) fn new(world: Arc<SimWorld>, machine: Machine, deadline: u64) -> Self {
        Self { world, machine, deadline, registered: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut state = this.world.state();
        if let Some(key) = this.registered.take() {
            state.timers.remove(&key);
        }
        let clock = state.clock(this.machine);
        if clock.local(state.now) >= this.deadline {
            return Poll::Ready(());
        }
        let at = clock.true_time(this.deadline).max(state.now + 1);
        state.timer_count += 1;
        let key = (at, state.timer_count);
        state.timers.insert(key, cx.waker().clone());
        drop(state);
        this.registered = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.registered.take() {
            let waker = self.world.state().timers.remove(&key);
            drop(waker);
        }
    }
}

impl SimWorld {
    /// Waits for a stretch of true time.
    pub(super) fn true_sleep(&self, duration: Duration) -> Sleep {
        let now = self.state().now;
        self.true_sleep_until(now.saturating_add(duration.as_nanos() as u64))
    }

    /// Waits for a moment of true time, in nanoseconds since the world began.
    pub(super) fn true_sleep_until(&self, at: u64) -> Sleep {
        let deadline = self.state().clock(Machine::SIMULATOR).local(at);
        Sleep::new(self.arc(), Machine::SIMULATOR, deadline)
    }
}
