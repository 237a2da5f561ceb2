//! A connection between two programs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, Weak};

use tokio::sync::Notify;
use tonic::service::Routes;

use super::pipe::Pipe;
use crate::world::machine::Machine;

/// A connection; it knows the program that accepted it, so that a call never reaches a later one.
pub(super) struct Connection {
    pub(super) client: Machine,
    pub(super) server: Machine,
    pub(super) routes: Routes,
    broken: AtomicBool,
    notify: Notify,
    pipes: Mutex<Vec<Weak<Pipe>>>,
}

impl Connection {
    pub(super) fn new(client: Machine, server: Machine, routes: Routes) -> Self {
        Self {
            client,
            server,
            routes,
            broken: AtomicBool::new(false),
            notify: Notify::new(),
            pipes: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Ends it for both ends at once.
    pub(super) fn break_off(&self) {
        self.broken.store(true, Ordering::Relaxed);
        self.notify.notify_waiters();
        self.stir();
    }

    /// Lets every pipe look again whether something got through.
    pub(super) fn stir(&self) {
        let pipes: Vec<_> = {
            let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
            pipes.retain(|pipe| pipe.strong_count() > 0);
            pipes.iter().filter_map(Weak::upgrade).collect()
        };
        pipes.iter().for_each(|pipe| pipe.stir());
    }

    /// Completes when it is broken.
    pub(super) async fn broken(&self) {
        loop {
            let notified = self.notify.notified();
            if self.is_broken() {
                return;
            }
            notified.await;
        }
    }

    pub(super) fn carries(&self, pipe: Weak<Pipe>) {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        if pipes.len() >= 32 {
            pipes.retain(|pipe| pipe.strong_count() > 0);
        }
        pipes.push(pipe);
    }
}
