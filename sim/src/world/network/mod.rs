//! The simulated network: HTTP requests with tonic bodies, cut at the tower service.
//!
//! A call travels over a connection between two programs, as HTTP/2 over TCP does: the frames of a stream arrive in
//! order or not at all, calls overtake each other, loss is a delay or a reset. A connection breaks when a program at
//! either end dies, when its link is cut for longer than the keep-alive, and when a fault resets it.

mod call;
mod channel;
mod connection;
mod faults;
mod link;
mod pipe;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use seawall_host::net::{Address, Channel, ChannelOptions, Network, Server};
use seawall_host::task;
use tokio::sync::Notify;
use tonic::service::Routes;
use tower::util::BoxCloneSyncService;

pub use faults::NetworkFaults;

use super::SimWorld;
use super::machine::Machine;
use channel::SimChannel;
use connection::Connection;

/// A connection whose other end is silent is given up after this long.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The network of a world.
pub struct SimNetwork {
    world: Weak<SimWorld>,
    state: Mutex<NetworkState>,
    /// Rings when a link is healed or a connection breaks.
    changed: Notify,
}

#[derive(Default)]
struct NetworkState {
    faults: NetworkFaults,
    /// Machines by the address that is theirs, whether or not anything listens there.
    homes: BTreeMap<String, Machine>,
    listeners: BTreeMap<(Machine, Address), Listener>,
    next_number: u64,
    /// Directions in which nothing gets through, with the number of the cut.
    cut: BTreeMap<(Machine, Machine), u64>,
    connections: Vec<Weak<Connection>>,
    /// Machines that do not even refuse.
    silent: BTreeSet<Machine>,
}

#[derive(Clone)]
struct Listener {
    number: u64,
    routes: Routes,
}

/// Takes its listener away when the server is dropped.
struct ListenerGuard {
    network: Arc<SimNetwork>,
    key: (Machine, Address),
    number: u64,
}

impl Drop for ListenerGuard {
    fn drop(&mut self) {
        let removed = {
            let mut state = self.network.state();
            let ours = state.listeners.get(&self.key).is_some_and(|listener| listener.number == self.number);
            if ours { state.listeners.remove(&self.key) } else { None }
        };
        drop(removed);
    }
}

impl SimNetwork {
    pub(super) fn new(world: Weak<SimWorld>) -> Self {
        Self { world, state: Mutex::default(), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, NetworkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn world(&self) -> Arc<SimWorld> {
        self.world.upgrade().expect("a network that is used has its world")
    }

    /// Says that `address` is one of `machine`'s.
    pub fn assign(&self, address: &Address, machine: Machine) {
        self.state().homes.insert(address.to_string(), machine);
    }

    /// Changes the faults from now on.
    pub fn set_faults(&self, faults: NetworkFaults) {
        self.state().faults = faults;
    }

    /// Lets go of everything that could hold the world alive.
    pub(super) fn close(&self) {
        self.connections().iter().for_each(|connection| connection.let_go());
        let state = std::mem::take(&mut *self.state());
        drop(state);
    }
}

impl Network for SimNetwork {
    fn channel(&self, address: &Address, options: ChannelOptions) -> Channel {
        let world = self.world();
        let channel = SimChannel::new(world.network().clone(), world.machine(), address.clone(), options);
        Channel::from_service(BoxCloneSyncService::new(channel))
    }

    fn serve(&self, address: Address, routes: Routes) -> BoxFuture<'static, io::Result<Server>> {
        let world = self.world();
        let network = world.network().clone();
        async move {
            let machine = world.machine();
            let key = (machine, address.clone());
            let number = {
                let mut state = network.state();
                if state.listeners.contains_key(&key) {
                    return Err(io::ErrorKind::AddrInUse.into());
                }
                state.next_number += 1;
                let number = state.next_number;
                state.homes.entry(address.to_string()).or_insert(machine);
                state.listeners.insert(key.clone(), Listener { number, routes });
                number
            };
            let guard = ListenerGuard { network, key, number };
            let listening = task::spawn_owned(async move {
                futures::future::pending::<()>().await;
                drop(guard);
            });
            Ok(Server::new(address, listening))
        }
        .boxed()
    }
}
