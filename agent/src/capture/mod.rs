//! Capture: every transaction that SQLite itself calls committed, exactly once, in order, with the checksum of the
//! whole database after it.
//!
//! Two connections take turns at holding a *guard*, a read transaction that keeps the WAL from restarting before its
//! frames are captured. New commits are found by pinning them with the other connection; once they are captured up to
//! that pin, the pin becomes the guard and the old one lets go. Whatever does not fit — a chain that breaks before
//! SQLite's last committed frame, a WAL that restarted unguarded, a file that was replaced — is a [`Surprise`], and all
//! surprises take one path: compare the database with the last state shipped and ship what differs.
//!
//! Everything here blocks, but each call is short and none waits for a lock: what is busy is an outcome.

mod error;
mod frames;
mod guard;
mod maintenance;
mod plan;
pub mod policy;
mod resync;
mod vector;
mod writer;

pub use error::{CaptureError, OpenError, Surprise};
pub use guard::{Capture, Look, Progress, Resumption, Sink};
pub use maintenance::Maintained;
pub use resync::{Base, Resync};
pub use vector::{MissingPage, PageVector};
pub use writer::known_defects;
