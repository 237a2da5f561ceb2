//! Restoring a database from a cluster or from a destination: listing, planning, applying, proving, putting in place.

mod apply;
mod assemble;
mod checkpoint;
mod cluster_source;
mod destination_source;
mod error;
mod estimate;
mod history;
mod image_file;
mod integrity;
mod multi_source;
mod options;
mod outcome;
pub mod plan;
mod read_ahead;
mod resume;
mod run;
mod search;
mod source;
mod source_url;
mod target;
mod times;
mod verify;

pub use cluster_source::ClusterSource;
pub use destination_source::DestinationSource;
pub(crate) use destination_source::list_segments;
pub use error::RestoreError;
pub use history::{Gap, History, LevelTotal, LineageHistory, Run, TimedRun, history};
pub use integrity::IntegrityCheck;
pub use multi_source::MultiSource;
pub use options::{DEFAULT_CHECKPOINT_INTERVAL, DEFAULT_PARALLELISM, RestoreOptions, When};
pub use outcome::{Estimate, Outcome, PlannedObject, Progress, Restored};
pub(crate) use plan::{Reach, reachable};
pub use run::restore;
pub(crate) use source::lineages;
pub use source::{Breadth, ByteStream, Listing, PartRead, RestoreSource, SourceError, SourceObject};
pub use source_url::{InvalidSource, SourceUrl};
pub use target::TargetError;
pub(crate) use times::of_state as time_of_state;
pub use verify::{ChainFault, FaultCause, Finding, Reached, Report, prove_chain, verify};

use seawall_host::time::UnixMillis;

/// A time as people and programs read it: RFC 3339, UTC, milliseconds.
pub fn show_time(time: UnixMillis) -> String {
    match jiff::Timestamp::from_millisecond(time.0) {
        Ok(timestamp) => format!("{timestamp:.3}"),
        Err(_) => format!("{} ms since 1970", time.0),
    }
}
