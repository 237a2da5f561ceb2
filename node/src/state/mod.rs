//! The replicated state, as pure values: what the log's commands mean. The same commands in the same order give the
//! same state on every node; nothing here reads a clock, a disk or a random number.

mod cluster;
mod database;
mod manifest;
mod open_segment;
mod retention;

pub use cluster::{ClusterState, Effect};
pub use database::DatabaseState;
pub use manifest::{ManifestError, decode_record, encode_record};
pub use open_segment::OpenSegment;
pub use retention::{is_below, raised, starts};
