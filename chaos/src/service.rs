//! A program under supervision: started, held down or paused by faults, started again when they are over or when it ends by itself,
//! as a service manager does.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::history::{Event, Recorder};
use crate::net::Host;
use crate::process::{Ending, Launch, Process};

/// How long a program that is told to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(20);

/// Why a service is down or paused: the number of a fault.
pub type Hold = u32;

/// A program of a run, by name.
pub struct Service {
    name: String,
    host: Host,
    recorder: Recorder,
    launch: Box<dyn Fn() -> io::Result<Launch> + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    process: Option<Process>,
    /// Faults that keep it from running.
    down: BTreeSet<Hold>,
    /// Faults that keep it from doing anything.
    paused: BTreeSet<Hold>,
    /// Faults under which it may end by itself, and is not started before they are over.
    doomed: BTreeSet<Hold>,
    is_wanted: bool,
}

impl Service {
    /// A service on `host` that is started as `launch` says. How it ends is written down, unless that was well or wanted.
    pub fn new(
        name: impl Into<String>,
        host: Host,
        recorder: Recorder,
        launch: impl Fn() -> io::Result<Launch> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), host, recorder, launch: Box::new(launch), state: Mutex::default() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it runs.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Starts it; from now on it is to run.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.is_wanted = true;
        self.settle(&mut state)
    }

    /// Ends it for good, by SIGTERM.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.is_wanted = false;
        self.tell_to_end(&mut state);
    }

    /// Sends it the signal that kills it, and does not wait until it is gone: [`Service::kill`] does.
    pub fn shoot(&self, hold: Hold) {
        let mut state = self.lock();
        self.notice(&mut state);
        state.down.insert(hold);
        if let Some(process) = &state.process {
            process.shoot();
        }
    }

    /// Kills it; it stays down until this hold is released.
    pub fn kill(&self, hold: Hold) {
        let mut state = self.lock();
        self.notice(&mut state);
        state.down.insert(hold);
        if let Some(mut process) = state.process.take() {
            process.kill();
        }
    }

    /// Ends it by SIGTERM; it stays down until this hold is released.
    pub fn terminate(&self, hold: Hold) {
        let mut state = self.lock();
        self.tell_to_end(&mut state);
        state.down.insert(hold);
    }

    /// Waits until it has ended by itself, which it may; whether it has within `limit`.
    pub fn has_ended_within(&self, limit: Duration) -> bool {
        let mut state = self.lock();
        state.process.as_mut().is_none_or(|process| process.wait(limit).is_some())
    }

    /// Stops it where it is, until this hold is released.
    pub fn pause(&self, hold: Hold) {
        let mut state = self.lock();
        state.paused.insert(hold);
        if let Some(process) = &state.process {
            process.pause();
        }
    }

    /// It may end by itself until this hold is released, and is started again only then. If this hold kept it down, it is started
    /// now, once.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn doom(&self, hold: Hold) -> io::Result<()> {
        let mut state = self.lock();
        state.down.remove(&hold);
        self.settle(&mut state)?;
        state.doomed.insert(hold);
        Ok(())
    }

    /// Takes this hold back, whatever it did.
    ///
    /// # Errors
    /// It cannot be started again.
    pub fn release(&self, hold: Hold) -> io::Result<()> {
        let mut state = self.lock();
        if !state.doomed.is_empty() && state.process.as_mut().is_some_and(|process| !process.is_running()) {
            state.process = None;
        }
        state.down.remove(&hold);
        state.doomed.remove(&hold);
        if state.paused.remove(&hold)
            && state.paused.is_empty()
            && let Some(process) = &state.process
        {
            process.resume();
        }
        self.settle(&mut state)
    }

    /// Whether no fault holds it down, or paused.
    pub fn is_free(&self) -> bool {
        let state = self.lock();
        state.down.is_empty() && state.paused.is_empty() && state.doomed.is_empty()
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        let mut state = self.lock();
        let process = state.process.as_mut()?;
        process.is_running().then(|| process.pid())
    }

    /// Looks whether it ended by itself, writes that down, and starts it again.
    ///
    /// # Errors
    /// It cannot be started again.
    pub fn supervise(&self) -> io::Result<()> {
        let mut state = self.lock();
        self.notice(&mut state);
        self.settle(&mut state)
    }

    /// Lets go of a process that ended by itself, and writes that down unless it was bound to.
    fn notice(&self, state: &mut State) {
        let Some(ending) = state.process.as_mut().and_then(Process::ending) else { return };
        state.process = None;
        if state.doomed.is_empty() && state.down.is_empty() && state.is_wanted {
            self.ended(ending, "");
        }
    }

    fn tell_to_end(&self, state: &mut State) {
        self.notice(state);
        // An agent that could not ship everything in time ends with 1, and says so.
        if let Some(ending) = state.process.take().map(|mut process| process.terminate(GRACE))
            && !matches!(ending, Ending::Code(0 | 1))
        {
            self.ended(ending, " when it was told to end");
        }
    }

    fn ended(&self, ending: Ending, when: &str) {
        let ending = match ending {
            Ending::Code(code) => format!("exit code {code}{when}"),
            Ending::Signal(signal) => format!("signal {signal}{when}"),
        };
        self.recorder.record(Event::EndedByItself { process: self.name.clone(), ending });
    }

    fn settle(&self, state: &mut State) -> io::Result<()> {
        if state.process.is_none() && state.is_wanted && state.down.is_empty() && state.doomed.is_empty() {
            let process = self.host.spawn((self.launch)()?)?;
            if !state.paused.is_empty() {
                process.pause();
            }
            state.process = Some(process);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
