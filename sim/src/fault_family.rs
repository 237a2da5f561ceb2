//! The families of faults that a seed switches on or off.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A family of faults. A seed enables a random subset of them; a replay can switch further ones off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "kebab-case")]
pub enum FaultFamily {
    /// Calls and frames that never arrive.
    Loss,
    /// Calls that arrive twice.
    Duplication,
    /// Calls that overtake one another.
    Reordering,
    /// Spikes of latency.
    Delays,
    /// Symmetric, one-way and ring partitions.
    Partitions,
    /// Nodes that die and come back.
    Crashes,
    /// The whole cluster loses power at once.
    PowerCuts,
    /// Machines that stand still for a while.
    Pauses,
    /// Failed fsyncs and writes.
    DiskErrors,
    /// Disks without free space.
    DiskFull,
    /// Writes that take a long time.
    DiskStalls,
    /// Bytes that change on disk, never more than a quorum can repair.
    BitRot,
    /// Clocks that drift and jump.
    Clocks,
    /// Nodes that lose their data directory.
    Wipes,
    /// Destinations that are slow, full, refusing, partial or gone.
    Destinations,
    /// A destination that acknowledges and forgets.
    LyingDestination,
    /// Agents that die, restart and compete.
    Agents,
    /// Applications that checkpoint, vacuum, or write while no agent runs.
    Applications,
    /// Machines of applications that die with their agent.
    Machines,
    /// Leadership that moves.
    LeaderMoves,
    /// Raft snapshots and purges at bad moments.
    Snapshots,
    /// Tiny limits: windows, payloads, pieces, queues.
    SmallSizes,
    /// Merged objects every few seconds, and history that expires after a few more.
    ShortHistory,
    /// A small disk budget, destinations that stay away until they outgrow their share of it, and followers that run
    /// out of it.
    SmallBudgets,
    /// Destinations that lose or damage objects now and then, and are honest otherwise.
    RottingPlaces,
}

impl FaultFamily {
    /// Where these are, there are reasons for a delay that do not show from outside.
    pub const DELAYING: [Self; 9] = [
        Self::Loss,
        Self::Delays,
        Self::Reordering,
        Self::Partitions,
        Self::Pauses,
        Self::Clocks,
        Self::DiskStalls,
        Self::DiskErrors,
        Self::BitRot,
    ];

    /// Where there are no others, nothing but destinations is in trouble.
    pub const ABOUT_DESTINATIONS: [Self; 2] = [Self::SmallSizes, Self::SmallBudgets];

    /// All of them, in order.
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }
}

impl fmt::Display for FaultFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().expect("no family is hidden").get_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_one_name_on_the_command_line_in_reports_and_in_json() {
        for family in FaultFamily::all() {
            assert_eq!(FaultFamily::from_str(&family.to_string(), false), Ok(*family));
            assert_eq!(serde_json::to_string(family).unwrap(), format!("\"{family}\""));
        }
        assert_eq!(FaultFamily::LyingDestination.to_string(), "lying-destination");
    }
}
