//! What happened: a rolling hash over everything, and the events themselves if they are wanted.

use std::time::Duration;

use super::machine::Machine;
use crate::report::TraceEvent;

/// The trace of one world.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    events: Option<Vec<TraceEvent>>,
}

impl Trace {
    pub(super) fn new(keep: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: keep.then(Vec::new) }
    }

    /// Takes an event in. `text` is asked for only if events are kept.
    pub(super) fn note(
        &mut self,
        now: u64,
        machine: Machine,
        kind: &'static str,
        value: u64,
        text: impl FnOnce() -> String,
    ) {
        let word = (kind.len() as u64) << 8 | u64::from(kind.as_bytes().first().copied().unwrap_or(0));
        for part in [word, now, u64::from(machine.0), value] {
            self.hash = (self.hash ^ part).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
        if let Some(events) = &mut self.events {
            let at = Duration::from_nanos(now);
            events.push(TraceEvent {
                at,
                machine: machine.0,
                kind: kind.to_owned(),
                value,
                text: text(),
                hash: self.hash,
            });
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn take_events(&mut self) -> Vec<TraceEvent> {
        self.events.take().unwrap_or_default()
    }
}
