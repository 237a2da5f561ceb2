//! What a Seawall program gets from the machine it runs on: tasks, time, randomness, disk, network.
//!
//! Everything the product does that depends on a machine goes through the [`World`] that is installed here.
//! In production that is one [`real::RealWorld`] for the process (tokio, files, sockets); the simulator installs a
//! seeded one for its thread. Where no world is installed every call panics, so that nothing slips through
//! to the real machine unnoticed. A clippy firewall (`clippy.toml`) keeps the rest of the workspace off the
//! clocks, threads, files and sockets that are wrapped here.

pub mod disk;
pub mod local;
pub mod net;
pub mod probe;
pub mod process;
pub mod random;
pub mod real;
pub mod task;
pub mod time;
pub mod watch;
mod world;

pub use world::{World, install, install_for_thread};
