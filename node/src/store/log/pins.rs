//! Reasons why pieces stay.

/// A reason why pieces stay, for status pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinView {
    /// Who holds it.
    pub reason: &'static str,
    /// Entries from this index on stay.
    pub from_index: u64,
}

/// Keeps the payloads of entries from an index on readable. Dropping it lets them go.
pub struct LogFilePin {}

#[allow(unused_variables, clippy::unimplemented)]
impl LogFilePin {
    /// Moves the pin up: entries below `index` are no longer needed for its sake. It never moves down.
    pub fn advance(&self, index: u64) {
        unimplemented!()
    }
}
