//! Properties that must hold whatever breaks, one a file. Each is pure over plain values, and names its source.

pub mod acknowledged_is_kept;
pub mod budget;
pub mod chain;
pub mod commit_times;
pub mod failed_writes;
pub mod history_is_source;
pub mod independence;
pub mod log_gives_history;
pub mod one_checksum;
pub mod one_writer;
pub mod raft;
pub mod restored_equals_source;
pub mod retention;
pub mod room;
pub mod watermark;
pub mod whole_objects;

#[cfg(test)]
mod testing;
