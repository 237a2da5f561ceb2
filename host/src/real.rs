//! The real machine: tokio, the operating system's clocks, files and sockets.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is what the firewall points to")]

mod disk;
#[cfg(feature = "mutants")]
mod mutants;
mod network;
mod ports;
mod watch;

pub use ports::free_port;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use futures::future::BoxFuture;
use rand::Rng;

use crate::disk::Disk;
use crate::net::Network;
use crate::time::{Instant, UnixMillis};
use crate::watch::ChangeSignal;
use crate::world::World;

/// The real machine. Tasks run on the tokio runtime of whoever starts them, so that shutting a runtime down ends
/// exactly what was started on it.
#[derive(Debug)]
pub struct RealWorld {
    origin: std::time::Instant,
    disk: disk::RealDisk,
    network: network::RealNetwork,
    #[cfg(feature = "mutants")]
    mutants: mutants::Mutants,
}

impl RealWorld {
    /// The machine this process runs on.
    #[expect(clippy::new_without_default, reason = "its origin is the moment of the call")]
    pub fn new() -> Self {
        Self {
            origin: std::time::Instant::now(),
            disk: disk::RealDisk,
            network: network::RealNetwork,
            #[cfg(feature = "mutants")]
            mutants: mutants::Mutants::from_environment(),
        }
    }
}

/// Installs the real machine for this process.
pub fn install() {
    crate::install(Arc::new(RealWorld::new()));
}

impl World for RealWorld {
    fn spawn(&self, future: BoxFuture<'static, ()>) {
        tokio::spawn(future);
    }

    fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>) {
        tokio::task::spawn_blocking(job);
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall_clock(&self) -> UnixMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn sleep_until(&self, deadline: Instant) -> BoxFuture<'static, ()> {
        let deadline = self.origin + Duration::from_nanos(deadline.as_nanos());
        tokio::time::sleep_until(deadline.into()).boxed()
    }

    fn fill_random(&self, buffer: &mut [u8]) {
        rand::rng().fill_bytes(buffer);
    }

    fn disk(&self) -> &dyn Disk {
        &self.disk
    }

    fn network(&self) -> &dyn Network {
        &self.network
    }

    fn watch(&self, path: &Path) -> ChangeSignal {
        watch::watch(path)
    }

    fn termination(&self) -> BoxFuture<'static, ()> {
        use tokio::signal::unix::{SignalKind, signal};
        async {
            match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
                (Ok(mut terminate), Ok(mut interrupt)) => {
                    let terminated = std::pin::pin!(terminate.recv());
                    let interrupted = std::pin::pin!(interrupt.recv());
                    futures::future::select(terminated, interrupted).await;
                }
                _ => std::future::pending().await,
            }
        }
        .boxed()
    }

    fn halt(&self, reason: &str) -> ! {
        tracing::error!(reason, "halting");
        eprintln!("seawall: halting: {reason}");
        std::process::exit(70)
    }

    #[cfg(feature = "mutants")]
    fn has_mutant(&self, name: &'static str) -> bool {
        self.mutants.has(name)
    }

    #[cfg(feature = "mutants")]
    fn mutants(&self) -> Vec<String> {
        self.mutants.names()
    }
}
