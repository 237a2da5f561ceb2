//! A host: an address of its own and the processes that have it.

use std::any::Any;
use std::io;
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use crate::process::{Launch, Process};

type Work = Box<dyn FnOnce() + Send>;

/// A host of a run. What happens *on* it (a socket that is bound, a process that is started) is done by its thread, which alone
/// lives in the host's network. The network goes when that thread and the processes are gone, whatever ended them.
#[derive(Clone)]
pub struct Host {
    name: Arc<str>,
    address: Ipv4Addr,
    work: Sender<Work>,
}

impl Host {
    /// A host whose thread begins with `enter`, which moves it into the host's network.
    ///
    /// # Errors
    /// What `enter` returns.
    pub fn start<T: Send + 'static>(
        name: &str,
        address: Ipv4Addr,
        enter: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<(Self, T)> {
        let (work, orders) = channel::<Work>();
        let (entered, outcome) = channel();
        thread::Builder::new().name(format!("host {name}")).spawn(move || {
            let entry = enter();
            let is_in = entry.is_ok();
            if entered.send(entry).is_ok() && is_in {
                orders.into_iter().for_each(|work| work());
            }
        })?;
        let entry = outcome.recv().map_err(io::Error::other)??;
        Ok((Self { name: name.into(), address, work }, entry))
    }

    /// Its name, such as `node-1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Does `work` on this host's thread, and so in its network: sockets that it makes stay there. A panic of it is passed on.
    pub fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, outcome) = channel::<Result<T, Box<dyn Any + Send>>>();
        let order: Work = Box::new(move || {
            let _ = answer.send(catch_unwind(AssertUnwindSafe(work)));
        });
        self.work.send(order).expect("the host's thread ends after its last handle");
        match outcome.recv().expect("the host's thread answers") {
            Ok(value) => value,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Starts a process on this host.
    ///
    /// # Errors
    /// The program cannot be started, or its log cannot be opened.
    pub fn spawn(&self, launch: Launch) -> io::Result<Process> {
        self.within(move || launch.spawn())
    }
}
