//! What is known of a transaction in parts for which there was no room.

use std::time::Duration;

use seawall_host::time::Instant;

/// After so long it is let in again, if there is room for what is known of it, and after twice as long the next time …
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// … up to this. Its size is known only as far as it got, so it may be too large still, and takes the room of others.
const LAST_PAUSE: Duration = Duration::from_secs(600);

/// A transaction that was cut off for want of room.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooLarge {
    /// Bytes that it has at least.
    pub(super) bytes: u64,
    times: u32,
    retry_at: Instant,
}

impl TooLarge {
    /// What is known once it was cut off (again, if `before` is known) after `arrived` bytes.
    pub(super) fn cut_off(before: Option<Self>, arrived: u64, now: Instant) -> Self {
        let (bytes, times) = before.map_or((0, 0), |before| (before.bytes, before.times));
        let pause = FIRST_PAUSE.saturating_mul(1 << times.min(16)).min(LAST_PAUSE);
        Self { bytes: arrived.max(bytes), times: times.saturating_add(1), retry_at: now + pause }
    }

    /// How long its first part is still refused.
    pub(super) fn pause(&self, now: Instant) -> Option<Duration> {
        (self.retry_at > now).then(|| self.retry_at - now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_tried_ever_more_seldom_and_what_is_known_of_it_only_grows() {
        seawall_host::real::install();
        let now = Instant::now();
        let first = TooLarge::cut_off(None, 70, now);
        assert_eq!((first.bytes, first.pause(now), first.pause(now + FIRST_PAUSE)), (70, Some(FIRST_PAUSE), None));
        let second = TooLarge::cut_off(Some(first), 60, now);
        assert_eq!((second.bytes, second.pause(now)), (70, Some(2 * FIRST_PAUSE)));
        let third = TooLarge::cut_off(Some(second), 90, now);
        assert_eq!((third.bytes, third.pause(now)), (90, Some(4 * FIRST_PAUSE)));
        let last = (0..100).fold(third, |before, _| TooLarge::cut_off(Some(before), 1, now));
        assert_eq!((last.bytes, last.pause(now)), (90, Some(LAST_PAUSE)));
    }
}
