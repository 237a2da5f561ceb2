//! The demonstration: a cluster of three nodes inside one process, a real SQLite workload, a leader killed in the
//! middle of it, and restores that are compared with the source row by row.

mod cluster;
mod comparison;
mod measurements;
mod report;
mod run;
mod workload;

pub use report::{Report, RestoreReport};
pub use run::{DemoError, DemoOptions, run};
