//! Destinations of the simulated world: fakes behind the product's own trait, with the faults of real stores.

mod client;
mod exchange;
mod faults;
mod journal;
mod place;
mod plan;
mod store;
#[cfg(test)]
mod tests;

pub use client::SimDestination;
pub use faults::PlaceFaults;
pub use journal::{Change, JournalEntry};
pub use place::Place;
pub use plan::LONGEST_TRANSFER;

/// The rare paths that places report.
pub const RARE_PATHS: [&str; 6] = [ANSWER_LOST, LATE_CREATION, STALE_LISTING, PARTIAL_UPLOAD, FORGOTTEN, THROTTLED];

const ANSWER_LOST: &str = "success reported as time-out";
const LATE_CREATION: &str = "creation after its time-out";
const STALE_LISTING: &str = "stale listing served";
const PARTIAL_UPLOAD: &str = "partial upload";
const FORGOTTEN: &str = "forgotten object";
const THROTTLED: &str = "throttled";
