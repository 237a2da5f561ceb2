//! SQLite as the agent uses it: connections that never checkpoint, create or wait on their own, and the exact
//! coordinates of what a read transaction sees.

mod connection;
mod error;
mod ffi;
mod snapshot;

pub use connection::{Checkpoint, Connection, library_version};
pub use error::SqliteError;
pub use snapshot::Snapshot;
