//! The seeded world behind `seawall_host`.

mod clock;
mod executor;
mod host;
mod machine;
mod network;
mod panics;
mod state;
mod timer;
mod trace;
mod watch;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

pub use machine::Machine;
pub use network::{NetworkFaults, SimNetwork};
pub use state::Death;

use crate::disk::SimDisk;
use crate::random::{Random, Stream};
use crate::report::{TraceEvent, Violation};
use state::State;

/// What a world is told when it begins.
#[derive(Clone, Debug, Default)]
pub struct WorldOptions {
    /// Keep every event, for a trace or a comparison.
    pub trace: bool,
    /// The deliberate defect that is switched on.
    pub mutant: Option<String>,
}

/// A world: machines with clocks and disks, a network between them, and one thread that runs all their tasks in an
/// order drawn from the seed.
pub struct SimWorld {
    state: Mutex<State>,
    network: Arc<SimNetwork>,
    #[cfg(feature = "mutants")]
    mutant: Option<String>,
    deaths: tokio::sync::Notify,
    this: Weak<Self>,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<SimWorld>>> = const { RefCell::new(None) };
}

/// The world that runs on this thread.
///
/// # Panics
/// If none does.
pub fn current() -> Arc<SimWorld> {
    try_current().expect("no simulated world runs on this thread")
}

pub(crate) fn try_current() -> Option<Arc<SimWorld>> {
    CURRENT.try_with(|slot| slot.try_borrow().ok().and_then(|world| world.clone())).ok().flatten()
}

/// The last panic on this thread since the last call, with its place, if a world was there to note it.
pub(crate) fn last_panic() -> Option<String> {
    panics::take()
}

impl SimWorld {
    /// A world of its own for `seed`.
    pub fn new(seed: u64, options: WorldOptions) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| Self {
            state: Mutex::new(State::new(seed, options.trace)),
            network: Arc::new(SimNetwork::new(this.clone())),
            #[cfg(feature = "mutants")]
            mutant: options.mutant,
            deaths: tokio::sync::Notify::new(),
            this: this.clone(),
        })
    }

    /// Runs `main` as a task of the simulator's own until it ends, and everything that it starts meanwhile.
    ///
    /// # Errors
    /// The first [`Violation`] of a property; everything stops there.
    pub fn run<T: Send + 'static>(
        self: &Arc<Self>,
        main: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Violation> {
        panics::install_hook();
        CURRENT.with(|slot| *slot.borrow_mut() = Some(self.clone()));
        seawall_host::install_for_thread(Some(self.clone()));
        let result = Arc::new(Mutex::new(None));
        let place = Arc::clone(&result);
        self.spawn_on(Machine::SIMULATOR, async move {
            let output = main.await;
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(output);
        });
        let done = || result.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let outcome = executor::run(self, done);
        executor::drop_everything(self);
        seawall_host::install_for_thread(None);
        CURRENT.with(|slot| *slot.borrow_mut() = None);
        outcome?;
        let output = result.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(output.expect("the executor ends without a violation only when main has ended"))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arc(&self) -> Arc<Self> {
        self.this.upgrade().expect("a world that is used is alive")
    }

    /// Draws from a stream; what comes out is part of the hash.
    pub fn draw<T>(&self, stream: Stream, draw: impl FnOnce(&mut Random) -> T) -> T {
        self.state().draw(stream, draw)
    }

    /// The machine of the running task.
    pub fn machine(&self) -> Machine {
        self.state().current
    }

    /// True virtual time since the world began.
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.state().now)
    }

    /// Takes an event into the hash, and into the trace if there is one.
    pub fn event(&self, kind: &'static str, value: u64, text: impl FnOnce() -> String) {
        self.state().note(kind, value, text);
    }

    /// Counts that a rare path was taken.
    pub fn reached(&self, path: &'static str) {
        let machine = self.machine();
        *self.state().reached.entry((path, machine)).or_default() += 1;
    }

    /// How often each rare path was taken.
    pub fn paths_reached(&self) -> BTreeMap<&'static str, u64> {
        let mut paths = BTreeMap::new();
        self.state().reached.iter().for_each(|((path, _), count)| *paths.entry(*path).or_default() += count);
        paths
    }

    /// Whether a machine took a rare path.
    pub fn has_reached(&self, machine: Machine, path: &'static str) -> bool {
        self.state().reached.contains_key(&(path, machine))
    }

    /// Ends the run: `property` does not hold. The first violation counts.
    pub fn violate(&self, property: &'static str, text: String) {
        self.state().violate(property, text);
    }

    /// The rolling hash so far.
    pub fn hash(&self) -> u64 {
        self.state().trace.hash()
    }

    /// How many times a task was polled.
    pub fn polls(&self) -> u64 {
        self.state().polls
    }

    /// The events, if they were kept; they are gone from the world afterwards.
    pub fn take_events(&self) -> Vec<TraceEvent> {
        self.state().trace.take_events()
    }

    /// A new machine, switched on, with an empty disk.
    pub fn add_machine(&self, name: &str) -> Machine {
        self.state().add_machine(name)
    }

    /// The disk of a machine.
    pub fn disk_of(&self, machine: Machine) -> SimDisk {
        self.state().machine(machine).disk.clone()
    }

    /// The name of a machine.
    pub fn name_of(&self, machine: Machine) -> String {
        self.state().machine(machine).name.clone()
    }

    /// Whether a machine runs.
    pub fn is_alive(&self, machine: Machine) -> bool {
        self.state().machine(machine).alive
    }

    /// Whether a machine is paused.
    pub fn is_paused(&self, machine: Machine) -> bool {
        self.state().machine(machine).paused
    }

    /// How often a machine was switched on.
    pub fn life_of(&self, machine: Machine) -> u32 {
        self.state().machine(machine).life
    }

    /// The network between all machines.
    pub fn network(&self) -> &Arc<SimNetwork> {
        &self.network
    }

    /// Starts a task on a machine; dropped at once if that is switched off.
    pub fn spawn_on(&self, machine: Machine, future: impl Future<Output = ()> + Send + 'static) {
        executor::spawn(self, machine, Box::pin(future));
    }

    /// Looks at a program from outside, as if it looked itself: what that makes it do happens to it. `None` if it ended
    /// itself over that.
    pub fn within<T>(&self, machine: Machine, look: impl FnOnce() -> T) -> Option<T> {
        executor::within(self, machine, look)
    }

    /// Ends every task of a machine at once. `silently` as when the power goes: its peers learn of it only by hearing
    /// nothing; otherwise (kill -9) their connections are reset.
    pub fn kill(&self, machine: Machine, silently: bool) {
        executor::kill(self, machine);
        self.network.machine_died(machine, silently);
    }

    /// Switches a machine that was killed on again.
    pub fn start(&self, machine: Machine) {
        self.network.machine_started(machine);
        let mut state = self.state();
        let it = state.machine_mut(machine);
        it.alive = true;
        it.life += 1;
        let life = it.life;
        state.note("start", u64::from(life), || format!("{machine} starts its life {life}"));
    }

    /// Runs no task of a machine until [`SimWorld::resume`].
    pub fn pause(&self, machine: Machine) {
        let mut state = self.state();
        state.machine_mut(machine).paused = true;
        state.note("pause", u64::from(machine.0), || format!("{machine} is paused"));
    }

    /// Ends a pause.
    pub fn resume(&self, machine: Machine) {
        let mut state = self.state();
        let it = state.machine_mut(machine);
        it.paused = false;
        let parked = std::mem::take(&mut it.parked);
        state.ready.extend(parked);
        state.note("resume", u64::from(machine.0), || format!("{machine} goes on"));
    }

    /// Lets a machine's clocks run fast by `ppm` parts per million (slow if negative).
    pub fn set_clock_rate(&self, machine: Machine, ppm: i64) {
        let mut state = self.state();
        let now = state.now;
        state.machine_mut(machine).clock.set_rate(now, ppm);
    }

    /// Moves a machine's wall clock.
    pub fn jump_clock(&self, machine: Machine, forward: bool, by: Duration) {
        self.state().machine_mut(machine).clock.jump(forward, by);
    }

    /// The least and the most that a machine's wall clock was ever moved by, milliseconds; its drift comes on top.
    pub fn wall_clock_moved(&self, machine: Machine) -> RangeInclusive<i64> {
        self.state().clock(machine).moved()
    }

    /// A time of wall clocks, in milliseconds since 1970, as milliseconds of true time since the world began.
    pub fn since_beginning(&self, wall_ms: i64) -> i64 {
        clock::since_beginning(wall_ms)
    }

    /// The next program that ended by itself (see `seawall_host::process::halt`).
    pub async fn next_death(&self) -> Death {
        loop {
            let woken = self.deaths.notified();
            if let Some(death) = self.state().deaths.pop_front() {
                return death;
            }
            woken.await;
        }
    }

    /// Rings the watch signals of all programs on the file at `path`.
    pub fn touched(&self, path: &Path) {
        watch::touched(self, path);
    }
}

#[cfg(test)]
mod tests;
