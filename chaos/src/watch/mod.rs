//! What is watched while a run goes on: promises that are given, what processes take, and whether they live.

mod samples;
mod stopper;
mod supervisor;
mod syncs;

pub use samples::sample;
pub use stopper::Stopper;
pub use supervisor::supervise;
pub use syncs::Syncs;
