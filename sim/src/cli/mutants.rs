//! `mutants`: whether the simulator finds the defects that were built in on purpose.

use std::env;
use std::fmt;
use std::ops::ControlFlow;
use std::process::Command;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::arguments::{Shape, replay_command};
use super::pool::Pool;
use super::progress::Progress;
use super::seat::{Done, Seat};
use crate::mutants::{MUTANTS, Mutant};
use crate::run::RunOptions;

/// Switches one deliberate defect on after the other and runs seeds until one fails.
#[derive(Args)]
pub(super) struct Mutants {
    /// After how many seeds a mutant counts as not found.
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    seeds: u64,
    /// The first seed, the others follow it.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    base: u64,
    /// Only this mutant.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    pool: Pool,
    /// Prints what came of it as JSON, and nothing else.
    #[arg(long)]
    json: bool,
}

/// How a mutant was found.
#[derive(Debug, Serialize)]
struct Found {
    property: String,
    text: String,
    /// How many seeds it took.
    seeds: u64,
    replay: String,
}

/// What became of one mutant.
#[derive(Debug, Serialize)]
struct Row {
    mutant: &'static str,
    /// What it does.
    what: &'static str,
    /// What it breaks.
    breaks: &'static str,
    found: Option<Found>,
    /// Seeds that failed with the mutant, but without it too: they show nothing about it, and a defect nobody meant.
    fail_anyway: Vec<u64>,
}

impl Mutants {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        if !cfg!(feature = "mutants") {
            return self.run_in_a_build_that_has_them();
        }
        let chosen = self.chosen()?;
        let mut rows = Vec::new();
        for mutant in chosen {
            let row = self.hunt(mutant)?;
            if !self.json {
                println!("{row}");
            }
            rows.push(row);
        }
        if self.json {
            println!("{}", serde_json::to_string_pretty(&rows)?);
        } else {
            let found = rows.iter().filter(|row| row.found.is_some()).count();
            println!("{found} of {} mutants found", rows.len());
        }
        Ok(rows.iter().all(|row| row.found.is_some() && row.fail_anyway.is_empty()))
    }

    fn chosen(&self) -> anyhow::Result<Vec<&'static Mutant>> {
        let Some(only) = &self.only else { return Ok(MUTANTS.iter().collect()) };
        let chosen: Vec<_> = MUTANTS.iter().filter(|mutant| mutant.name == only).collect();
        let names: Vec<_> = MUTANTS.iter().map(|mutant| mutant.name).collect();
        anyhow::ensure!(!chosen.is_empty(), "there is no mutant {only}; there are: {}", names.join(", "));
        Ok(chosen)
    }

    /// The product has its defects only when it is built with them.
    fn run_in_a_build_that_has_them(&self) -> anyhow::Result<bool> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let status = Command::new(cargo)
            .args(["run", "--quiet", "--release", "--features", "mutants", "--manifest-path", manifest, "--"])
            .args(env::args_os().skip(1))
            .status()
            .context("cannot start cargo, which has to build the simulator with mutants")?;
        Ok(status.success())
    }

    fn hunt(&self, mutant: &'static Mutant) -> anyhow::Result<Row> {
        let progress = Progress::new(self.seeds, self.json);
        let mut results = Vec::new();
        let items = (0..self.seeds).map(|n| self.shape.options(self.base.wrapping_add(n), Some(mutant.name)));
        self.pool.spread(
            items,
            |seat, options| Hit::check(seat, &options),
            |index, hit| {
                progress.step();
                let found = matches!(hit, Some(Hit::Mutant(_)));
                results.extend(hit.map(|hit| (index, hit)));
                if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        )?;
        progress.finish();
        Ok(Row::new(mutant, results))
    }
}

/// A seed that failed with a mutant.
#[derive(Debug)]
enum Hit {
    /// It does not fail without.
    Mutant(Box<Done>),
    /// It fails anyway.
    Anyway(u64),
}

impl Hit {
    fn check(seat: &mut Seat, options: &RunOptions) -> anyhow::Result<Option<Self>> {
        let mut done = seat.run(options)?;
        if done.failure.is_some() && done.report.is_none() {
            // A machine that is busy with something else loses a process, too.
            done = seat.run(options)?;
        }
        if done.failure.is_none() {
            return Ok(None);
        }
        let healthy = seat.run(&RunOptions { mutant: None, ..options.clone() })?;
        Ok(Some(if healthy.failure.is_none() { Self::Mutant(Box::new(done)) } else { Self::Anyway(options.seed) }))
    }
}

impl Row {
    /// The row of `mutant`, of whose seeds those at the given places failed.
    fn new(mutant: &Mutant, mut hits: Vec<(usize, Hit)>) -> Self {
        hits.sort_by_key(|(index, _)| *index);
        let Mutant { name, what, breaks } = *mutant;
        let mut row = Self { mutant: name, what, breaks, found: None, fail_anyway: Vec::new() };
        for (index, hit) in hits {
            match hit {
                // Later ones were only under way beside it.
                Hit::Mutant(done) if row.found.is_none() => {
                    row.found = done.failure.map(|failure| Found {
                        property: failure.property,
                        text: failure.text,
                        seeds: index as u64 + 1,
                        replay: replay_command(&done.options),
                    });
                }
                Hit::Mutant(_) => {}
                Hit::Anyway(seed) => row.fail_anyway.push(seed),
            }
        }
        row
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.found {
            Some(found) => write!(f, "{:<40} {:>4} seeds  {}", self.mutant, found.seeds, found.property)?,
            None => write!(f, "{:<40} NOT FOUND   {} Breaks: {}", self.mutant, self.what, self.breaks)?,
        }
        if !self.fail_anyway.is_empty() {
            write!(f, "\n{:<40} seeds that fail without it too: {:?}", "", self.fail_anyway)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::failure::Failure;

    const UNSYNCED_VOTE: Mutant =
        Mutant { name: "unsynced-vote", what: "A vote counts as saved early.", breaks: "one leader a term" };

    fn hit(seed: u64) -> Hit {
        let options = RunOptions { mutant: Some("unsynced-vote".into()), ..RunOptions::new(seed) };
        let failure = Some(Failure::lost(&options, "one leader a term", format!("seed {seed}")));
        Hit::Mutant(Box::new(Done { options, report: None, failure, took: Duration::ZERO }))
    }

    #[test]
    fn the_first_seed_that_only_the_mutant_fails_counts_whatever_ended_first() {
        let row = Row::new(&UNSYNCED_VOTE, vec![(8, hit(9)), (4, hit(5)), (2, Hit::Anyway(3))]);
        let found = row.found.as_ref().unwrap();
        assert_eq!((found.seeds, found.text.as_str()), (5, "seed 5"));
        assert_eq!(found.replay, "cargo run --release -p sim --features mutants -- replay 5 --mutant unsynced-vote");
        let text = row.to_string();
        assert!(text.starts_with("unsynced-vote ") && text.contains("   5 seeds  one leader a term"), "{text}");
        assert!(text.ends_with("seeds that fail without it too: [3]"), "{text}");
    }

    #[test]
    fn a_mutant_that_no_seed_fails_is_a_hole() {
        let row = Row::new(&UNSYNCED_VOTE, vec![(2, Hit::Anyway(3))]);
        assert!(row.found.is_none() && row.to_string().contains("NOT FOUND"));
    }
}
