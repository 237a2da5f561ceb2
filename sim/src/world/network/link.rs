//! Links between machines: cuts, and what the death of a program does to its connections.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::connection::Connection;
use super::faults::Fate;
use super::{KEEP_ALIVE, SimNetwork};
use crate::random::Stream;
use crate::world::machine::Machine;

/// Why a message did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection was lost")]
pub(super) struct Lost;

impl SimNetwork {
    /// Cuts the way from one machine to another (not the way back).
    pub fn cut(self: &Arc<Self>, from: Machine, to: Machine) {
        let number = {
            let mut state = self.state();
            if state.cut.contains_key(&(from, to)) {
                return;
            }
            state.next_number += 1;
            let number = state.next_number;
            state.cut.insert((from, to), number);
            number
        };
        let world = self.world();
        world.event("cut", number, || format!("{from} → {to}"));
        let network = self.clone();
        let patience = KEEP_ALIVE + self.jitter(KEEP_ALIVE);
        world.spawn_on(Machine::SIMULATOR, async move {
            seawall_host::time::sleep(patience).await;
            if network.state().cut.get(&(from, to)) == Some(&number) {
                network.break_where(|it| (it.client, it.server) == (from, to) || (it.server, it.client) == (from, to));
            }
        });
    }

    /// Heals the way from one machine to another.
    pub fn heal(&self, from: Machine, to: Machine) {
        if self.state().cut.remove(&(from, to)).is_some() {
            self.world().event("heal", 0, || format!("{from} → {to}"));
            self.stir();
        }
    }

    /// Heals every way.
    pub fn heal_all(&self) {
        self.state().cut.clear();
        self.world().event("heal", 1, || "all".to_owned());
        self.stir();
    }

    /// Breaks every connection of a machine; new ones can be made at once.
    pub fn reset(&self, machine: Machine) {
        self.world().event("reset", u64::from(machine.0), || machine.to_string());
        self.break_where(|it| it.client == machine || it.server == machine);
    }

    fn stir(&self) {
        self.connections().iter().for_each(|connection| connection.stir());
        self.changed.notify_waiters();
    }

    pub(super) fn connections(&self) -> Vec<Arc<Connection>> {
        let mut state = self.state();
        state.connections.retain(|connection| connection.strong_count() > 0);
        state.connections.iter().filter_map(Weak::upgrade).collect()
    }

    fn break_where(&self, which: impl Fn(&Connection) -> bool) {
        for connection in self.connections() {
            if which(&connection) && !connection.is_broken() {
                connection.break_off();
            }
        }
        self.changed.notify_waiters();
    }

    fn jitter(&self, most: Duration) -> Duration {
        self.world().draw(Stream::Network, |random| random.duration(Duration::ZERO..most))
    }

    pub(super) fn is_cut(&self, from: Machine, to: Machine) -> bool {
        self.state().cut.contains_key(&(from, to))
    }

    pub(in crate::world) fn machine_died(self: &Arc<Self>, machine: Machine, silently: bool) {
        let removed = {
            let mut state = self.state();
            if silently {
                state.silent.insert(machine);
            }
            let keys: Vec<_> = state.listeners.keys().filter(|(home, _)| *home == machine).cloned().collect();
            keys.iter().filter_map(|key| state.listeners.remove(key)).collect::<Vec<_>>()
        };
        drop(removed);
        let wait = if silently { KEEP_ALIVE + self.jitter(KEEP_ALIVE) } else { self.jitter(Duration::from_millis(2)) };
        let ends: Vec<Weak<Connection>> = self
            .connections()
            .iter()
            .filter(|it| it.client == machine || it.server == machine)
            .map(Arc::downgrade)
            .collect();
        let network = self.clone();
        self.world().spawn_on(Machine::SIMULATOR, async move {
            seawall_host::time::sleep(wait).await;
            ends.iter().filter_map(Weak::upgrade).for_each(|connection| connection.break_off());
            network.changed.notify_waiters();
        });
    }

    /// What was connected to a former life is refused from now on.
    pub(in crate::world) fn machine_started(&self, machine: Machine) {
        self.state().silent.remove(&machine);
        self.break_where(|it| it.client == machine || it.server == machine);
    }

    /// How long a message takes now; a reset ends the connection.
    pub(super) fn fate(&self, connection: &Connection, head: bool) -> Result<Duration, Lost> {
        if connection.client == connection.server {
            return Ok(Duration::from_micros(20));
        }
        let faults = self.state().faults.clone();
        match self.world().draw(Stream::Network, |random| faults.fate(random, head)) {
            Fate::Arrives(after) => Ok(after),
            Fate::Reset => {
                connection.break_off();
                Err(Lost)
            }
        }
    }

    /// Lets a message travel over a connection.
    pub(super) async fn travel(&self, connection: &Connection, from: Machine, to: Machine) -> Result<(), Lost> {
        let after = self.fate(connection, true)?;
        self.world().true_sleep(after).await;
        loop {
            let changed = self.changed.notified();
            if connection.is_broken() {
                return Err(Lost);
            }
            if !self.is_cut(from, to) {
                return Ok(());
            }
            changed.await;
        }
    }
}
