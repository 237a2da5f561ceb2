//! When a database is verified at a destination. Pure.

use std::time::Duration;

use seawall_host::time::{Instant, UnixMillis};

/// A database is verified so soon after its first upload, or after the leader began where that is overdue, at most.
const SOON: Duration = Duration::from_secs(60);
/// The longest wait after an attempt that came to nothing.
const LONGEST_RETRY: Duration = Duration::from_hours(1);

/// What is known of the verifications of one database at one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// When the last one ended, by the clock of whoever led.
    pub(super) last: Option<UnixMillis>,
    /// That clock now.
    pub(super) wall_clock: UnixMillis,
}

/// When the first verification under this leader is due; `share` (0 to 1) spreads those of many databases.
pub(super) fn first(now: Instant, interval: Duration, known: Known, share: f64) -> Instant {
    let spread = SOON.min(interval).mul_f64(share.clamp(0.0, 1.0));
    let Some(last) = known.last else { return now + spread };
    // One that lies ahead is from a clock that was set back since: nobody waits longer than the interval.
    let age = u64::try_from(known.wall_clock.0.saturating_sub(last.0)).unwrap_or(0);
    let rest = interval.saturating_sub(Duration::from_millis(age));
    now + if rest.is_zero() { spread } else { rest }
}

/// When the next one is due, after one that has just ended, or after `failures` attempts in a row that came to nothing.
pub(super) fn next(now: Instant, interval: Duration, failures: u32, share: f64) -> Instant {
    // Between nine and eleven tenths of it, so that they do not gather at one time of the day.
    let spread = |duration: Duration| duration.mul_f64(0.9 + 0.2 * share.clamp(0.0, 1.0));
    if failures == 0 {
        return now + spread(interval);
    }
    let factor = 1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX);
    now + spread(SOON.min(interval).saturating_mul(factor).min(interval).min(LONGEST_RETRY))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn known(last: Option<i64>, wall_clock: i64) -> Known {
        let millis = |seconds: i64| UnixMillis(seconds * 1000);
        Known { last: last.map(millis), wall_clock: millis(wall_clock) }
    }

    #[test]
    fn the_first_comes_soon_and_a_new_leader_goes_on_with_the_schedule() {
        assert_eq!(first(at(5), DAY, known(None, 0), 0.5), at(35));
        assert_eq!(first(at(5), Duration::from_secs(10), known(None, 0), 1.0), at(15));
        assert_eq!(first(at(5), DAY, known(Some(1000), 4600), 0.5), at(5 + 86_400 - 3600));
        assert_eq!(first(at(5), DAY, known(Some(1000), 1000 + 90_000), 0.5), at(35), "overdue");
    }

    #[test]
    fn a_clock_that_was_set_back_costs_one_interval_at_most() {
        assert_eq!(first(at(5), DAY, known(Some(1_000_000), 0), 0.5), at(5 + 86_400));
    }

    #[test]
    fn attempts_that_came_to_nothing_are_made_again_sooner_than_the_next() {
        assert_eq!(next(at(0), DAY, 0, 0.5), at(86_400));
        assert_eq!(next(at(0), DAY, 1, 0.5), at(60));
        assert_eq!(next(at(0), DAY, 3, 0.5), at(240));
        assert_eq!(next(at(0), DAY, 99, 0.5), at(3600));
        assert_eq!(next(at(0), Duration::from_secs(10), 99, 0.5), at(10));
    }
}
