//! What the faults of a place do with one request: a pure decision from faults and draws.

use std::ops::Range;
use std::time::Duration;

use crate::random::Random;

use super::faults::PlaceFaults;

/// What is asked of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Probe,
    Look,
    Create,
    Read,
    List,
    Delete,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    /// It is carried out and answered.
    Served,
    /// It is carried out, and the answer is lost.
    AnswerLost,
    /// Its caller hears of a time-out, and this long afterwards it is carried out.
    Late(Duration),
    /// It never arrives.
    RequestLost,
    /// The place cannot be reached, which is found out after this long.
    Unreachable(Duration),
    /// Its transfer breaks off after this share of it.
    BrokenOff(f64),
    /// Answered with 429 or 503.
    Throttled,
    /// Answered with 403.
    Refused,
}

/// What becomes of a request and its answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) fate: Fate,
    /// From the caller to the place.
    pub(super) outbound: Duration,
    /// And back.
    pub(super) inbound: Duration,
    /// How long the caller waits before it hears that no answer came.
    pub(super) time_out: Duration,
    /// Of each transfer.
    pub(super) bytes_per_second: Option<u64>,
    /// A listing shows what was there this long ago.
    pub(super) staleness: Duration,
    /// What is created is forgotten after this long.
    pub(super) forgotten_after: Option<Duration>,
    /// If another creation of the same name is under way, this one is told that the object exists.
    pub(super) conflicts: bool,
}

/// However slow a place is: what is under way when it gets well is not to last for hours.
pub const LONGEST_TRANSFER: Duration = Duration::from_secs(40);

impl Plan {
    /// How long `bytes` take.
    pub(super) fn transfer(&self, bytes: u64) -> Duration {
        let Some(rate) = self.bytes_per_second else { return Duration::ZERO };
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(LONGEST_TRANSFER)
    }
}

/// The draws of one request. Every request draws all of them, so that a fault that is switched off leaves what comes
/// after as it was.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Draws {
    outbound: Unit,
    inbound: Unit,
    time_out_after: Unit,
    time_out_before: Unit,
    late: Unit,
    late_by: Unit,
    broken: Unit,
    broken_at: Unit,
    burst: Unit,
    burst_length: Unit,
    stale: Unit,
    stale_by: Unit,
    lie: Unit,
    forgotten_after: Unit,
    unreachable: Unit,
    conflict: Unit,
}

impl Draws {
    pub(super) fn draw(random: &mut Random) -> Self {
        let mut unit = || Unit((random.u64() >> 11) as f64 / (1_u64 << 53) as f64);
        Self {
            outbound: unit(),
            inbound: unit(),
            time_out_after: unit(),
            time_out_before: unit(),
            late: unit(),
            late_by: unit(),
            broken: unit(),
            broken_at: unit(),
            burst: unit(),
            burst_length: unit(),
            stale: unit(),
            stale_by: unit(),
            lie: unit(),
            forgotten_after: unit(),
            unreachable: unit(),
            conflict: unit(),
        }
    }
}

/// A draw from 0 to 1, 1 left out.
#[derive(Clone, Copy, Debug, Default)]
struct Unit(f64);

impl Unit {
    fn is_within(self, share: f64) -> bool {
        self.0 < share
    }

    fn of(self, range: &Range<Duration>) -> Duration {
        range.start + range.end.saturating_sub(range.start).mul_f64(self.0)
    }

    fn up_to(self, longest: Duration) -> Duration {
        longest.mul_f64(self.0)
    }
}

/// Decides what becomes of a request of `kind` that is sent at `now`; `throttled_until` is when the current burst of
/// refusals ends.
pub(super) fn plan(
    faults: &PlaceFaults,
    kind: Kind,
    now: Duration,
    throttled_until: &mut Duration,
    draws: &Draws,
) -> Plan {
    if draws.burst.is_within(faults.throttling) && now >= *throttled_until {
        *throttled_until = now + draws.burst_length.of(&faults.burst);
    }
    let creates = kind == Kind::Create;
    let fate = if faults.gone {
        Fate::Unreachable(draws.unreachable.up_to(faults.time_out))
    } else if faults.refuses {
        Fate::Refused
    } else if now < *throttled_until {
        Fate::Throttled
    } else if draws.time_out_before.is_within(faults.time_out_before) {
        Fate::RequestLost
    } else if creates && draws.broken.is_within(faults.broken_uploads) {
        Fate::BrokenOff(draws.broken_at.0)
    } else if creates && draws.late.is_within(faults.late_creations) {
        Fate::Late(draws.late_by.up_to(faults.latest_creation))
    } else if draws.time_out_after.is_within(faults.time_out_after) {
        Fate::AnswerLost
    } else {
        Fate::Served
    };
    let stale = kind == Kind::List && draws.stale.is_within(faults.stale_listings);
    // The lower half of the draw forgets at once, the upper one is spread over the time that there is.
    let forgotten_after = faults.forgets_within.mul_f64((draws.forgotten_after.0 - 0.5).max(0.0) * 2.0);
    Plan {
        fate,
        outbound: draws.outbound.of(&faults.latency) + draws.outbound.of(&faults.delay),
        inbound: draws.inbound.of(&faults.latency) + draws.inbound.of(&faults.delay),
        time_out: faults.time_out,
        bytes_per_second: faults.bytes_per_second,
        staleness: if stale { draws.stale_by.up_to(faults.staleness) } else { Duration::ZERO },
        forgotten_after: (creates && draws.lie.is_within(faults.lying)).then_some(forgotten_after),
        conflicts: creates && draws.conflict.is_within(faults.conflicts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    const ALL: [Kind; 6] = [Kind::Probe, Kind::Look, Kind::Create, Kind::Read, Kind::List, Kind::Delete];

    /// The plan of a request that is the first one.
    fn first(faults: &PlaceFaults, kind: Kind, draws: &Draws) -> Plan {
        let mut throttled_until = Duration::ZERO;
        plan(faults, kind, Duration::ZERO, &mut throttled_until, draws)
    }

    fn fate(faults: &PlaceFaults, kind: Kind) -> Fate {
        first(faults, kind, &Draws::default()).fate
    }

    #[test]
    fn without_faults_everything_is_served_at_once() {
        let mut random = Random::new(1, Stream::Destination);
        for kind in ALL {
            let plan = first(&PlaceFaults::default(), kind, &Draws::draw(&mut random));
            assert_eq!(plan.fate, Fate::Served);
            assert_eq!((plan.outbound, plan.inbound, plan.staleness), Default::default());
            assert_eq!(plan.forgotten_after, None);
            assert!(!plan.conflicts);
            assert_eq!(plan.transfer(u64::MAX), Duration::ZERO);
        }
    }

    #[test]
    fn what_befalls_transfers_befalls_creations_alone() {
        let broken = PlaceFaults { broken_uploads: 1.0, ..PlaceFaults::default() };
        let late = PlaceFaults { late_creations: 1.0, ..PlaceFaults::default() };
        for kind in ALL {
            assert_eq!(matches!(fate(&broken, kind), Fate::BrokenOff(_)), kind == Kind::Create);
            assert_eq!(matches!(fate(&late, kind), Fate::Late(_)), kind == Kind::Create);
        }
    }

    #[test]
    fn a_place_that_is_gone_answers_nothing_else() {
        let faults = PlaceFaults { gone: true, refuses: true, time_out_before: 1.0, ..PlaceFaults::default() };
        for kind in ALL {
            assert!(matches!(fate(&faults, kind), Fate::Unreachable(_)));
        }
    }

    #[test]
    fn a_burst_lasts_and_ends() {
        let mut faults = PlaceFaults {
            throttling: 1.0,
            burst: Duration::from_secs(2)..Duration::from_secs(2),
            ..PlaceFaults::default()
        };
        let mut until = Duration::ZERO;
        let mut at = |faults: &PlaceFaults, seconds| {
            plan(faults, Kind::Read, Duration::from_secs(seconds), &mut until, &Draws::default()).fate
        };
        assert_eq!(at(&faults, 10), Fate::Throttled);
        faults.throttling = 0.0;
        assert_eq!(at(&faults, 11), Fate::Throttled);
        assert_eq!(at(&faults, 12), Fate::Served);
    }

    #[test]
    fn shares_hold_over_many_requests() {
        let faults = PlaceFaults { time_out_after: 0.25, lying: 0.5, ..PlaceFaults::default() };
        let mut random = Random::new(7, Stream::Destination);
        let plans: Vec<_> = (0..4000).map(|_| first(&faults, Kind::Create, &Draws::draw(&mut random))).collect();
        let lost = plans.iter().filter(|plan| plan.fate == Fate::AnswerLost).count();
        assert!((800..1200).contains(&lost), "{lost}");
        let forgotten: Vec<_> = plans.iter().filter_map(|plan| plan.forgotten_after).collect();
        assert!((1800..2200).contains(&forgotten.len()), "{}", forgotten.len());
        let at_once = forgotten.iter().filter(|after| after.is_zero()).count();
        assert!((900..1100).contains(&at_once), "{at_once}");
    }

    #[test]
    fn a_fault_that_is_off_leaves_later_draws_alone() {
        let some = PlaceFaults { throttling: 0.1, time_out_after: 0.3, ..PlaceFaults::default() };
        let more = PlaceFaults { stale_listings: 1.0, ..some.clone() };
        let fates = |faults: &PlaceFaults| -> Vec<Fate> {
            let mut random = Random::new(3, Stream::Destination);
            let decide = |_| first(faults, Kind::List, &Draws::draw(&mut random));
            (0..100).map(decide).map(|plan| plan.fate).collect()
        };
        assert_eq!(fates(&some), fates(&more));
    }

    #[test]
    fn a_slow_place_is_as_fast_as_before_once_it_is_healed() {
        let near =
            PlaceFaults { latency: Duration::from_millis(3)..Duration::from_millis(4), ..PlaceFaults::default() };
        let slow = PlaceFaults { delay: Duration::from_secs(1)..Duration::from_secs(2), ..near.clone() };
        let draws = Draws::draw(&mut Random::new(5, Stream::Destination));
        assert!(first(&slow, Kind::Look, &draws).outbound > Duration::from_secs(1));
        assert_eq!(first(&slow.healed(), Kind::Look, &draws), first(&near, Kind::Look, &draws));
    }

    #[test]
    fn transfers_take_their_time() {
        let faults = PlaceFaults { bytes_per_second: Some(1000), ..PlaceFaults::default() };
        let plan = first(&faults, Kind::Read, &Draws::default());
        assert_eq!(plan.transfer(2500), Duration::from_millis(2500));
    }
}
