//! What a restore tells: while it goes on, and when it has ended.

use std::time::Duration;

use seawall_host::time::UnixMillis;
use seawall_proto::position::{Lineage, Position, Txid};

use super::source::SourceObject;

/// Hears how a restore goes on.
pub trait Progress: Send + Sync {
    /// So many bytes are to be read from now on.
    fn planned(&self, bytes: u64);
    /// So many more were read.
    fn read(&self, bytes: u64);
    /// Something the operator should know.
    fn warn(&self, message: &str);
}

/// One object that a plan reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedObject {
    /// The object.
    pub object: SourceObject,
    /// The last transaction taken from it.
    pub until: Txid,
}

/// How long a restore would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// The size of all objects of the plan.
    pub bytes: u64,
    /// Bytes of the first object that were read to find out.
    pub sampled: u64,
    /// How fast they came.
    pub bytes_per_second: u64,
    /// How long all bytes take at that rate.
    pub duration: Duration,
}

/// What a restore gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The exact state.
    pub position: Position,
    /// Commit time of its last transaction.
    pub time: UnixMillis,
    /// The file's size in bytes.
    pub size: u64,
    /// Where its bytes came from, in the order of use.
    pub sources: Vec<String>,
    /// How long it took.
    pub duration: Duration,
}

/// How a restore ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The file is in place.
    Restored(Restored),
    /// A dry run: what would be read.
    Planned {
        /// The history.
        lineage: Lineage,
        /// The state.
        txid: Txid,
        /// The objects in order.
        objects: Vec<PlannedObject>,
        /// How long it would take; `None` if the first object could not be read.
        estimate: Option<Estimate>,
    },
    /// The output exists, and nothing was to be done then.
    DatabaseExists,
    /// The source has nothing, and nothing was to be done then.
    NothingToRestore,
}
