//! `chaos run`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::child::Assignment;
use super::progress::Progress;
use super::seawall::{self, Program};
use crate::disk::FaultyDisk;
use crate::net::Network;
use crate::scenario::{self, NodeDisk, Scenario};
use crate::stage::{Clock, run_directory};
use crate::tools;
use crate::verdict::Verdict;

/// Play scenarios (all of them, if none is named) and judge them. The files of those that did not hold are kept.
#[derive(Args)]
pub(super) struct Run {
    /// Which: `chaos scenarios` lists them.
    names: Vec<String>,
    /// Only those that belong to what every change has to pass.
    #[arg(long, conflicts_with = "names")]
    ci: bool,
    /// How long faults strike, instead of what the scenario says.
    #[arg(long, conflicts_with = "seconds")]
    minutes: Option<u64>,
    /// The same in seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Decides when faults strike and whom. Another one each time, if it is not given.
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    common: Common,
}

/// What `run` and `soak` have in common.
#[derive(Args)]
pub(super) struct Common {
    /// How many scenarios are played at once.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    jobs: u8,
    /// The `seawall` program, instead of one that is built from this tree.
    #[arg(long, value_name = "PATH")]
    seawall: Option<PathBuf>,
    /// Where runs have their files, instead of the machine's directory for temporary ones. Short: sockets lie there.
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    /// Give hosts addresses on the loopback interface only, even if they could have networks of their own. What is done to
    /// packets cannot be done then.
    #[arg(long)]
    loopback: bool,
    /// How many promised states of each database are restored at the end, at most.
    #[arg(long, default_value_t = 100)]
    most_restores: usize,
    /// Keep the files of all runs.
    #[arg(long)]
    keep: bool,
    /// Print JSON: one object a run.
    #[arg(long)]
    json: bool,
}

/// A run, as printed.
#[derive(Serialize)]
struct RunView<'a> {
    scenario: &'a str,
    seed: u64,
    /// `passed`, `failed`, `skipped`, or `error`: the harness could not do its work.
    result: &'static str,
    why: Option<String>,
    /// Where its files are, if they were kept.
    directory: Option<PathBuf>,
    command: Option<String>,
    verdict: Option<&'a Verdict>,
}

impl Run {
    pub(super) fn run(self) -> anyhow::Result<bool> {
        let mut scenarios = Vec::new();
        for name in &self.names {
            scenarios.push(scenario::named(name)?);
        }
        if scenarios.is_empty() {
            scenarios = scenario::all();
        }
        if self.ci {
            scenarios.retain(|scenario| scenario.ci);
        }
        let span = self.minutes.map(|minutes| minutes * 60).or(self.seconds).map(Duration::from_secs);
        let first = self.seed.unwrap_or_else(rand::random);
        let session = Session::begin(self.common)?;
        let plays = scenarios.into_iter().map(|scenario| (scenario, first, span)).collect();
        session.play(plays)
    }
}

/// Runs that are played by one command.
pub(super) struct Session {
    common: Common,
    seawall: Program,
    on_loopback: bool,
    /// Why neither networks nor file systems can be made here, if they cannot.
    obstacle: Option<String>,
    progress: Progress,
}

impl Session {
    /// Builds what is needed and says what the machine cannot do.
    pub(super) fn begin(mut common: Common) -> anyhow::Result<Self> {
        let obstacle = Network::obstacle();
        if let Some(obstacle) = obstacle.as_ref().filter(|_| !common.loopback) {
            eprintln!("hosts share the loopback interface, and nothing can be done to packets: {obstacle}");
        }
        let on_loopback = common.loopback || obstacle.is_some();
        let seawall = match common.seawall.take() {
            Some(program) => seawall::copy(&program)?,
            None => seawall::build(&[])?,
        };
        let progress = Progress::new(common.json);
        Ok(Self { common, seawall, on_loopback, obstacle, progress })
    }

    /// Plays these, several at once; whether all of them held.
    pub(super) fn play(&self, plays: Vec<(Scenario, u64, Option<Duration>)>) -> anyhow::Result<bool> {
        let waiting = Mutex::new(plays.into_iter());
        let results = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..self.common.jobs {
                scope.spawn(|| {
                    loop {
                        let next = waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
                        let Some((scenario, seed, span)) = next else { return };
                        let held = self.play_one(&scenario, seed, span.unwrap_or(scenario.lasts));
                        results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(held);
                    }
                });
            }
        });
        let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let held = results.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        Ok(held.into_iter().all(|held| held))
    }

    fn play_one(&self, scenario: &Scenario, seed: u64, span: Duration) -> anyhow::Result<bool> {
        let view = RunView {
            scenario: &scenario.name,
            seed,
            result: "skipped",
            why: None,
            directory: None,
            command: None,
            verdict: None,
        };
        if self.on_loopback && scenario.needs_namespaces() {
            let why = Some("it does things to packets: hosts need networks of their own".to_owned());
            self.show(&RunView { why, ..view })?;
            return Ok(true);
        }
        let disks = FaultyDisk::missing().filter(|_| scenario.node_disk == NodeDisk::Faulty);
        if let Some(why) = disks.or_else(|| self.obstacle.clone().filter(|_| scenario.needs_mounts())) {
            self.show(&RunView { why: Some(why), ..view })?;
            return Ok(true);
        }
        if let Some(missing) = missing(scenario) {
            self.show(&RunView { why: Some(missing), ..view })?;
            // There everything is installed that can be.
            return Ok(std::env::var_os("CI").is_none());
        }
        let directory = run_directory(self.common.directory.as_deref())?;
        let assignment = Assignment {
            scenario: scenario.name.clone(),
            seed,
            span,
            seawall: self.seawall.path().to_owned(),
            on_loopback: self.on_loopback,
            most_restores: self.common.most_restores,
            mutant: None,
        };
        let line = self.progress.begin(&scenario.name);
        let outcome = assignment.play(&directory, |now| line.set_message(now.to_owned()));
        line.finish_and_clear();
        let held = outcome.as_ref().is_ok_and(|verdict| verdict.passed);
        let is_kept = self.common.keep || !held;
        if !is_kept {
            std::fs::remove_dir_all(&directory)?;
        }
        let (result, why) = match &outcome {
            Ok(verdict) if verdict.passed => ("passed", None),
            Ok(_) => ("failed", None),
            Err(error) => ("error", Some(format!("{error:#}"))),
        };
        let command = (!held).then(|| assignment.command());
        let directory = is_kept.then_some(directory);
        self.show(&RunView { result, why, directory, command, verdict: outcome.as_ref().ok(), ..view })?;
        Ok(held)
    }

    fn show(&self, view: &RunView<'_>) -> anyhow::Result<()> {
        if self.common.json {
            self.progress.print(&serde_json::to_string(view)?);
            return Ok(());
        }
        let mut text = format!("{}: {} (seed {})", view.result, view.scenario, view.seed);
        if let Some(why) = &view.why {
            text.push_str(&format!("\n  {why}"));
        }
        if let Some(verdict) = view.verdict {
            verdict.to_string().lines().for_each(|line| text.push_str(&format!("\n  {line}")));
        }
        if let Some(directory) = &view.directory {
            text.push_str(&format!("\n  history and logs: {}", directory.display()));
        }
        if let Some(command) = &view.command {
            text.push_str(&format!("\n  again: {command}"));
        }
        self.progress.print(&text);
        Ok(())
    }
}

/// What a scenario needs and is not here.
fn missing(scenario: &Scenario) -> Option<String> {
    let languages: BTreeSet<_> = scenario.applications.iter().map(|application| application.language).collect();
    let applications = languages.into_iter().find_map(|language| language.missing());
    let destinations = || scenario.destinations.iter().find_map(|plan| plan.kind.missing());
    let clocks = || scenario.stepped_clocks.then(Clock::missing).flatten();
    let programs = || tools::missing(&[("setpriv", "util-linux"), ("ip", "iproute2")]);
    applications.or_else(destinations).or_else(clocks).or_else(programs)
}
