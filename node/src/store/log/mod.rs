//! The log file: what an acknowledgement rests on.

mod entry;
mod error;
mod file;
mod pins;
mod state;

pub use entry::{EntryHead, LogEntry, LogId};
pub use error::OpenLogError;
pub use file::{LogFile, LogOptions};
pub use pins::{LogFilePin, PinView};
pub use state::{Identity, LogState};
