//! Carries what the log holds to the destinations.
//!
//! Every node keeps pins on its log file for what a destination still lacks; the leader has one *lane* for each
//! database at each destination, a task of its own, so that a slow or broken place holds up nothing else.
//! A lane collects a window of committed segments, uploads it as one object of level 0, and reports the new
//! watermark, which goes through Raft in batches; where the log no longer has what comes next, and now and then, it
//! uploads a snapshot of the image.

mod lane;
mod log;
mod metrics;
mod options;
mod plan;
mod progress;
mod snapshot;
mod snapshot_upload;
mod status;
mod supervisor;
mod upload;

pub use log::{CommittedLog, Pin};
pub use options::FanoutOptions;
pub use snapshot::{Snapshot, SnapshotSource};
pub use status::{LaneState, LaneStatus};
pub use supervisor::{Fanout, FanoutHandle};
