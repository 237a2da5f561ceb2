//! Applications: seeded workloads on real SQLite databases, the true history of each, and the ways their machines die.

pub mod directory;
mod files;
pub mod history;
pub mod machine;
pub mod sqlite;
