//! Scenarios: what a run is made of and what is done to it, as data. One YAML file each in `chaos/scenarios`, named for what it does.

mod duration;
mod library;
mod plan;
mod schedule;
mod target;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::application::Language;
use crate::destination::Kind;

pub use library::{UnknownScenario, all, named};
pub use plan::{Action, FaultPlan, Part};
pub use schedule::{Step, schedule};
pub use target::Target;

/// A scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// Its file's name.
    #[serde(skip)]
    pub name: String,
    /// What it does and what it would find, in a sentence or two.
    pub about: String,
    /// Whether it belongs to what every change has to pass.
    #[serde(default)]
    pub ci: bool,
    /// For how long faults strike, unless the command line says otherwise.
    #[serde(with = "duration")]
    pub lasts: Duration,
    /// How many nodes.
    #[serde(default = "three")]
    pub nodes: u8,
    /// What the nodes' data directories are on.
    #[serde(default)]
    pub node_disk: NodeDisk,
    /// Keys of the nodes' `disk` section.
    #[serde(default)]
    pub disk: BTreeMap<String, String>,
    /// Whether the clocks of nodes can be stepped.
    #[serde(default)]
    pub stepped_clocks: bool,
    /// The destinations.
    pub destinations: Vec<DestinationPlan>,
    /// The applications. Those that name the same database write to the same file, on one host, with one agent.
    pub applications: Vec<ApplicationPlan>,
    /// What is done.
    pub faults: Vec<FaultPlan>,
    /// How long the whole may take to get well after the last fault.
    #[serde(default = "a_minute", with = "duration")]
    pub recovery_limit: Duration,
}

/// What a node's data directory is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeDisk {
    /// A directory of the machine.
    #[default]
    Plain,
    /// A disk of the harness, which can lose power, stall, and fail.
    Faulty,
    /// A file system of its own with so many MiB.
    Small(u32),
}

/// A destination of a scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DestinationPlan {
    /// Its kind, which is its name too.
    pub kind: Kind,
    /// MiB of a file system of its own; as much as the machine has, if nothing.
    #[serde(default)]
    pub size: Option<u32>,
    /// Further keys of its section in `node.yml`.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl DestinationPlan {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::S3 => "s3",
            Kind::Sftp => "sftp",
            Kind::Directory => "directory",
        }
    }
}

/// An application of a scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ApplicationPlan {
    /// What it is written in.
    pub language: Language,
    /// The database it writes to.
    pub database: String,
    /// Transactions a second; 0: as many as it can.
    #[serde(default = "twenty")]
    pub rate: u32,
}

impl Scenario {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it, with line and column.
    pub fn parse(name: &str, text: &str) -> Result<Self, serde_saphyr::Error> {
        let scenario: Self = serde_saphyr::from_str(text)?;
        Ok(Self { name: name.to_owned(), ..scenario })
    }

    /// The databases, in order of their names.
    pub fn databases(&self) -> Vec<String> {
        let mut names: Vec<_> = self.applications.iter().map(|application| application.database.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Whether something is on a file system of its own.
    pub fn needs_mounts(&self) -> bool {
        self.node_disk != NodeDisk::Plain || self.destinations.iter().any(|plan| plan.size.is_some())
    }

    /// Whether something is done to packets, which needs hosts with networks of their own.
    pub fn needs_namespaces(&self) -> bool {
        self.faults.iter().any(|plan| plan.action.is_of_network())
    }
}

fn three() -> u8 {
    3
}

fn twenty() -> u32 {
    20
}

fn a_minute() -> Duration {
    Duration::from_secs(60)
}
