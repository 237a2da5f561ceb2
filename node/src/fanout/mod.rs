//! Carries what the log holds to the destinations.
//!
//! Every node keeps pins on its log file for what a destination still lacks; the leader has one *lane* for each
//! database at each destination, a task of its own, so that a slow or broken place holds up nothing else.
//! A lane collects a window of committed segments, uploads it as one object of level 0, and reports the new
//! watermark, which goes through Raft in batches. From time to time it merges what changed into an object of level 1 or
//! 2, made from the image, or uploads a snapshot, also where the log no longer has what comes next.

mod image_source;
mod lane;
mod levels;
mod log;
mod merge;
mod metrics;
mod options;
mod plan;
mod progress;
mod retention;
mod status;
mod supervisor;
mod sweep;
mod upload;

pub use image_source::{ImageSource, Merged};
pub use log::{CommittedLog, Pin};
pub use options::FanoutOptions;
pub(crate) use retention::{expired, wanted};
pub use status::{LaneState, LaneStatus};
pub use supervisor::{Fanout, FanoutHandle};
