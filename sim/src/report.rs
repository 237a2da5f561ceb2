//! What a run is given, and what it reports.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::fault_family::FaultFamily;

/// What decides a run, all of it: equal options give equal runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOptions {
    /// Where every random draw comes from.
    pub seed: u64,
    /// How long the faults last, in virtual time; healing and the final comparison come on top.
    #[serde(with = "seconds")]
    pub duration: Duration,
    /// Nodes in the cluster, where the seed shall not decide.
    pub nodes: Option<usize>,
    /// Families switched off although the seed may choose them.
    pub without: BTreeSet<FaultFamily>,
    /// The deliberate defect that is switched on; it needs a build with the feature `mutants`.
    pub mutant: Option<String>,
    /// Whether the report shall hold every event. It changes nothing else.
    pub trace: bool,
}

impl RunOptions {
    /// The length of a run unless something else is asked for.
    pub const DEFAULT_DURATION: Duration = Duration::from_secs(60);

    /// An ordinary run of `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            duration: Self::DEFAULT_DURATION,
            nodes: None,
            without: BTreeSet::new(),
            mutant: None,
            trace: false,
        }
    }
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The seed that was run.
    pub seed: u64,
    /// What the seed chose, in words: nodes, agents, databases, destinations, fault families, sizes.
    pub configuration: String,
    /// Nodes in the cluster.
    pub nodes: usize,
    /// Families that were on.
    pub families: BTreeSet<FaultFamily>,
    /// The rolling hash over all events: equal runs have equal ones.
    #[serde(with = "hexadecimal")]
    pub hash: u64,
    /// How much virtual time passed, healing included.
    #[serde(with = "seconds")]
    pub virtual_time: Duration,
    /// Polls of tasks.
    pub polls: u64,
    /// Transactions that applications committed.
    pub commits: u64,
    /// Of those, acknowledged by the cluster.
    pub acknowledged: u64,
    /// Databases restored and compared.
    pub restores: u64,
    /// Faults that struck, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Rare paths taken, and how often.
    pub reached: BTreeMap<String, u64>,
    /// Whether every property held.
    pub outcome: Result<(), Violation>,
    /// Every event in order, if the options asked for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trace: Vec<TraceEvent>,
}

/// A property that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{property}: {text}")]
pub struct Violation {
    /// The property, as its oracle names it.
    pub property: String,
    /// What was seen instead.
    pub text: String,
    /// When, in virtual time since the world began.
    #[serde(with = "seconds")]
    pub at: Duration,
}

/// One event of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEvent {
    /// When, in virtual time since the world began.
    #[serde(with = "seconds")]
    pub at: Duration,
    /// The number of the machine on which it happened; 0 is the simulator itself.
    pub machine: u32,
    /// What kind of event.
    pub kind: String,
    /// What the hash takes of it besides its kind.
    pub value: u64,
    /// What it says to a reader; no part of the hash.
    pub text: String,
    /// The rolling hash after it: once two runs differ, they differ in all later ones.
    #[serde(with = "hexadecimal")]
    pub hash: u64,
}

impl fmt::Display for TraceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>13.6} m{:<3} {} {} {}", self.at.as_secs_f64(), self.machine, self.kind, self.value, self.text)
    }
}

/// Durations as decimal seconds, exact to the nanosecond for months.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Hashes as hexadecimal text: readers of JSON that know only floating-point numbers would round them.
mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(hash: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{hash:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        u64::from_str_radix(&String::deserialize(deserializer)?, 16).map_err(serde::de::Error::custom)
    }
}
