//! What the product sees of the world.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use seawall_host::World;
use seawall_host::disk::{DirectoryEntry, Disk, LockGuard, OpenMode, RawFile, Space};
use seawall_host::net::Network;
use seawall_host::time::{Instant, UnixMillis};
use seawall_host::watch::ChangeSignal;

use super::timer::Sleep;
use super::{SimWorld, executor, watch};
use crate::disk::SimDisk;
use crate::random::Stream;

/// A blocking job waits at most this long for a thread.
const THREAD_WAIT: Duration = Duration::from_micros(300);

/// What unwinds a task whose program has ended itself; no panic, so no hook hears of it.
struct Halted;

impl World for SimWorld {
    fn spawn(&self, future: BoxFuture<'static, ()>) {
        executor::spawn(self, self.machine(), future);
    }

    fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>) {
        let wait = self.draw(Stream::Schedule, |random| {
            if random.chance(0.5) { Duration::ZERO } else { random.duration(Duration::ZERO..THREAD_WAIT) }
        });
        self.spawn(
            async move {
                if !wait.is_zero() {
                    seawall_host::time::sleep(wait).await;
                }
                job();
            }
            .boxed(),
        );
    }

    fn now(&self) -> Instant {
        let state = self.state();
        Instant::from_nanos(state.clock(state.current).local(state.now))
    }

    fn wall_clock(&self) -> UnixMillis {
        let state = self.state();
        UnixMillis(state.clock(state.current).wall_ms(state.now))
    }

    fn sleep_until(&self, deadline: Instant) -> BoxFuture<'static, ()> {
        Sleep::new(self.arc(), self.machine(), deadline.as_nanos()).boxed()
    }

    fn fill_random(&self, buffer: &mut [u8]) {
        self.draw(Stream::Product, |random| random.fill(buffer));
    }

    fn disk(&self) -> &dyn Disk {
        self
    }

    fn network(&self) -> &dyn Network {
        self.network.as_ref()
    }

    fn watch(&self, path: &Path) -> ChangeSignal {
        watch::watch(self, path)
    }

    /// Programs are stopped by their supervisors in the simulator, not by signals.
    fn termination(&self) -> BoxFuture<'static, ()> {
        futures::future::pending().boxed()
    }

    fn halt(&self, reason: &str) -> ! {
        let mut state = self.state();
        let machine = state.current;
        state.machine_mut(machine).halted.get_or_insert_with(|| reason.to_owned());
        drop(state);
        std::panic::resume_unwind(Box::new(Halted))
    }

    fn reached(&self, path: &'static str) {
        Self::reached(self, path);
    }

    #[cfg(feature = "mutants")]
    fn has_mutant(&self, name: &'static str) -> bool {
        self.mutant.as_deref() == Some(name)
    }
}

impl SimWorld {
    fn disk_here(&self) -> SimDisk {
        self.disk_of(self.machine())
    }
}

/// Every call goes to the disk of the machine that makes it.
impl Disk for SimWorld {
    fn open(&self, path: PathBuf, mode: OpenMode) -> BoxFuture<'static, io::Result<Arc<dyn RawFile>>> {
        self.disk_here().open(path, mode)
    }

    fn rename(&self, from: PathBuf, to: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        self.disk_here().rename(from, to)
    }

    fn hard_link(&self, from: PathBuf, to: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        self.disk_here().hard_link(from, to)
    }

    fn remove_file(&self, path: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        self.disk_here().remove_file(path)
    }

    fn remove_directory(&self, path: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        self.disk_here().remove_directory(path)
    }

    fn create_directories(&self, path: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        self.disk_here().create_directories(path)
    }

    fn sync_directory(&self, path: PathBuf) -> BoxFuture<'static, io::Result<()>> {
        self.disk_here().sync_directory(path)
    }

    fn list(&self, path: PathBuf) -> BoxFuture<'static, io::Result<Vec<DirectoryEntry>>> {
        self.disk_here().list(path)
    }

    fn exists(&self, path: PathBuf) -> BoxFuture<'static, io::Result<bool>> {
        self.disk_here().exists(path)
    }

    fn space(&self, path: PathBuf) -> BoxFuture<'static, io::Result<Space>> {
        self.disk_here().space(path)
    }

    fn lock(&self, path: PathBuf) -> BoxFuture<'static, io::Result<LockGuard>> {
        self.disk_here().lock(path)
    }
}
