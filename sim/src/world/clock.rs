//! A machine's clocks: how its own time passes beside the true one.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Where every monotonic clock begins, so that nothing can underflow: one day, in nanoseconds.
const ORIGIN: u64 = 86_400_000_000_000;

/// Where the wall clocks begin: 2026-01-01T00:00:00Z, in milliseconds.
const WALL_ORIGIN_MS: i64 = 1_767_225_600_000;

/// The clocks of one machine. Times are nanoseconds of virtual time since the world began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// True time and own time of the last change of rate.
    anchor: (u64, u64),
    /// Parts per million that the clock is fast (or slow, if negative).
    ppm: i64,
    /// What the wall clock shows beside the monotonic one.
    wall_offset_ms: i64,
    /// The least and the most that it ever showed beside it.
    moved_ms: (i64, i64),
}

/// A wall clock's time, milliseconds since 1970, as milliseconds since the world began.
pub(super) const fn since_beginning(wall_ms: i64) -> i64 {
    wall_ms - WALL_ORIGIN_MS
}

impl Clock {
    pub(super) const fn new() -> Self {
        Self { anchor: (0, ORIGIN), ppm: 0, wall_offset_ms: 0, moved_ms: (0, 0) }
    }

    /// The monotonic clock at true time `now`.
    pub(super) fn local(&self, now: u64) -> u64 {
        let passed = i128::from(now.saturating_sub(self.anchor.0));
        let own = passed * i128::from(1_000_000 + self.ppm) / 1_000_000;
        self.anchor.1 + own as u64
    }

    /// The first true time at which the monotonic clock shows at least `local`.
    pub(super) fn true_time(&self, local: u64) -> u64 {
        let ahead = i128::from(local.saturating_sub(self.anchor.1)) * 1_000_000;
        let rate = i128::from(1_000_000 + self.ppm);
        self.anchor.0.saturating_add(u64::try_from((ahead + rate - 1) / rate).unwrap_or(u64::MAX))
    }

    /// The wall clock at true time `now`, in milliseconds since 1970.
    pub(super) fn wall_ms(&self, now: u64) -> i64 {
        WALL_ORIGIN_MS + ((self.local(now) - ORIGIN) / 1_000_000) as i64 + self.wall_offset_ms
    }

    /// From true time `now` on the clock runs `ppm` parts per million fast.
    pub(super) fn set_rate(&mut self, now: u64, ppm: i64) {
        self.anchor = (now, self.local(now));
        self.ppm = ppm.clamp(-500_000, 500_000);
    }

    /// Moves the wall clock.
    pub(super) fn jump(&mut self, forward: bool, by: Duration) {
        let ms = by.as_millis() as i64;
        self.wall_offset_ms += if forward { ms } else { -ms };
        let (least, most) = self.moved_ms;
        self.moved_ms = (least.min(self.wall_offset_ms), most.max(self.wall_offset_ms));
    }

    /// The least and the most that the wall clock was ever moved by, beside its drift, milliseconds.
    pub(super) const fn moved(&self) -> RangeInclusive<i64> {
        RangeInclusive::new(self.moved_ms.0, self.moved_ms.1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn remembers_how_far_the_wall_clock_was_moved() {
        let mut clock = Clock::new();
        assert_eq!(clock.moved(), 0..=0);
        clock.jump(false, Duration::from_secs(3));
        clock.jump(true, Duration::from_secs(10));
        clock.jump(false, Duration::from_secs(6));
        assert_eq!(clock.moved(), -3_000..=7_000);
        assert_eq!(since_beginning(clock.wall_ms(5_000_000_000)), 6_000);
    }

    proptest! {
        #[test]
        fn a_timer_never_fires_early_nor_a_microsecond_late(ppm in -400_000_i64..400_000, now in 0_u64..1 << 50, ahead in 0_u64..1 << 40) {
            let mut clock = Clock::new();
            clock.set_rate(now / 2, ppm);
            let deadline = clock.local(now) + ahead;
            let at = clock.true_time(deadline);
            prop_assert!(clock.local(at) >= deadline);
            prop_assert!(at < 1_000 || clock.local(at - 1_000) < deadline);
        }

        #[test]
        fn a_change_of_rate_does_not_move_the_clock(first in -400_000_i64..400_000, second in -400_000_i64..400_000, now in 0_u64..1 << 50) {
            let mut clock = Clock::new();
            clock.set_rate(now / 3, first);
            let before = clock.local(now);
            clock.set_rate(now, second);
            prop_assert_eq!(clock.local(now), before);
        }
    }
}
