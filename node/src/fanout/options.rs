//! How the fan-out behaves.

use std::time::Duration;

/// What may be chosen about the fan-out; the destinations' own options stand beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FanoutOptions {
    /// Close a window of level 0 when it has this many segments.
    pub window_segments: usize,
    /// Bytes of windows in memory at a time, for each destination.
    pub memory_bytes: u64,
    /// Windows on their way at a time, for each destination: where one hangs, each may hold up a thread of the machine.
    pub uploads_at_once: usize,
    /// Snapshots and merged objects under way at a time, for each destination.
    pub merges_at_once: usize,
    /// Look this often at most whether something at a destination has expired.
    pub sweep_interval: Duration,
    /// Report progress to the cluster this often at most, unless someone waits for it.
    pub progress_interval: Duration,
    /// Wait this long after the first failure, twice as long after each further one …
    pub retry_first: Duration,
    /// … up to this long.
    pub retry_most: Duration,
}

impl Default for FanoutOptions {
    fn default() -> Self {
        Self {
            window_segments: 20_000,
            memory_bytes: 128 << 20,
            uploads_at_once: 64,
            merges_at_once: 2,
            sweep_interval: Duration::from_hours(1),
            progress_interval: Duration::from_secs(1),
            retry_first: Duration::from_secs(1),
            retry_most: Duration::from_secs(60),
        }
    }
}
