//! The scenarios that come with the harness.

use super::Scenario;

macro_rules! scenarios {
    ($($name:literal),* $(,)?) => {
        const FILES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../scenarios/", $name, ".yml")))),*];
    };
}

scenarios!(
    "a-leader-is-killed-again-and-again",
    "a-node-loses-its-directory",
    "a-quiet-hour",
    "a-rolling-restart",
    "a-second-agent-is-refused",
    "a-second-agent-takes-over",
    "agents-and-applications-are-killed",
    "an-applications-machine-loses-power",
    "clocks-are-stepped",
    "destinations-are-killed-and-hang",
    "destinations-fill-up",
    "disks-of-nodes-fill-up",
    "everything-at-once",
    "links-are-slow-and-lossy",
    "packets-are-lost-one-way",
    "programs-hang",
    "syncs-stall-and-fail",
    "the-leader-is-cut-off",
    "the-network-flaps",
    "the-power-fails-between-commits",
    "the-power-fails-everywhere-at-once",
    "the-s3-server-misbehaves",
);

/// A name that no scenario has.
#[derive(Debug, thiserror::Error)]
#[error("there is no scenario `{name}`: `chaos scenarios` lists them")]
pub struct UnknownScenario {
    name: String,
}

/// All scenarios, in order of their names.
pub fn all() -> Vec<Scenario> {
    // They are part of the program, and a test reads each.
    FILES.iter().map(|(name, text)| Scenario::parse(name, text).expect("a scenario of the program is whole")).collect()
}

/// The scenario of this name.
///
/// # Errors
/// There is none.
pub fn named(name: &str) -> Result<Scenario, UnknownScenario> {
    let found = all().into_iter().find(|scenario| scenario.name == name);
    found.ok_or_else(|| UnknownScenario { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::scenario::{Action, NodeDisk, Target};

    #[test]
    fn every_file_is_here_in_order_and_whole() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let files =
            std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let files: BTreeSet<_> = files.map(|name| name.trim_end_matches(".yml").to_owned()).collect();
        let names: Vec<_> = all().into_iter().map(|scenario| scenario.name).collect();
        assert_eq!(names, files.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn every_scenario_can_be_played() {
        for scenario in all() {
            let name = &scenario.name;
            assert!(!scenario.destinations.is_empty() && !scenario.applications.is_empty(), "{name}");
            assert!(
                scenario.faults.is_empty() || scenario.faults.iter().any(|plan| plan.after < scenario.lasts),
                "{name}"
            );
            for plan in &scenario.faults {
                match &plan.action {
                    Action::CutPower if plan.to == Target::AnyApplicationHost => {}
                    Action::CutPower | Action::StallSyncs { .. } | Action::FailSyncs => {
                        assert_eq!(scenario.node_disk, NodeDisk::Faulty, "{name}");
                    }
                    Action::StepClock { .. } => assert!(scenario.stepped_clocks, "{name}"),
                    _ => {}
                }
                if let Target::Named(target) = &plan.to {
                    let is_destination = scenario.destinations.iter().any(|plan| plan.name() == target);
                    let databases = scenario.databases();
                    let is_agent = databases.iter().any(|database| *target == format!("agent-{database}"));
                    let is_node = (1..=scenario.nodes).any(|node| *target == format!("node-{node}"));
                    assert!(is_destination || is_agent || is_node, "{name}: {target}");
                }
            }
        }
    }
}
