//! What nodes refused with. One that has lost its data directory refuses several times a second until it is replaced: that is
//! told once in a while.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use seawall_host::time::Instant;

/// A node that refuses for the same reason is told of again after so long.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// What was told of whom.
#[derive(Default)]
pub(super) struct Refusals {
    /// The last cause of each target, and when it was told.
    told: Mutex<BTreeMap<u64, (String, Instant)>>,
}

impl Refusals {
    /// Whether this is to be told: another cause than the last, or the same after a while.
    pub(super) fn is_news(&self, target: u64, cause: &str, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = told.get(&target).is_some_and(|(last, at)| last == cause && now - *at < TELL_AGAIN);
        if !is_known {
            told.insert(target, (cause.to_owned(), now));
        }
        !is_known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_refusal_is_told_once_a_minute() {
        let refusals = Refusals::default();
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        assert!(refusals.is_news(3, "empty", at(0)));
        assert!(!refusals.is_news(3, "empty", at(59)));
        assert!(refusals.is_news(4, "empty", at(59)));
        assert!(refusals.is_news(3, "empty", at(60)));
        assert!(refusals.is_news(3, "another cluster", at(61)));
        assert!(!refusals.is_news(3, "another cluster", at(62)));
    }
}
