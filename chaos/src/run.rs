//! A run: one scenario, from an empty directory to a whole history.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::finale;
use crate::history::{Event, Recorder};
use crate::logs::{Said, said};
use crate::net::Network;
use crate::play::{Player, Say};
use crate::restoration::Restore;
use crate::scenario::{Scenario, schedule};
use crate::service::Service;
use crate::stage::{Agent, Stage};
use crate::tool::Tool;
use crate::verdict::Limits;
use crate::watch::{Stopper, sample, supervise};

/// The history's name in a run's directory.
pub const HISTORY: &str = "history.jsonl";

/// How often it is seen what processes take.
const SAMPLE_PERIOD: Duration = Duration::from_secs(2);

/// How often something is restored while everything goes on.
const RESTORE_PERIOD: Duration = Duration::from_secs(3);

/// How often each agent is asked for a receipt of all destinations.
const ALL_PERIOD: Duration = Duration::from_secs(5);

/// How a scenario is run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Decides when faults strike and whom.
    pub seed: u64,
    /// How long they strike.
    pub span: Duration,
    /// The run's directory; it is to be empty.
    pub directory: PathBuf,
    /// The `seawall` program.
    pub program: PathBuf,
    /// Variables for it.
    pub environment: Vec<(String, String)>,
    /// Whether hosts only get addresses on the loopback interface.
    pub on_loopback: bool,
    /// How many of the promised states of each database are restored at most.
    pub most_restores: usize,
}

/// Plays `scenario`; its history is the result, in the run's directory.
///
/// # Errors
/// The harness could not do its work; nothing is known then.
pub fn run(scenario: Scenario, options: &RunOptions, say: &(dyn Fn(&str) + Sync)) -> anyhow::Result<()> {
    let recorder = Recorder::create(&options.directory.join(HISTORY))?;
    let hosts = Stage::hosts(&scenario);
    let network = if options.on_loopback {
        Network::of_loopback(&hosts, (std::process::id() % 100) as u8)
    } else {
        Network::of_namespaces(&hosts, options.seed)
    };
    let network = network.context("the hosts cannot be made")?;
    let environment = options.environment.iter().map(|(key, value)| (key.into(), value.into())).collect();
    let tool = Tool::new(options.program.clone(), environment);
    recorder.record(Event::Began {
        scenario: scenario.name.clone(),
        seed: options.seed,
        network: if options.on_loopback { "loopback" } else { "namespaces" }.to_owned(),
        nodes: (1..=scenario.nodes).map(|id| format!("node-{id}")).collect(),
        destinations: scenario.destinations.iter().map(|plan| plan.name().to_owned()).collect(),
        databases: scenario.databases(),
        version: tool.version()?,
        limits: Limits { recovery_ms: scenario.recovery_limit.as_millis() as u64, ..Limits::default() },
    });
    say("starting");
    let stage = Stage::build(scenario, network, options.directory.clone(), tool, recorder.clone())?;
    let outcome = play(&stage, options, say);
    stage.shut_down();
    outcome?;
    read_logs(&stage);
    recorder.record(Event::Ended);
    recorder.close()?;
    Ok(())
}

fn play(stage: &Stage, options: &RunOptions, say: Say<'_>) -> anyhow::Result<()> {
    let (supervision, asking) = (Stopper::default(), Stopper::default());
    let mut rng = StdRng::seed_from_u64(options.seed);
    let steps = schedule(&stage.scenario().faults, options.span, &mut rng);
    let restores = StdRng::seed_from_u64(rng.random());
    thread::scope(|scope| {
        // However this ends, the watchers end too: the scope waits for them.
        let _guards = (supervision.guard(), asking.guard());
        scope.spawn(|| supervise(|| stage.services(), stage.recorder(), &supervision));
        scope.spawn(|| watch_usage(stage, &supervision));
        for (agent, receipt) in stage.agents().iter().flat_map(|agent| [(agent, "quorum"), (agent, "all")]) {
            let asking = &asking;
            scope.spawn(move || ask(stage, agent, receipt, asking));
        }
        for agent in stage.second_agents() {
            let asking = &asking;
            scope.spawn(move || ask(stage, agent, "quorum", asking));
        }
        scope.spawn(|| restore_meanwhile(stage, restores, &asking));
        Player::new(stage, rng).play(&steps, options.span, say)?;
        let syncs = stage.syncs();
        finale::recover(stage, &syncs, say);
        asking.stop();
        stage.applications().iter().for_each(Service::stop);
        for sync in &syncs {
            // If that fails, what is restored will be behind, and the verdict says so.
            let _ = sync.once("all", stage.scenario().recovery_limit);
        }
        finale::restore(stage, options.most_restores, say)
    })
}

/// Restores what was promised, or the newest, from anywhere, while everything goes on. That may fail; it may not be wrong.
fn restore_meanwhile(stage: &Stage, mut rng: StdRng, stopper: &Stopper) {
    while !stopper.wait(RESTORE_PERIOD) {
        let Some(agent) = stage.agents().choose(&mut rng) else { return };
        let database = agent.database.clone();
        let mut sources = stage.sources(&database);
        sources.push(("any".to_owned(), stage.any_source(&database)));
        let Some((origin, source)) = sources.choose(&mut rng).cloned() else { return };
        let promised = stage.recorder().promised(&database);
        let txid = promised.choose(&mut rng).map(|position| position.txid).filter(|_| rng.random_bool(0.5));
        let restore = Restore { database, origin, source, txid, at_rest: false, copy: None };
        if let Err(error) = restore.carry_out(stage) {
            let process = "the harness's restore".to_owned();
            stage.recorder().record(Event::Complained { process, line: format!("{error:#}") });
        }
    }
}

/// Asks this agent for receipts while it runs.
fn ask(stage: &Stage, agent: &Agent, receipt: &str, asking: &Stopper) {
    let syncs = stage.syncs_of(agent);
    let pause = if receipt == "all" { ALL_PERIOD } else { Duration::from_millis(400) };
    loop {
        if agent.service.pid().is_some() {
            // What it says is in the history.
            let _ = syncs.once(receipt, Duration::from_secs(15));
        }
        if asking.wait(pause) {
            return;
        }
    }
}

fn watch_usage(stage: &Stage, stopper: &Stopper) {
    let take = |service: &Service, disk_bytes: &dyn Fn() -> u64| {
        if let Some(event) = service.pid().and_then(|pid| sample(service.name(), pid, disk_bytes)) {
            stage.recorder().record(event);
        }
    };
    while !stopper.wait(SAMPLE_PERIOD) {
        stage.nodes().iter().for_each(|node| take(&node.service, &|| node.disk_bytes()));
        stage.agents().iter().for_each(|agent| take(&agent.service, &|| 0));
    }
}

/// What nodes and agents said in their logs that the verdict has to know.
fn read_logs(stage: &Stage) {
    for (process, log) in stage.logs() {
        // One that never ran has none.
        let Ok(text) = fs::read(&log) else { continue };
        for line in String::from_utf8_lossy(&text).lines() {
            let (process, agent) = (process.clone(), process.clone());
            match said(line) {
                Some(Said::Complaint(line)) => stage.recorder().record(Event::Complained { process, line }),
                Some(Said::Claim { database, epoch, lineage, txid }) => {
                    stage.recorder().record(Event::Claimed { agent, database, epoch, lineage, txid })
                }
                None => continue,
            };
        }
    }
}
