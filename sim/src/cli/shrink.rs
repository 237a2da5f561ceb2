//! `shrink`: the smallest run of a seed that still violates the same property.

use clap::Args;
use serde::Serialize;

use super::arguments::Shape;
use super::failure::Failure;
use super::pool::Pool;
use super::progress::Progress;
use super::search::{Search, Seen};
use super::seat::{Done, Seat};
use crate::run::{FaultFamily, RunOptions};

/// Looks for a shorter run with fewer fault families and fewer nodes that still violates the same property.
#[derive(Args)]
pub(super) struct Shrink {
    /// The seed.
    seed: u64,
    #[command(flatten)]
    shape: Shape,
    /// Switches a deliberate defect on (a build with the feature `mutants`).
    #[arg(long)]
    mutant: Option<String>,
    /// How many runs may be tried.
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    runs: usize,
    #[command(flatten)]
    pool: Pool,
    /// Prints what came of it as JSON, and nothing else.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Shrunk {
    /// The failure of the run that was given; nothing if there was none.
    before: Option<Failure>,
    /// The failure of the smallest run.
    after: Option<Failure>,
    tried: usize,
}

impl Shrink {
    /// It holds when there was a failure to shrink.
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        super::check_mutant(self.mutant.as_deref())?;
        let shrunk = self.shrink()?;
        match (&shrunk.before, &shrunk.after) {
            _ if self.json => println!("{}", serde_json::to_string_pretty(&shrunk)?),
            (Some(before), Some(after)) => {
                println!("{before}\n\nafter {} runs, the smallest that violates the same:\n\n{after}", shrunk.tried);
            }
            _ => println!("seed {} does not fail: there is nothing to shrink", self.seed),
        }
        Ok(shrunk.before.is_some())
    }

    fn shrink(&self) -> anyhow::Result<Shrunk> {
        let mut seat = Seat::new(&self.pool.launcher());
        let start = self.shape.options(self.seed, self.mutant.as_deref());
        let first = seat.run(&start)?;
        let Some(before) = first.failure.clone() else { return Ok(Shrunk { before: None, after: None, tried: 0 }) };
        let progress = Progress::new(self.runs as u64, self.json);
        let (mut tried, mut error, mut after) = (0, None, before.clone());
        Search::new(start, seen(&first, &before), self.runs, |options: &RunOptions| {
            progress.step();
            tried += 1;
            let done = seat.run(options).map_err(|failed| error = Some(failed)).ok()?;
            let failure = done.failure.clone().filter(|failure| failure.property == before.property)?;
            after = failure.clone();
            Some(seen(&done, &failure))
        })
        .run();
        progress.finish();
        match error {
            Some(error) => Err(error),
            None => Ok(Shrunk { before: Some(before), after: Some(after), tried }),
        }
    }
}

fn seen(done: &Done, failure: &Failure) -> Seen {
    let families = match &done.report {
        Some(report) => report.families.clone(),
        None => FaultFamily::all().iter().copied().filter(|family| !done.options.without.contains(family)).collect(),
    };
    Seen { at: failure.at(), nodes: done.report.as_ref().map(|report| report.nodes), families }
}
