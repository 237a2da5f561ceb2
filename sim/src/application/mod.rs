//! Applications: seeded workloads on real SQLite databases, the true history of each, and the ways their machines die.

pub mod directory;
mod files;
pub mod history;
mod life;
pub mod machine;
pub mod profile;
mod program;
pub mod source;
pub mod sqlite;
mod transactions;
mod workload;

pub use program::{Application, ApplicationOptions, ApplicationRemains};

#[cfg(test)]
mod capture_tests;
