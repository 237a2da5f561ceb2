//! The log file: what an acknowledgement rests on.

mod batches;
mod cache;
mod entry;
mod error;
mod file;
mod index;
mod inspection;
mod marks;
mod memory;
mod piece;
mod pins;
mod record;
mod recovery;
mod room_wait;
mod shared;
mod state;
mod writer;

pub use entry::{EntryHead, InvalidLogId, LogEntry, LogId};
pub use error::{DamagedPayload, OpenLogError, ReadLogError};
pub use file::{LogFile, LogOptions};
pub use inspection::{InspectedEntry, LogInspection};
pub use pins::{LogFilePin, PinView};
pub use state::{Identity, LogState};
