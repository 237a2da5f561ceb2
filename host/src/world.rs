//! The seam between the product and the machine.

use std::cell::RefCell;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use futures::future::BoxFuture;

use crate::disk::Disk;
use crate::net::Network;
use crate::time::{Instant, UnixMillis};
use crate::watch::ChangeSignal;

/// A machine, real or simulated, as the product sees it.
pub trait World: Send + Sync + 'static {
    /// Starts a task on the machine that the caller runs on. The future never panics past its wrapper.
    fn spawn(&self, future: BoxFuture<'static, ()>);
    /// Runs a job that blocks (SQLite, files beside it) where it holds up no task.
    fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>);
    /// The monotonic clock of this machine.
    fn now(&self) -> Instant;
    /// The wall clock of this machine; it may jump.
    fn wall_clock(&self) -> UnixMillis;
    /// Completes once [`World::now`] has reached `deadline`.
    fn sleep_until(&self, deadline: Instant) -> BoxFuture<'static, ()>;
    /// Fills `buffer` with random bytes.
    fn fill_random(&self, buffer: &mut [u8]);
    /// The disk of this machine.
    fn disk(&self) -> &dyn Disk;
    /// The network as this machine reaches it.
    fn network(&self) -> &dyn Network;
    /// Reports changes of the file at `path` as soon as the machine can tell; it may miss some.
    fn watch(&self, path: &Path) -> ChangeSignal;
    /// Completes when the machine asks this program to stop (SIGTERM, SIGINT).
    fn termination(&self) -> BoxFuture<'static, ()>;
    /// Ends this program at once; used where going on could lose data.
    fn halt(&self, reason: &str) -> !;
    /// Hears that a rare path was taken; see [`crate::probe::sometimes`].
    fn reached(&self, path: &'static str) {
        let _ = path;
    }
    /// Whether the deliberate defect `name` is switched on; see [`crate::probe::mutant`].
    #[cfg(feature = "mutants")]
    fn has_mutant(&self, name: &'static str) -> bool {
        let _ = name;
        false
    }
    /// The deliberate defects that are switched on, as far as the world knows before it is asked for one; see
    /// [`crate::probe::defects`].
    #[cfg(feature = "mutants")]
    fn mutants(&self) -> Vec<String> {
        Vec::new()
    }
}

static PROCESS: OnceLock<Arc<dyn World>> = OnceLock::new();

thread_local! {
    static THREAD: RefCell<Option<Arc<dyn World>>> = const { RefCell::new(None) };
}

/// Installs the world of this process. A second call is ignored and answers `false`.
pub fn install(world: Arc<dyn World>) -> bool {
    PROCESS.set(world).is_ok()
}

/// Installs (or, with `None`, removes) a world for the current thread alone; it hides the process's.
pub fn install_for_thread(world: Option<Arc<dyn World>>) {
    THREAD.with(|slot| *slot.borrow_mut() = world);
}

/// The world of the caller.
///
/// # Panics
/// If neither this thread nor this process has one.
pub(crate) fn current() -> Arc<dyn World> {
    THREAD
        .try_with(|slot| slot.borrow().clone())
        .ok()
        .flatten()
        .or_else(|| PROCESS.get().cloned())
        .expect("no world is installed: call seawall_host::install first")
}
