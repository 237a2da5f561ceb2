//! `meta`: whether equal seeds give equal runs.

use std::ops::ControlFlow;

use clap::Args;
use serde::Serialize;

use super::arguments::{Shape, replay_command};
use super::chain::Difference;
use super::pool::Pool;
use super::progress::Progress;
use super::run::random_base;
use super::seat::{Done, Seat};
use crate::run::{RunOptions, RunReport};

/// Runs every seed three times, twice in one process and once in a fresh one, and compares.
#[derive(Args)]
pub(super) struct Meta {
    /// How many seeds.
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    seeds: u64,
    /// The first seed, the others follow it; a random one, which is printed, unless given.
    #[arg(long, value_name = "SEED")]
    base: Option<u64>,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    pool: Pool,
    /// Prints what came of it as JSON, and nothing else.
    #[arg(long)]
    json: bool,
}

/// Runs of one seed that differ.
#[derive(Serialize)]
struct Mismatch {
    seed: u64,
    /// Which runs, and in what.
    text: String,
    /// The first event that differs; nothing if the difference did not come back with the trace on.
    difference: Option<Difference>,
    replay: String,
}

#[derive(Serialize)]
struct Summary {
    base: u64,
    seeds: u64,
    mismatches: Vec<Mismatch>,
}

impl Meta {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        let base = self.base.unwrap_or_else(random_base);
        if !self.json {
            println!("base seed {base}: {} seeds, three runs each", self.seeds);
        }
        let progress = Progress::new(self.seeds, self.json);
        let mut summary = Summary { base, seeds: self.seeds, mismatches: Vec::new() };
        let items = (0..self.seeds).map(|n| self.shape.options(base.wrapping_add(n), None));
        self.pool.spread(
            items,
            |seat, options| self.check(seat, &options),
            |_, mismatch| {
                progress.step();
                summary.mismatches.extend(mismatch);
                ControlFlow::Continue(())
            },
        )?;
        progress.finish();
        if self.json {
            println!("{}", serde_json::to_string_pretty(&summary)?);
        } else {
            for Mismatch { seed, text, difference, replay } in &summary.mismatches {
                println!("\nFAILED     seed {seed}: {text}\nreplay     {replay}");
                match difference {
                    Some(difference) => print!("{difference}"),
                    None => println!("with the trace on, the difference did not come back"),
                }
            }
            println!("{} of {} seeds gave equal runs", self.seeds - summary.mismatches.len() as u64, self.seeds);
        }
        Ok(summary.mismatches.is_empty())
    }

    fn check(&self, seat: &mut Seat, options: &RunOptions) -> anyhow::Result<Option<Mismatch>> {
        let runs = self.thrice(seat, options)?;
        let Some(text) = disagreement(&runs) else { return Ok(None) };
        let traced = self.thrice(seat, &RunOptions { trace: true, ..options.clone() })?;
        let traces: Vec<_> =
            traced.iter().filter_map(|done| done.report.as_ref()).map(|report| &report.trace).collect();
        let difference = traces.windows(2).find_map(|pair| Difference::first(pair[0], pair[1]));
        Ok(Some(Mismatch { seed: options.seed, text, difference, replay: replay_command(options) }))
    }

    /// Twice in the same process, then once in a fresh one.
    fn thrice(&self, seat: &mut Seat, options: &RunOptions) -> anyhow::Result<[Done; 3]> {
        Ok([seat.run(options)?, seat.run(options)?, Seat::new(&self.pool.launcher()).run(options)?])
    }
}

/// In what the runs differ, if they do.
fn disagreement(runs: &[Done; 3]) -> Option<String> {
    let [first, second, fresh] = runs;
    let pairs = [("the second run in one process", first, second), ("the run in a fresh process", first, fresh)];
    pairs.into_iter().find_map(|(which, one, other)| {
        let what = match (&one.report, &other.report) {
            (Some(one), Some(other)) => unequal(one, other)?,
            // Nothing is known of them, so nothing shows that they are equal.
            (None, None) => "both lost their process".into(),
            _ => "one of them lost its process".into(),
        };
        Some(format!("{which} does not equal the first: {what}"))
    })
}

fn unequal(one: &RunReport, other: &RunReport) -> Option<String> {
    if one.hash != other.hash {
        return Some(format!("hash {:016x}, not {:016x}", other.hash, one.hash));
    }
    // What is not hashed, such as the words of a violation, has to be equal all the same.
    (one != other).then(|| "the hashes are equal, what is reported is not".into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::run::run_seed;

    fn done(hash: u64) -> Done {
        let options = RunOptions::new(1);
        let mut report = run_seed(&options);
        report.hash = hash;
        Done { options, report: Some(report), failure: None, took: Duration::ZERO }
    }

    #[test]
    fn three_runs_agree_or_the_odd_one_is_named() {
        assert_eq!(disagreement(&[done(1), done(1), done(1)]), None);
        let text = disagreement(&[done(1), done(2), done(1)]).unwrap();
        assert!(text.starts_with("the second run in one process does not equal"), "{text}");
        let text = disagreement(&[done(1), done(1), done(2)]).unwrap();
        assert_eq!(
            text,
            "the run in a fresh process does not equal the first: hash 0000000000000002, not 0000000000000001"
        );
    }

    #[test]
    fn equal_hashes_hide_neither_other_counts_nor_a_lost_process() {
        let mut other = done(1);
        other.report.as_mut().unwrap().commits += 1;
        assert!(disagreement(&[done(1), done(1), other]).unwrap().contains("what is reported is not"));
        let mut lost = done(1);
        lost.report = None;
        assert!(disagreement(&[done(1), lost, done(1)]).unwrap().contains("one of them lost its process"));
        let lost = || Done { report: None, ..done(1) };
        assert!(disagreement(&[lost(), lost(), lost()]).unwrap().contains("both lost their process"));
    }
}
