//! How the fan-out behaves.

use std::time::Duration;

/// What may be chosen about the fan-out; the destinations' own options stand beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FanoutOptions {
    /// Close a window of level 0 when its segments have this many bytes.
    pub window_bytes: u64,
    /// Close a window of level 0 when it has this many segments.
    pub window_segments: usize,
    /// Bytes of windows in memory at a time, for each destination.
    pub memory_bytes: u64,
    /// Windows on their way at a time, for each destination: where one hangs, each may hold up a thread of the machine.
    pub uploads_at_once: usize,
    /// Take a snapshot when the bytes since the last one exceed the database's size, but not below this many.
    pub snapshot_min_bytes: u64,
    /// Take a snapshot of a database that changed since the last one after this long.
    pub snapshot_interval: Duration,
    /// Snapshots under way at a time, for each destination.
    pub snapshots_at_once: usize,
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
            window_bytes: 16 << 20,
            window_segments: 20_000,
            memory_bytes: 128 << 20,
            uploads_at_once: 64,
            snapshot_min_bytes: 8 << 20,
            snapshot_interval: Duration::from_secs(24 * 3600),
            snapshots_at_once: 2,
            progress_interval: Duration::from_secs(1),
            retry_first: Duration::from_secs(1),
            retry_most: Duration::from_secs(60),
        }
    }
}
