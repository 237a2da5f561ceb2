//! One run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use crate::fault_family::FaultFamily;
pub use crate::report::{RunOptions, RunReport, TraceEvent, Violation};

/// Runs one seed in this thread. Only one run at a time in a process: SQLite draws its random numbers process-wide.
pub fn run_seed(options: &RunOptions) -> RunReport {
    RunReport {
        seed: options.seed,
        configuration: String::new(),
        nodes: options.nodes.unwrap_or(3),
        families: BTreeSet::new(),
        hash: 0,
        virtual_time: Duration::ZERO,
        polls: 0,
        commits: 0,
        acknowledged: 0,
        restores: 0,
        faults: BTreeMap::new(),
        reached: BTreeMap::new(),
        outcome: Err(Violation {
            property: "a run has a scenario".into(),
            text: "there is none in this build".into(),
            at: Duration::ZERO,
        }),
        trace: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

        let mut report = run_seed(&options);
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
