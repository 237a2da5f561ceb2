//! Into which objects a destination's history is cut.

use std::time::Duration;

/// When the objects of each level are made, for one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Close a window of level 0 after this long at the latest …
    pub upload_interval: Duration,
    /// … or when its segments have this many bytes. A merged object that is not larger is sent in one request.
    pub upload_bytes: u64,
    /// Merge what changed into an object of level 1 after this long; zero for none.
    pub level_one_interval: Duration,
    /// Merge what changed into an object of level 2 after this long; zero for none.
    pub level_two_interval: Duration,
    /// Take a snapshot of a database that changed since the last one after this long.
    pub snapshot_interval: Duration,
    /// Take a snapshot when the bytes of merged objects since the last one exceed the database's size, but not below this
    /// many. Where there is no level 1, those of level 0 count.
    pub snapshot_min_bytes: u64,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            upload_interval: Duration::from_secs(10),
            upload_bytes: 16 << 20,
            level_one_interval: Duration::from_mins(5),
            level_two_interval: Duration::from_hours(1),
            snapshot_interval: Duration::from_hours(24),
            snapshot_min_bytes: 8 << 20,
        }
    }
}
