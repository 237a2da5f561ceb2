//! The deterministic simulator: whole clusters, agents, real SQLite databases and destinations in one thread under
//! virtual time, with everything broken that can break, and oracles that watch the promises.

pub mod application;
pub mod cli;
pub mod destination;
pub mod disk;
pub mod fault_family;
pub mod faults;
pub mod mutants;
pub mod oracles;
pub mod random;
pub mod rare_paths;
pub mod report;
pub mod run;
pub mod scenario;
pub mod stage;
pub mod world;
