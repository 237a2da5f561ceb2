//! One run.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::application::directory::TemporaryDirectory;
use crate::application::sqlite::SeededSqlite;

pub use crate::fault_family::FaultFamily;
pub use crate::report::{RunOptions, RunReport, TraceEvent, Violation};
use crate::scenario;
use crate::stage::Configuration;
use crate::world::{self, SimWorld, WorldOptions};

/// Runs one seed in this thread. Only one run at a time in a process: SQLite draws its random numbers process-wide.
pub fn run_seed(options: &RunOptions) -> RunReport {
    let world = SimWorld::new(options.seed, WorldOptions { trace: options.trace, mutant: options.mutant.clone() });
    run_in(&world, options)
}

fn run_in(world: &Arc<SimWorld>, options: &RunOptions) -> RunReport {
    let configuration = Configuration::draw(options);
    let _sqlite = SeededSqlite::new(options.seed);
    let (stage, duration) = (Arc::new(OnceLock::new()), options.duration);
    let outcome = match TemporaryDirectory::new() {
        Err(error) => Err(cannot(&error)),
        Ok(directory) => {
            let directory = Arc::new(directory);
            let (shape, place, there) = (configuration.clone(), stage.clone(), directory.clone());
            let played = world.run(async move {
                match scenario::set_up(&shape, &there) {
                    Err(error) => world::current().violate(CAN_RUN, format!("{error:#}")),
                    Ok(stage) => {
                        let stage = place.get_or_init(|| stage);
                        scenario::play(stage.clone(), duration).await;
                    }
                }
            });
            drop(directory);
            played
        }
    };
    let mut report = RunReport {
        seed: options.seed,
        configuration: configuration.to_string(),
        nodes: configuration.nodes,
        families: configuration.families.clone(),
        hash: world.hash(),
        virtual_time: world.time(),
        polls: world.polls(),
        commits: 0,
        acknowledged: 0,
        restores: 0,
        faults: BTreeMap::new(),
        reached: world.paths_reached().into_iter().map(|(path, count)| (path.to_owned(), count)).collect(),
        outcome,
        trace: world.take_events(),
    };
    if let Some(stage) = stage.get() {
        report.commits = stage.hosts.iter().map(|host| host.application.commits()).sum();
        report.acknowledged = stage.hosts.iter().map(|host| host.acknowledgements.count() as u64).sum();
        report.restores = stage.operator.restores();
        report.faults = stage.strikes.counts();
    }
    report
}

/// What is violated when the machine beneath the simulator fails.
const CAN_RUN: &str = "the simulator can run here";

fn cannot(error: &dyn std::fmt::Display) -> Violation {
    Violation { property: CAN_RUN.to_owned(), text: error.to_string(), at: Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_world_is_gone_when_its_run_is_over() {
        for seed in [1, 2, 3] {
            let options = RunOptions { duration: Duration::from_secs(5), nodes: Some(3), ..RunOptions::new(seed) };
            let world = SimWorld::new(seed, WorldOptions::default());
            let report = run_in(&world, &options);
            assert_eq!(report.outcome, Ok(()));
            assert_eq!(Arc::strong_count(&world), 1, "something of seed {seed} holds its world");
        }
    }

    #[test]
    fn options_and_reports_survive_the_pipe_between_processes_exactly() {
        let options = RunOptions {
            duration: Duration::new(59, 123_456_789),
            nodes: Some(5),
            without: BTreeSet::from([FaultFamily::BitRot]),
            mutant: Some("unsynced vote".into()),
            ..RunOptions::new(u64::MAX)
        };
        assert_eq!(serde_json::from_str::<RunOptions>(&serde_json::to_string(&options).unwrap()).unwrap(), options);

        let short = RunOptions { duration: Duration::from_secs(1), mutant: None, ..options };
        let mut report = run_seed(&short);
        report.hash = u64::MAX - 1;
        report.virtual_time = Duration::new(71, 999_999_999);
        report.trace = vec![TraceEvent {
            at: Duration::from_nanos(1),
            machine: 2,
            kind: "poll".into(),
            value: 7,
            text: "text with\na line break".into(),
            hash: 0xabc,
        }];
        let line = serde_json::to_string(&report).unwrap();
        assert!(!line.contains('\n'), "one line: {line}");
        assert_eq!(serde_json::from_str::<RunReport>(&line).unwrap(), report);
    }
}
