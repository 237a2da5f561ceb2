//! What this node knows of the other voters' wall clocks, each held against its own monotonic clock.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use seawall_host::probe::mutant;
use seawall_host::time::{Instant, UnixMillis};

use super::cluster_time::cluster_time;

/// A clock that was read within an answer that took longer says too little.
const LONGEST_ANSWER: Duration = Duration::from_secs(1);
/// A clock that was read counts for so long: the monotonic clock it is carried on by may be a few tenths of a second off
/// by then. So the clocks of a node that is down for a while still take part.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// A wall clock as it was read.
#[derive(Clone, Copy)]
struct Reading {
    /// What it shows beyond this node's monotonic clock, milliseconds.
    beyond: i64,
    read: Instant,
}

/// Where what is known is kept.
#[derive(Default)]
pub(super) struct ClockBoard {
    readings: Mutex<BTreeMap<u64, Reading>>,
}

impl ClockBoard {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Reading>> {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The clock of `voter`, asked at `asked` and heard at `now`, showed `shown`: when half of that time had passed.
    pub(super) fn said(&self, voter: u64, shown: UnixMillis, asked: Instant, now: Instant) {
        let took = now - asked;
        if took <= LONGEST_ANSWER {
            let middle = asked + took / 2;
            self.lock().insert(voter, Reading { beyond: shown.0.saturating_sub(millis(middle)), read: middle });
        }
    }

    /// Forgets who is no other voter any more.
    pub(super) fn voters_are(&self, is_voter: impl Fn(u64) -> bool) {
        self.lock().retain(|id, _| is_voter(*id));
    }

    /// The time of a cluster that has these voters, of which this node may be one, by its clocks.
    pub(super) fn cluster_time(&self, voters: impl Iterator<Item = u64>, own: OwnClocks) -> Option<UnixMillis> {
        if mutant("cluster-time-from-one-clock") {
            return Some(own.wall);
        }
        let readings = self.lock();
        let carried_on = |reading: &Reading| {
            let counts = own.monotonic - reading.read <= REMEMBERED;
            counts.then(|| UnixMillis(millis(own.monotonic).saturating_add(reading.beyond)))
        };
        let clock = |id| if id == own.voter { Some(own.wall) } else { readings.get(&id).and_then(carried_on) };
        cluster_time(&voters.map(clock).collect::<Vec<_>>())
    }
}

/// The clocks of this node, as they show now.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnClocks {
    /// Whose they are.
    pub(super) voter: u64,
    pub(super) wall: UnixMillis,
    pub(super) monotonic: Instant,
}

impl OwnClocks {
    /// Looks at them.
    pub(super) fn of(voter: u64) -> Self {
        Self { voter, wall: UnixMillis::now(), monotonic: Instant::now() }
    }
}

fn millis(at: Instant) -> i64 {
    i64::try_from(at.as_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
    const HOUR: i64 = 3_600_000;

    /// Node 1's clocks when its monotonic clock shows so many seconds, and its wall clock is right.
    fn own(seconds: u64) -> OwnClocks {
        OwnClocks { voter: 1, wall: UnixMillis(NOW.0 + 1000 * seconds as i64), monotonic: at(seconds) }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn show(ahead: i64) -> UnixMillis {
        UnixMillis(NOW.0 + ahead)
    }

    fn time(board: &ClockBoard, voters: &[u64], seconds: u64) -> Option<i64> {
        board.cluster_time(voters.iter().copied(), own(seconds)).map(|time| time.0 - own(seconds).wall.0)
    }

    #[test]
    fn needs_a_majority_of_the_voters_and_goes_on_with_the_monotonic_clock() {
        let board = ClockBoard::default();
        assert_eq!(time(&board, &[1], 0), Some(0));
        assert_eq!(time(&board, &[], 0), None);
        assert_eq!(time(&board, &[1, 2, 3], 0), None);
        board.said(2, show(-HOUR), at(0), at(0));
        assert_eq!(time(&board, &[1, 2, 3], 0), Some(-HOUR));
        assert_eq!(time(&board, &[1, 2, 3], 100), Some(-HOUR));
        board.said(3, show(2 * HOUR), at(0), at(0));
        assert_eq!(time(&board, &[1, 2, 3], 100), Some(0), "this node's clock is the one in the middle");
        // Without a vote its own clock does not count.
        assert_eq!(time(&board, &[2, 3, 4, 5], 100), None);
        board.voters_are(|id| id == 3);
        assert_eq!(time(&board, &[2, 3], 100), None);
    }

    #[test]
    fn a_clock_was_read_at_the_middle_of_the_way_there_and_back() {
        let board = ClockBoard::default();
        board.said(2, show(9_500), at(9), at(10));
        assert_eq!(time(&board, &[2], 10), Some(0));
        board.said(2, show(0), at(20), at(22));
        assert_eq!(time(&board, &[2], 22), Some(0), "an answer that took too long says nothing");
    }

    #[test]
    fn a_clock_that_was_read_long_ago_does_not_count() {
        let board = ClockBoard::default();
        board.said(2, show(0), at(0), at(0));
        assert_eq!(time(&board, &[1, 2], 3600), Some(0));
        assert_eq!(time(&board, &[1, 2], 3601), None);
    }
}
