//! `chaos mutants`: whether the harness sees.

use std::path::Path;

use anyhow::ensure;
use clap::Args;

use super::child::Assignment;
use super::progress::Progress;
use super::seawall;
use crate::net::Network;
use crate::scenario;
use crate::stage::run_directory;
use crate::verdict::Property;

/// A deliberate defect of the program, and how it has to be found.
struct Mutant {
    /// Its name in the program.
    name: &'static str,
    /// The scenario that finds it.
    scenario: &'static str,
    /// What is violated then: one of these.
    violates: &'static [Property],
}

const MUTANTS: [Mutant; 2] = [
    Mutant {
        name: "ack-before-fsync",
        scenario: "the-power-fails-between-commits",
        violates: &[Property::NothingLost, Property::NeverWrong],
    },
    Mutant { name: "stale-epoch-accepted", scenario: "a-second-agent-takes-over", violates: &[Property::OneWriter] },
];

/// Seeds that a defect is looked for with, one after the other.
const ATTEMPTS: u64 = 6;

/// Build the program with deliberate defects, one at a time, and find out whether the harness notices each.
#[derive(Args)]
pub(super) struct Mutants {
    /// Only this one.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Mutants {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let chosen = |mutant: &&Mutant| self.only.as_ref().is_none_or(|only| only == mutant.name);
        let mutants: Vec<_> = MUTANTS.iter().filter(chosen).collect();
        ensure!(!mutants.is_empty(), "no such mutant: {}", MUTANTS.map(|mutant| mutant.name).join(", "));
        if let Some(obstacle) = Network::obstacle() {
            println!("skipped: {obstacle}");
            return Ok(true);
        }
        let seawall = seawall::build(&["mutants"])?;
        let mut all_found = true;
        for mutant in mutants {
            let Mutant { name, scenario, .. } = mutant;
            let mut found = None;
            for seed in self.seed..self.seed + ATTEMPTS {
                found = mutant.hunt(seawall.path(), seed)?;
                if let Some(violation) = &found {
                    println!("found: {name} by {scenario}, seed {seed}: {violation}");
                    break;
                }
            }
            if found.is_none() {
                println!("NOT found: {name} by {scenario}, {ATTEMPTS} seeds");
                all_found = false;
            }
        }
        Ok(all_found)
    }
}

impl Mutant {
    /// What the defect violates with this seed, if that is what it has to.
    fn hunt(&self, seawall: &Path, seed: u64) -> anyhow::Result<Option<String>> {
        let assignment = Assignment {
            scenario: self.scenario.to_owned(),
            seed,
            span: scenario::named(self.scenario)?.lasts,
            seawall: seawall.to_owned(),
            on_loopback: false,
            most_restores: 50,
            mutant: Some(self.name.to_owned()),
        };
        let directory = run_directory(None)?;
        let line = Progress::new(false).begin(self.name);
        let verdict = assignment.play(&directory, |now| line.set_message(now.to_owned()));
        line.finish_and_clear();
        std::fs::remove_dir_all(&directory)?;
        let verdict = match verdict {
            Ok(verdict) => verdict,
            Err(error) => {
                // A cluster that is broken so badly that the run comes to no end has shown nothing yet.
                eprintln!("{}, seed {seed}: {error:#}", self.name);
                return Ok(None);
            }
        };
        let told = verdict.violations.into_iter().find(|violation| self.violates.contains(&violation.property));
        Ok(told.map(|violation| violation.what))
    }
}
