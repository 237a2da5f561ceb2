//! One run of an application's program.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{AbortHandle, Abortable};
use seawall_host::time::timeout;
use tokio::sync::Notify;

use crate::world::{self, Machine};

/// What the tasks of one run of an application share.
#[derive(Default)]
pub(super) struct Life {
    paused: AtomicBool,
    ending: AtomicBool,
    in_order: AtomicBool,
    active: AtomicU32,
    changed: Notify,
    left: Notify,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// One task of a life; the life knows when it is gone, however it goes.
pub(super) struct Active(Arc<Life>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
        self.0.left.notify_waiters();
    }
}

impl Life {
    /// Starts a task of this life on `machine`.
    pub(super) fn spawn(self: &Arc<Self>, machine: Machine, future: impl Future<Output = ()> + Send + 'static) {
        let (abort, registration) = AbortHandle::new_pair();
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(abort);
        self.active.fetch_add(1, Ordering::Relaxed);
        let active = Active(Arc::clone(self));
        let task = Abortable::new(future, registration);
        world::current().spawn_on(machine, async move {
            let _active = active;
            // Ended by itself or killed: it is gone.
            let _ = task.await;
        });
    }

    /// Waits for `pause`, and then for as long as the application is paused; less if the life ends.
    pub(super) async fn rest(&self, pause: Duration) {
        let _ = timeout(pause, self.ended()).await;
        while self.paused.load(Ordering::Relaxed) && !self.is_ending() {
            self.changed.notified().await;
        }
    }

    async fn ended(&self) {
        while !self.is_ending() {
            self.changed.notified().await;
        }
    }

    /// Whether tasks are to stop.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Whether the last connection writes everything back.
    pub(super) fn ends_in_order(&self) -> bool {
        self.in_order.load(Ordering::Relaxed)
    }

    /// Begins no further transactions, or goes on.
    pub(super) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    /// Asks all tasks to end.
    pub(super) fn end(&self, in_order: bool) {
        self.in_order.store(in_order, Ordering::Relaxed);
        self.ending.store(true, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    /// Drops all tasks where they stand.
    pub(super) fn kill(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(AbortHandle::abort);
    }

    /// Whether any task is left.
    pub(super) fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed) > 0
    }

    /// Waits until all tasks are gone.
    pub(super) async fn gone(&self) {
        while self.is_active() {
            self.left.notified().await;
        }
    }
}
