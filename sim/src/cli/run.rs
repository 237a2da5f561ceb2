//! `run`: many seeds, in parallel, and what they showed.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::arguments::Shape;
use super::coverage::Coverage;
use super::failure::Failure;
use super::pool::Pool;
use super::progress::Progress;
use super::seat::Done;
use crate::rare_paths::RARE_PATHS;

/// With `--require-paths`, so many times as many seeds are run at most.
const MOST_ROUNDS: u64 = 3;

/// Runs many seeds, each with its own configuration and faults.
#[derive(Args)]
pub(super) struct Run {
    /// How many seeds.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    seeds: u64,
    /// The first seed, the others follow it; a random one, which is printed, unless given.
    #[arg(long, value_name = "SEED")]
    base: Option<u64>,
    #[command(flatten)]
    shape: Shape,
    /// Switches a deliberate defect on (a build with the feature `mutants`).
    #[arg(long)]
    mutant: Option<String>,
    #[command(flatten)]
    pool: Pool,
    /// Goes on after a failure.
    #[arg(long)]
    keep_going: bool,
    /// Fails if fewer of the rare paths are reached; that takes some hundred seeds, and while it is so, up to three times as
    /// many are run. The rarest are reached by one seed in hundreds: without any of them it is bad luck, without several something
    /// is never done any more.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    require_paths: Option<u8>,
    /// Prints what came of it as JSON, and nothing else.
    #[arg(long)]
    json: bool,
}

impl Run {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        super::check_mutant(self.mutant.as_deref())?;
        let base = self.base.unwrap_or_else(random_base);
        if !self.json {
            let (seeds, seconds, jobs) = (self.seeds, self.shape.seconds.as_secs_f64(), self.pool.jobs());
            println!("base seed {base}: {seeds} seeds of {seconds} virtual seconds, {jobs} at a time");
        }
        let started = Instant::now();
        let mut summary = Summary::new(base);
        let is_complete =
            |summary: &Summary| self.require_paths.is_none_or(|least| summary.paths.percent() >= f64::from(least));
        let rounds = if self.require_paths.is_some() { MOST_ROUNDS } else { 1 };
        for round in 0..rounds {
            self.round(base.wrapping_add(self.seeds.wrapping_mul(round)), &mut summary)?;
            if is_complete(&summary) || !(summary.failures.is_empty() || self.keep_going) {
                break;
            }
        }
        summary.finish(started.elapsed());
        let complete = is_complete(&summary);
        if self.json {
            println!("{}", serde_json::to_string_pretty(&summary)?);
        } else {
            println!("\n{summary}");
            if !complete {
                println!("FAILED: too few rare paths were reached");
            }
        }
        Ok(summary.failures.is_empty() && complete)
    }

    /// Runs as many seeds as were asked for, from `first` on.
    fn round(&self, first: u64, summary: &mut Summary) -> anyhow::Result<()> {
        let progress = Progress::new(self.seeds, self.json);
        let items = (0..self.seeds).map(|n| self.shape.options(first.wrapping_add(n), self.mutant.as_deref()));
        self.pool.spread(
            items,
            |seat, options| seat.run(&options),
            |_, done| {
                progress.step();
                if let (Some(failure), false) = (&done.failure, self.json) {
                    progress.print(&format!("\n{failure}"));
                }
                summary.add(done);
                if summary.failures.is_empty() || self.keep_going {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            },
        )?;
        progress.finish();
        Ok(())
    }
}

/// What many runs showed.
#[derive(Debug, Serialize)]
struct Summary {
    base: u64,
    runs: u64,
    failures: Vec<Failure>,
    #[serde(skip)]
    virtual_time: Duration,
    #[serde(skip)]
    real_time: Duration,
    seeds_per_second: f64,
    /// Virtual seconds a real second of one worker.
    speed: f64,
    commits: u64,
    acknowledged: u64,
    restores: u64,
    faults: BTreeMap<String, u64>,
    paths: Coverage,
}

impl Summary {
    fn new(base: u64) -> Self {
        Self {
            base,
            runs: 0,
            failures: Vec::new(),
            virtual_time: Duration::ZERO,
            real_time: Duration::ZERO,
            seeds_per_second: 0.0,
            speed: 0.0,
            commits: 0,
            acknowledged: 0,
            restores: 0,
            faults: BTreeMap::new(),
            paths: Coverage::new(RARE_PATHS.iter().copied()),
        }
    }

    fn add(&mut self, done: Done) {
        self.runs += 1;
        self.failures.extend(done.failure);
        let Some(report) = done.report else { return };
        self.real_time += done.took;
        self.virtual_time += report.virtual_time;
        self.commits += report.commits;
        self.acknowledged += report.acknowledged;
        self.restores += report.restores;
        for (fault, count) in report.faults {
            *self.faults.entry(fault).or_default() += count;
        }
        self.paths.add(&report.reached);
    }

    /// Works out the rates: `elapsed` is the real time that all runs took together, side by side.
    fn finish(&mut self, elapsed: Duration) {
        self.failures.sort_by_key(|failure| failure.options.seed.wrapping_sub(self.base));
        self.seeds_per_second = self.runs as f64 / elapsed.as_secs_f64().max(1e-9);
        self.speed = self.virtual_time.as_secs_f64() / self.real_time.as_secs_f64().max(1e-9);
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failures.len();
        writeln!(f, "{} runs, {failed} failed", self.runs)?;
        writeln!(
            f,
            "{:.2} seeds a second, {:.0} virtual seconds a real second of one core",
            self.seeds_per_second, self.speed
        )?;
        writeln!(
            f,
            "{} commits, {} acknowledged, {} restores compared",
            self.commits, self.acknowledged, self.restores
        )?;
        let faults: Vec<_> = self.faults.iter().map(|(fault, count)| format!("{fault} {count}")).collect();
        writeln!(f, "faults: {}", if faults.is_empty() { "none".into() } else { faults.join(", ") })?;
        write!(f, "{}", self.paths)
    }
}

/// A base that no earlier run had; short enough that every reader of JSON keeps it exact.
pub(super) fn random_base() -> u64 {
    rand::random::<u64>() >> 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{RunOptions, run_seed};

    fn done(seed: u64, failed: bool) -> Done {
        let options = RunOptions { duration: Duration::from_secs(1), ..RunOptions::new(seed) };
        let mut report = run_seed(&options);
        report.virtual_time = Duration::from_secs(80);
        (report.commits, report.acknowledged, report.restores) = (10, 9, 4);
        report.faults = BTreeMap::from([("crashes".into(), 2)]);
        report.reached = BTreeMap::from([("resync".into(), 1)]);
        let failure = failed.then(|| Failure::lost(&options, "a run ends", "it did not".into()));
        Done { options, report: (!failed).then_some(report), failure, took: Duration::from_millis(400) }
    }

    #[test]
    fn the_summary_adds_up_and_orders_failures_by_seed() {
        let mut summary = Summary::new(u64::MAX);
        summary.paths = Coverage::new(["resync", "snapshot install"]);
        for (seed, failed) in [(1, true), (2, false), (u64::MAX, true), (0, false)] {
            summary.add(done(seed, failed));
        }
        summary.finish(Duration::from_secs(2));
        assert_eq!(
            summary.to_string(),
            "4 runs, 2 failed\n\
             2.00 seeds a second, 200 virtual seconds a real second of one core\n\
             20 commits, 18 acknowledged, 8 restores compared\n\
             faults: crashes 4\n\
             1 of 2 rare paths reached (50 %); in the fewest runs: resync (2)\n\
             never reached: snapshot install"
        );
        let seeds: Vec<_> = summary.failures.iter().map(|failure| failure.options.seed).collect();
        assert_eq!(seeds, [u64::MAX, 1]);
    }
}
