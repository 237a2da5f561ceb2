//! Waiting while the disk is full.

use std::io;
use std::time::Duration;

use seawall_host::probe::sometimes;
use seawall_host::time;

use super::shared::Shared;

/// While the disk is full, it is tried again after this long …
const RETRY: Duration = Duration::from_millis(500);
/// … unless more than this waits in memory.
const MOST_WAITING_BYTES: u64 = 256 << 20;

/// Does something over and over while the disk is full, unless too much waits for it. All that an attempt writes, the
/// next one must write again, at the same place: then it does not matter what became of the one before.
pub(super) struct RoomWait<'a> {
    shared: &'a Shared,
    is_waiting: bool,
}

impl<'a> RoomWait<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self { shared, is_waiting: false }
    }

    /// The outcome of the attempts, or nothing if it is time for the next one.
    pub(super) async fn after<T>(&mut self, outcome: io::Result<T>) -> Option<io::Result<T>> {
        match outcome {
            Err(error) if is_full(&error) && self.shared.memory().queued_bytes <= MOST_WAITING_BYTES => {
                if !self.is_waiting {
                    sometimes("log file waits for room");
                    tracing::error!(
                        %error,
                        "the disk of the log file is full: this node acknowledges nothing until there is room"
                    );
                    metrics::gauge!("seawall_log_waits_for_room").set(1.0);
                }
                self.is_waiting = true;
                time::sleep(RETRY).await;
                None
            }
            outcome => {
                if self.is_waiting && outcome.is_ok() {
                    metrics::gauge!("seawall_log_waits_for_room").set(0.0);
                    tracing::info!("there is room again: the log file goes on");
                }
                Some(outcome)
            }
        }
    }
}

/// Whether it failed for want of room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
