//! The program itself: when it is asked to stop, and when it must.

use crate::world;

/// Completes when the machine asks this program to stop (SIGTERM, SIGINT).
pub async fn termination() {
    world::current().termination().await;
}

/// Ends the program at once, with the reason in its log: for states in which going on could lose data,
/// such as a failed fsync.
pub fn halt(reason: &str) -> ! {
    world::current().halt(reason)
}
