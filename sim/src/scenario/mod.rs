//! A run from beginning to end: faults, healing, and the final comparison, and what is watched meanwhile.

mod budget_watch;
mod finale;
mod image_watch;
mod independence_watch;
mod log_watch;
mod place_watch;
mod play;
mod positions;
mod raft_watch;
mod retention_watch;
mod times_watch;

pub use play::{play, set_up};
