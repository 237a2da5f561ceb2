//! What time it is in the cluster, as far as an agent has heard.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use seawall_host::probe::mutant;
use seawall_host::time::{Instant, UnixMillis};

/// The cluster's time: what a leader said last, carried on by this machine's monotonic clock. Commit times are taken from
/// it. This machine's wall clock has no part in it: nobody beside it knows whether that is right.
#[derive(Debug, Default)]
pub struct ClusterClock {
    known: Mutex<Known>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The cluster's time beyond this machine's monotonic clock, milliseconds; `None` before anything was heard.
    beyond: Option<i64>,
    /// When it was last heard in answer to a question.
    heard: Option<Instant>,
}

impl ClusterClock {
    /// A clock that hears `time` now.
    pub fn at(time: UnixMillis) -> Self {
        let clock = Self::default();
        clock.hear(time, None);
        clock
    }

    /// The cluster's time now; 1970 before anything was heard. It may fall, when the cluster's does.
    pub fn now(&self) -> UnixMillis {
        if mutant("timestamp-from-the-agents-clock") {
            return UnixMillis::now();
        }
        self.lock().beyond.map_or(UnixMillis(0), |beyond| UnixMillis(millis(Instant::now()).saturating_add(beyond)))
    }

    /// Somebody in the cluster has said that it is `said` there: after `asked`, if that was an answer.
    pub fn hear(&self, said: UnixMillis, asked: Option<Instant>) {
        let now = Instant::now();
        let mut known = self.lock();
        known.beyond = Some(beyond_after(known.beyond, said.0, asked.map(millis), millis(now)));
        known.heard = asked.map(|_| now).or(known.heard);
    }

    /// Whether it was heard in answer to a question within `age`.
    pub(crate) fn is_heard_within(&self, age: Duration) -> bool {
        self.lock().heard.is_some_and(|heard| heard.elapsed() <= age)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the cluster's time is beyond the own monotonic clock once it was said, at some moment between `asked` and `now` of
/// that clock, to be `said`. What was known is kept if that can be, because a delay makes what is heard too old; what can't
/// be is moved no further than to where it can. All in milliseconds.
fn beyond_after(before: Option<i64>, said: i64, asked: Option<i64>, now: i64) -> i64 {
    let least = said.saturating_sub(now);
    let most = asked.map_or(i64::MAX, |asked| said.saturating_sub(asked)).max(least);
    before.map_or(least, |before| before.clamp(least, most))
}

fn millis(at: Instant) -> i64 {
    i64::try_from(at.as_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_heard_late_puts_it_neither_back_nor_ahead() {
        // The cluster is 1000 ahead of the monotonic clock. The first answer took from 90 to 110.
        let first = beyond_after(None, 1100, Some(90), 110);
        assert_eq!(first, 990);
        assert_eq!(beyond_after(Some(first), 1200, Some(195), 205), 995, "a quicker answer says more");
        assert_eq!(beyond_after(Some(1000), 1200, Some(200), 900), 1000, "this one was under way for long");
        assert_eq!(beyond_after(Some(1000), 1200, None, 900), 1000);
    }

    #[test]
    fn follows_the_cluster_ahead_and_back_and_a_clock_of_its_own_that_is_fast() {
        assert_eq!(beyond_after(Some(1000), 9000, None, 500), 8500);
        assert_eq!(beyond_after(Some(8500), 1500, Some(490), 510), 1010);
        assert_eq!(beyond_after(Some(8500), 1500, None, 510), 8500, "what nobody asked for may be of any age");
    }

    #[test]
    fn goes_on_from_what_was_heard() {
        seawall_host::real::install();
        let clock = ClusterClock::default();
        assert_eq!(clock.now(), UnixMillis(0));
        let heard = UnixMillis(1_700_000_000_000);
        let asked = Instant::now();
        clock.hear(heard, Some(asked));
        assert!(clock.is_heard_within(Duration::from_secs(3600)));
        assert!(!ClusterClock::at(heard).is_heard_within(Duration::from_secs(3600)));
        let (first, second) = (clock.now(), clock.now());
        assert!(heard <= first && first <= second);
        assert!(second.0 <= heard.0 + millis(Instant::now()) - millis(asked) + 1);
    }

    proptest! {
        #[test]
        fn once_an_answer_is_in_the_error_is_no_more_than_its_way_took(
            truth in 0_i64..1 << 40, before in prop::option::of(any::<i64>()), asked in 0_i64..1 << 40,
            there in 0_i64..10_000, back in 0_i64..10_000,
        ) {
            let said = truth + asked + there;
            let after = beyond_after(before, said, Some(asked), asked + there + back);
            prop_assert!((after - truth).abs() <= there.max(back));
            // Nothing true makes a clock worse that is right.
            prop_assert_eq!(beyond_after(Some(truth), said, Some(asked), asked + there + back), truth);
        }
    }
}
