//! The seeded world behind `seawall_host`.

mod machine;

pub use machine::Machine;
