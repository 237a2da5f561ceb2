//! Doubles of what the fan-out stands between: a committed log with real segments, and a destination that misbehaves.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, dead_code, unused_imports, unreachable_pub)]

mod log;
mod place;
mod rebuild;

use std::time::{Duration, Instant};

use seawall_proto::database_name::DatabaseName;

pub use log::TestLog;
pub use place::{Behaviour, TestPlace};
pub use rebuild::rebuild;

pub fn name(text: &str) -> DatabaseName {
    text.parse().unwrap()
}

/// Waits until `condition` holds, for 20 seconds at most.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
