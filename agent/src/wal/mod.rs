//! The WAL file: its format, and reading it beside SQLite.
//!
//! Format: SQLite's "WAL-mode File Format", section 1 (header, frames, checksum algorithm). Reading never goes beyond a
//! frame that SQLite itself named: what a frame parser finds valid need not be committed.

mod checksum;
mod file;
mod format;

pub use checksum::{ByteOrder, RunningChecksum};
pub use file::WalFile;
pub use format::{FRAME_HEADER_BYTES, FrameHeader, HEADER_BYTES, InvalidHeader, WalHeader, frame_offset};
