//! Reasons why pieces stay.

use std::sync::Arc;

use super::shared::Shared;

/// A reason why pieces stay, for status pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinView {
    /// Who holds it.
    pub reason: &'static str,
    /// Entries from this index on stay.
    pub from_index: u64,
}

/// Keeps the payloads of entries from an index on readable. Dropping it lets them go.
pub struct LogFilePin {
    shared: Arc<Shared>,
    id: u64,
}

impl LogFilePin {
    pub(super) fn new(shared: Arc<Shared>, from_index: u64, reason: &'static str) -> Self {
        let id = shared.memory().add_pin(from_index, reason);
        Self { shared, id }
    }

    /// Entries from here on stay.
    pub fn from(&self) -> u64 {
        self.shared.memory().pins.get(&self.id).map_or(0, |(from, _)| *from)
    }

    /// Moves the pin up: entries below `index` are no longer needed for its sake. It never moves down.
    pub fn advance(&self, index: u64) {
        if let Some((from, _)) = self.shared.memory().pins.get_mut(&self.id) {
            *from = index.max(*from);
        }
        self.shared.deletion.notify_one();
    }
}

impl Drop for LogFilePin {
    fn drop(&mut self) {
        self.shared.memory().pins.remove(&self.id);
        self.shared.deletion.notify_one();
    }
}
