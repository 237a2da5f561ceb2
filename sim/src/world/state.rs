//! What a world knows.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::Notify;

use super::clock::Clock;
use super::executor::TaskWaker;
use super::machine::Machine;
use super::trace::Trace;
use crate::disk::{Dice, SimDisk};
use crate::random::{Random, Stream};
use crate::report::Violation;

/// A program that ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// Where it ran.
    pub machine: Machine,
    /// What it said.
    pub reason: String,
}

pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(super) struct Slot {
    pub(super) machine: Machine,
    /// Taken out while it is polled.
    pub(super) future: Option<Task>,
    pub(super) waker: Arc<TaskWaker>,
}

pub(crate) struct MachineState {
    pub(super) name: String,
    pub(super) disk: SimDisk,
    pub(super) clock: Clock,
    pub(super) alive: bool,
    pub(super) life: u32,
    pub(super) paused: bool,
    /// Tasks that were woken during a pause.
    pub(super) parked: Vec<u64>,
    /// Why its program has just ended itself.
    pub(super) halted: Option<String>,
    pub(super) watches: Vec<(PathBuf, Weak<Notify>)>,
}

pub(crate) struct State {
    /// True time, nanoseconds since the world began.
    pub(super) now: u64,
    pub(super) current: Machine,
    pub(super) next_task: u64,
    pub(super) tasks: BTreeMap<u64, Slot>,
    pub(super) ready: Vec<u64>,
    pub(super) timers: BTreeMap<(u64, u64), Waker>,
    pub(super) timer_count: u64,
    pub(super) polls: u64,
    pub(super) trace: Trace,
    /// How often each rare path was taken on each machine.
    pub(super) reached: BTreeMap<(&'static str, Machine), u64>,
    pub(super) deaths: VecDeque<Death>,
    pub(super) violation: Option<Violation>,
    streams: Vec<Random>,
    machines: Vec<MachineState>,
}

impl State {
    pub(super) fn new(seed: u64, trace: bool) -> Self {
        let mut state = Self {
            now: 0,
            current: Machine::SIMULATOR,
            next_task: 0,
            tasks: BTreeMap::new(),
            ready: Vec::new(),
            timers: BTreeMap::new(),
            timer_count: 0,
            polls: 0,
            trace: Trace::new(trace),
            reached: BTreeMap::new(),
            deaths: VecDeque::new(),
            violation: None,
            streams: Stream::ALL.iter().map(|stream| Random::new(seed, *stream)).collect(),
            machines: Vec::new(),
        };
        state.add_machine("simulator");
        state
    }

    pub(super) fn add_machine(&mut self, name: &str) -> Machine {
        self.machines.push(MachineState {
            name: name.to_owned(),
            disk: SimDisk::new(Dice::new(|take| super::current().draw(Stream::Disk, take))),
            clock: Clock::new(),
            alive: true,
            life: 1,
            paused: false,
            parked: Vec::new(),
            halted: None,
            watches: Vec::new(),
        });
        Machine(self.machines.len() as u32 - 1)
    }

    pub(super) fn machine_count(&self) -> u32 {
        self.machines.len() as u32
    }

    pub(super) fn machine(&self, machine: Machine) -> &MachineState {
        &self.machines[machine.0 as usize]
    }

    pub(super) fn machine_mut(&mut self, machine: Machine) -> &mut MachineState {
        &mut self.machines[machine.0 as usize]
    }

    pub(super) fn clock(&self, machine: Machine) -> Clock {
        self.machine(machine).clock
    }

    pub(super) fn note(&mut self, kind: &'static str, value: u64, text: impl FnOnce() -> String) {
        self.trace.note(self.now, self.current, kind, value, text);
    }

    pub(super) fn draw<T>(&mut self, stream: Stream, draw: impl FnOnce(&mut Random) -> T) -> T {
        let random = &mut self.streams[stream as usize];
        let drawn = draw(random);
        // The position in the stream says what was drawn, whatever its type.
        let mark = random.mark();
        self.note("draw", mark, || format!("{stream:?}"));
        drawn
    }

    pub(super) fn violate(&mut self, property: &'static str, text: String) {
        self.note("violation", 0, || format!("{property}: {text}"));
        let at = Duration::from_nanos(self.now);
        self.violation.get_or_insert_with(|| Violation { property: property.to_owned(), text, at });
    }
}
