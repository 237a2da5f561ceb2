//! Where a restore reads from.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use seawall_proto::object_name::ObjectName;
use seawall_proto::position::{Lineage, Position};

/// A segment that a source can give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceObject {
    /// Where it lies, for people: a destination's URL, or a node and its destination.
    pub origin: Arc<str>,
    /// Which of the source's servers gives it; the source's own number.
    pub route: u32,
    /// What it holds.
    pub name: ObjectName,
    /// Bytes; an estimate for a node's image.
    pub size: u64,
    /// Commit time of its last transaction, milliseconds since 1970, if the listing knows it.
    pub commit_time_ms: Option<i64>,
}

impl SourceObject {
    /// An object as a destination's listing has it.
    pub(crate) fn listed(origin: &Arc<str>, name: ObjectName, size: u64) -> Self {
        Self { origin: Arc::clone(origin), route: 0, name, size, commit_time_ms: None }
    }
}

/// The lineages of `objects`, ascending.
pub(crate) fn lineages(objects: &[SourceObject]) -> Vec<Lineage> {
    let lineages: BTreeSet<Lineage> = objects.iter().map(|object| object.name.lineage).collect();
    lineages.into_iter().collect()
}

/// How far to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breadth {
    /// What is quick to find and usually suffices.
    Narrow,
    /// Everything: every node, every destination behind them.
    Wide,
}

/// What a source has.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Every segment, in no particular order.
    pub objects: Vec<SourceObject>,
    /// The newest state, where the source knows it for certain; a restore of the newest must arrive exactly there.
    pub head: Option<Position>,
    /// Whoever named the head could not ask the others: there may be a newer one.
    pub head_is_stale: bool,
    /// What could not be looked at, and other things to tell.
    pub warnings: Vec<String>,
}

/// Why a source did not give what was asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SourceError {
    /// The source cannot be used at all until something changes.
    #[error("{origin}: {cause}")]
    Unusable {
        /// Where.
        origin: String,
        /// What happened and what to do.
        cause: String,
    },
    /// This one object cannot be had.
    #[error("{object} from {origin}: {cause}")]
    Object {
        /// Where.
        origin: String,
        /// Which.
        object: String,
        /// What happened.
        cause: String,
    },
    /// The source has moved on since it was listed: list it again.
    #[error("{origin} has moved on: {cause}")]
    Changed {
        /// Where.
        origin: String,
        /// What changed.
        cause: String,
    },
}

/// A stream of the bytes of an object, in order.
pub type ByteStream = BoxStream<'static, Result<Bytes, SourceError>>;

/// A part of an object on its way: exactly the bytes asked for, or an error.
pub type PartRead = BoxFuture<'static, Result<Bytes, SourceError>>;

/// A place to restore one database from.
pub trait RestoreSource: Send + Sync {
    /// Where it is, for people.
    fn describe(&self) -> &str;
    /// What it has. Empty if it is reachable but knows nothing of the database.
    fn list(&self, breadth: Breadth) -> BoxFuture<'_, Result<Listing, SourceError>>;
    /// The bytes of an object, from the first to the last.
    fn read(&self, object: &SourceObject) -> ByteStream;
    /// Reads `length` bytes from `offset`, which lie within the object, if this source can give parts of it on their
    /// own. Nothing is read before the answer is awaited.
    fn read_part(&self, _object: &SourceObject, _offset: u64, _length: u64) -> Option<PartRead> {
        None
    }
}
