//! A worker process: runs what it reads, one after the other. Only one world fits into a process, and a run that takes
//! the process down with it must not take the others.

use std::any::Any;
use std::io::{self, BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::Context;

use super::failure::Failure;
use crate::run::{RunOptions, RunReport, run_seed};
use crate::world;

/// What a worker answers.
pub(super) type Answer = Result<RunReport, String>;

/// Reads options as JSON lines from standard input and answers each with one JSON line, until the input ends.
pub(super) fn serve() -> anyhow::Result<bool> {
    // A worker that hangs would outlive a parent that was killed.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let mut output = io::stdout();
    for line in io::stdin().lock().lines() {
        let options: RunOptions = serde_json::from_str(&line?).context("a line of input")?;
        let mut answer = serde_json::to_string(&run_caught(&options))?;
        answer.push('\n');
        output.write_all(answer.as_bytes())?;
        output.flush()?;
    }
    Ok(true)
}

/// Runs `options` in this process.
///
/// # Errors
/// The message of a panic that got out of the world: a defect of the simulator.
pub(super) fn run_caught(options: &RunOptions) -> Answer {
    catch_unwind(AssertUnwindSafe(|| run_seed(options)))
        .map_err(|panic| world::last_panic().unwrap_or_else(|| message(panic.as_ref())))
}

/// What an answer says of a run that failed.
pub(super) fn failure(options: &RunOptions, answer: &Answer) -> Option<Failure> {
    match answer {
        Ok(report) => Failure::of(options, report),
        Err(panic) => Some(Failure::lost(options, "the simulator itself does not panic", panic.clone())),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".into())
}
