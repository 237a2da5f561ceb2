//! Disks of simulated machines.
//!
//! What is written is pending until it is synced: contents and length of a file until the file's sync, names until
//! the sync of their directory. A [`Crash::Process`] takes locks and open files; a [`Crash::Power`] also decides for
//! each pending page whether it is kept, dropped or torn at a sector, and for each pending name whether it is there.
//! Synced data under synced names survive both. Changes of the same name happen in their order, and a rename wholly
//! or not at all, as journalling file systems have it; more than that (a sync of a new file that takes its name along)
//! is not promised by any of them and not done here.

mod dice;
mod faults;
mod file;
mod handle;
mod kv;
mod names;
mod sim_disk;
mod state;

pub use dice::Dice;
pub use faults::DiskFaults;
pub use kv::SimKv;
pub use sim_disk::{Rot, SimDisk};
pub use state::Crash;

#[cfg(test)]
mod tests;
