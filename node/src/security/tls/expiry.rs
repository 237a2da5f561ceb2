//! Saying that a certificate ends before it does.

use std::path::Path;
use std::time::Duration;

use seawall_host::time::{Instant, UnixMillis};

const DAY: u64 = 86_400;
/// From so long before its end on a certificate is spoken of.
const SOON: u64 = 14 * DAY;
/// How often it is spoken of then.
const TELL_EVERY: Duration = Duration::from_hours(12);
/// How often once it is over.
const COMPLAIN_EVERY: Duration = Duration::from_mins(10);

/// How a certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is valid for long.
    Fine,
    /// It has so many days left.
    Soon(u64),
    /// It is over.
    Over,
}

/// How a certificate that ends at `not_after` stands at `now`, both in seconds since 1970.
pub(super) fn standing(not_after: u64, now: u64) -> Standing {
    match not_after.checked_sub(now) {
        None | Some(0) => Standing::Over,
        Some(left) if left < SOON => Standing::Soon(left / DAY),
        Some(_) => Standing::Fine,
    }
}

/// Speaks of the end of one certificate, not too often.
#[derive(Debug, Default)]
pub(super) struct Reminder {
    said: Option<(Standing, Instant)>,
}

impl Reminder {
    /// Says what there is to say of the certificate in `file`, and keeps its metric.
    pub(super) fn look(&mut self, file: &Path, not_after: u64) {
        metrics::gauge!("seawall_certificate_expiry_timestamp_seconds").set(not_after as f64);
        let now = u64::try_from(UnixMillis::now().0 / 1000).unwrap_or_default();
        let standing = standing(not_after, now);
        if !self.is_due(standing) {
            return;
        }
        self.said = Some((standing, Instant::now()));
        let file = file.display();
        let advice = "renew it (`seawall cert --renew`); it is taken without a restart";
        match standing {
            Standing::Fine => {}
            Standing::Soon(days) => tracing::warn!(%file, days, "the certificate ends soon: {advice}"),
            Standing::Over => tracing::error!(%file, "the certificate is over, and nobody takes it: {advice}"),
        }
    }

    fn is_due(&self, standing: Standing) -> bool {
        let Some((said, at)) = self.said else { return true };
        let every = if standing == Standing::Over { COMPLAIN_EVERY } else { TELL_EVERY };
        let is_other = std::mem::discriminant(&said) != std::mem::discriminant(&standing);
        is_other || at.elapsed() >= every
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_spoken_of_two_weeks_before() {
        let now = 1_800_000_000;
        for (left, expected) in [
            (15 * DAY, Standing::Fine),
            (SOON, Standing::Fine),
            (SOON - 1, Standing::Soon(13)),
            (DAY, Standing::Soon(1)),
        ] {
            assert_eq!(standing(now + left, now), expected, "{left}");
        }
        assert_eq!(standing(now + 1, now), Standing::Soon(0));
        assert_eq!(standing(now, now), Standing::Over);
        assert_eq!(standing(now - 1, now), Standing::Over);
        assert_eq!(standing(0, u64::MAX), Standing::Over);
    }

    #[test]
    fn the_same_is_not_said_again_at_once() {
        seawall_host::real::install();
        let mut reminder = Reminder::default();
        assert!(reminder.is_due(Standing::Soon(3)));
        reminder.said = Some((Standing::Soon(3), Instant::now()));
        assert!(!reminder.is_due(Standing::Soon(2)));
        assert!(reminder.is_due(Standing::Over) && reminder.is_due(Standing::Fine));
    }
}
