//! A connection between two programs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;
use tonic::service::Routes;

use super::link::Lost;
use super::pipe::Pipe;
use crate::world::machine::Machine;

/// A connection; it knows the program that accepted it, so that a call never reaches a later one.
pub(super) struct Connection {
    pub(super) client: Machine,
    pub(super) server: Machine,
    /// What the accepting program serves; nothing once the world has ended.
    routes: Mutex<Option<Routes>>,
    broken: AtomicBool,
    notify: Notify,
    pipes: Mutex<Vec<Weak<Pipe>>>,
}

impl Connection {
    pub(super) fn new(client: Machine, server: Machine, routes: Routes) -> Self {
        Self {
            client,
            server,
            routes: Mutex::new(Some(routes)),
            broken: AtomicBool::new(false),
            notify: Notify::new(),
            pipes: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    fn served(&self) -> MutexGuard<'_, Option<Routes>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the accepting program serves, unless the world has ended.
    pub(super) fn routes(&self) -> Result<Routes, Lost> {
        self.served().clone().ok_or(Lost)
    }

    /// Lets go of what is served: two programs that are connected to each other would hold each other for ever.
    pub(super) fn let_go(&self) {
        let routes = self.served().take();
        drop(routes);
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
