//! What verifications work with.

use std::path::PathBuf;
use std::sync::Arc;

use seawall_proto::database_name::DatabaseName;

use super::pace::Pace;
use crate::destination::NamedDestination;
use crate::replica::Replica;
use crate::store::image::ImageStore;

/// Asks for a fresh snapshot of a database at a destination.
pub type RequestSnapshot = Arc<dyn Fn(&DatabaseName, &str) + Send + Sync>;

/// A destination, and how fast it may be read.
pub(super) struct Place {
    pub(super) named: NamedDestination,
    pub(super) pace: Arc<Pace>,
}

/// What verifications work with.
pub(super) struct Context {
    pub(super) replica: Replica,
    pub(super) images: ImageStore,
    pub(super) places: Vec<Place>,
    pub(super) request_snapshot: RequestSnapshot,
    /// Where databases are restored to for integrity checks.
    pub(super) scratch: PathBuf,
}
