//! The chaos harness: real processes on several hosts of their own, real SQLite applications, real destinations, and everything
//! done to them that happens to machines. What was promised is written down while it happens, and judged at the end.
//!
//! `cargo run --release -p chaos -- run` plays scenarios; `docs/chaos.md` says what they do and how to read a verdict.

#![forbid(unsafe_code)]

pub mod application;
pub mod cli;
pub mod destination;
pub mod disk;
mod finale;
pub mod history;
pub mod journal;
mod logs;
pub mod net;
mod play;
pub mod process;
mod restoration;
pub mod run;
pub mod scenario;
pub mod service;
pub mod stage;
pub mod tool;
mod tools;
pub mod verdict;
pub mod watch;
