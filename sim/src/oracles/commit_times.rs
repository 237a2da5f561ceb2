//! Commit times are the cluster's: the same everywhere, never falling, and true as far as the clocks of the nodes are.
//!
//! Source: the promise of `restore --timestamp`, the last commit at or before a time, and ADR 10. The clock of an
//! application's machine has no part in it, and no minority of the nodes' clocks puts it ahead.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, Txid};

/// What an honest product may be off beside what clocks were moved by, milliseconds: an agent takes the answer to its
/// claim, which may have been under way for ten seconds, for as old as it can be; segments are seen some time after they
/// were let in; nodes stand still between two looks at a clock.
const SLACK_MS: i64 = 20_000;
/// And for each second of the run, because clocks run up to a tenth too fast or too slow: a node's wall clock does, the
/// monotonic clock by which the leader carries on what it read of another's, and the one by which an agent carries on what
/// it heard.
const DRIFT_MS_PER_SECOND: i64 = 300;

/// Commit times of whole segments, milliseconds, by the last transaction of each.
#[derive(Clone, Debug, Default)]
pub struct CommitTimes {
    databases: BTreeMap<DatabaseName, BTreeMap<(Lineage, Txid), i64>>,
}

/// What is truly known of a segment, and of the clocks.
#[derive(Clone, Debug)]
pub struct Truth {
    /// When its last transaction was committed, since the world began; `None` if that is not known.
    pub committed: Option<Duration>,
    /// When it was first seen in a position log.
    pub seen: Duration,
    /// For each node: the least and the most that its wall clock was ever moved by, milliseconds.
    pub moved: Vec<RangeInclusive<i64>>,
}

impl CommitTimes {
    /// A position log says that the segment of `database` that ends with `txid` was committed at `time`. Answers whether it
    /// is news.
    ///
    /// # Errors
    /// In words: another time was seen, or time falls.
    pub fn observe(&mut self, database: &DatabaseName, at: (Lineage, Txid), time: i64) -> Result<bool, String> {
        if !self.databases.contains_key(database) {
            self.databases.insert(database.clone(), BTreeMap::new());
        }
        let Some(times) = self.databases.get_mut(database) else { return Ok(false) };
        let (lineage, txid) = at;
        if let Some(known) = times.get(&at) {
            let differs = format!("`{database}` @{lineage}/{txid} was committed at {known}, and at {time}");
            return if *known == time { Ok(false) } else { Err(differs) };
        }
        let before = times.range((lineage, Txid::NONE)..at).next_back();
        let after = times.range(at..=(lineage, Txid(u64::MAX))).next();
        for (other, falls) in
            [(before, before.is_some_and(|it| *it.1 > time)), (after, after.is_some_and(|it| *it.1 < time))]
        {
            if let Some(((_, other), known)) = other.filter(|_| falls) {
                return Err(format!(
                    "`{database}` @{lineage}/{txid} was committed at {time}, @{lineage}/{other} at {known}"
                ));
            }
        }
        times.insert(at, time);
        Ok(true)
    }

    /// The commit times of a lineage, in order.
    pub fn of(&self, database: &DatabaseName) -> Vec<((Lineage, Txid), i64)> {
        self.databases.get(database).into_iter().flatten().map(|(at, time)| (*at, *time)).collect()
    }

    /// Judges a restore of a lineage as of `time`, which gave `txid`: the last that was committed at or before then, unless
    /// what was restored from `may_lack` some.
    ///
    /// # Errors
    /// In words: it is a later one, or an earlier one.
    pub fn judge(
        &self,
        database: &DatabaseName,
        lineage: Lineage,
        time: i64,
        txid: Txid,
        may_lack: bool,
    ) -> Result<(), String> {
        let within = |((of, _), _): &(&(Lineage, Txid), &i64)| *of == lineage;
        let times = || self.databases.get(database).into_iter().flatten().filter(within);
        let last = times().rfind(|(_, committed)| **committed <= time);
        // Where several transactions make up a segment, the first of them may have been earlier than the last.
        let next = times().find(|(_, committed)| **committed > time);
        if let Some(((_, next), committed)) = next.filter(|((_, next), _)| txid >= *next) {
            return Err(format!("{txid} was given for {time}, but {next} was committed at {committed}"));
        }
        match last {
            Some(((_, last), committed)) if txid < *last && !may_lack => {
                Err(format!("{txid} was given for {time}, but {last} was committed at {committed}"))
            }
            _ => Ok(()),
        }
    }
}

/// Checks the commit time of a segment (milliseconds since the world began) against the truth.
///
/// It may be ahead of the moment at which it was first seen by what a *majority* of the nodes' clocks were ever ahead by; an
/// agent's own clock is no excuse. It may be behind the true moment of the commit by what the *one* of them was that was
/// furthest behind: where others are silent, one is enough, and that does no lasting harm. That nodes' clocks go back to
/// right does not help those commits that were stamped meanwhile, nor those whose times must not fall below theirs, so that
/// what counts is how far a clock was ever moved.
///
/// # Errors
/// In words: it is too late or too early.
pub fn check(time: i64, truth: &Truth) -> Result<(), String> {
    let tolerance = SLACK_MS + millis(truth.seen) * DRIFT_MS_PER_SECOND / 1000;
    let mut ahead: Vec<i64> = truth.moved.iter().map(|moved| *moved.end()).collect();
    ahead.sort_unstable_by(|a, b| b.cmp(a));
    let ahead = ahead.get(ahead.len() / 2).copied().unwrap_or(0);
    let latest = millis(truth.seen) + ahead + tolerance;
    if time > latest {
        return Err(format!(
            "its time is {time} ms, which was still to come: it was seen at {} ms",
            millis(truth.seen)
        ));
    }
    let behind = truth.moved.iter().map(|moved| *moved.start()).min().unwrap_or(0);
    match truth.committed.map(millis) {
        Some(committed) if time < committed + behind - tolerance => {
            Err(format!("its time is {time} ms, but it was committed at {committed} ms"))
        }
        _ => Ok(()),
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn at(lineage: u64, txid: u64) -> (Lineage, Txid) {
        (Lineage(lineage), Txid(txid))
    }

    fn truth(moved: &[RangeInclusive<i64>]) -> Truth {
        let (committed, seen) = (Some(Duration::from_secs(9)), Duration::from_secs(10));
        Truth { committed, seen, moved: moved.to_vec() }
    }

    #[test]
    fn times_never_fall_and_are_the_same_everywhere() {
        let mut times = CommitTimes::default();
        let (app, other) = ("app".parse().unwrap(), "other".parse().unwrap());
        assert_eq!(times.observe(&app, at(1, 5), 100), Ok(true));
        assert_eq!(times.observe(&app, at(1, 9), 100), Ok(true));
        assert_eq!(times.observe(&app, at(1, 5), 100), Ok(false));
        assert!(times.observe(&app, at(1, 5), 101).unwrap_err().contains("101"));
        assert!(times.observe(&app, at(1, 12), 99).is_err());
        assert!(times.observe(&app, at(1, 2), 101).is_err());
        assert_eq!(times.observe(&app, at(1, 7), 100), Ok(true));
        assert_eq!(times.observe(&app, at(2, 1), 3), Ok(true), "a lineage has times of its own");
        assert_eq!(times.observe(&other, at(1, 12), 3), Ok(true));
        assert_eq!(times.of(&other), [(at(1, 12), 3)]);
    }

    #[test]
    fn a_restore_of_a_time_gives_the_last_committed_by_then() {
        let mut times = CommitTimes::default();
        let app = "app".parse().unwrap();
        for (txid, time) in [(3, 10), (5, 20), (6, 20), (9, 30)] {
            times.observe(&app, at(1, txid), time).unwrap();
        }
        times.observe(&app, at(2, 1), 5).unwrap();
        let judge = |time, txid, may_lack| times.judge(&app, Lineage(1), time, Txid(txid), may_lack);
        assert!(judge(20, 6, false).is_ok() && judge(29, 6, false).is_ok() && judge(99, 9, false).is_ok());
        assert!(judge(20, 5, false).is_err() && judge(20, 5, true).is_ok());
        assert!(judge(29, 9, true).is_err() && judge(9, 3, true).is_err());
        // The segment that ends with 9 may have begun in time.
        assert!(judge(29, 8, false).is_ok());
    }

    #[test]
    fn a_time_to_come_is_told_unless_a_majority_of_the_clocks_was_ahead() {
        let later = 10_000 + HOUR;
        assert!(check(10_000, &truth(&[0..=0, 0..=0, 0..=0])).is_ok());
        assert!(check(later, &truth(&[0..=0, 0..=0, 0..=0])).unwrap_err().contains("still to come"));
        assert!(check(later, &truth(&[0..=2 * HOUR, 0..=0, 0..=0])).is_err());
        assert!(check(later, &truth(&[0..=2 * HOUR, 0..=0, 0..=HOUR])).is_ok());
        assert!(check(later, &truth(&[0..=2 * HOUR])).is_ok());
        assert!(check(later, &truth(&[0..=HOUR, 0..=HOUR, 0..=0, 0..=0, 0..=0])).is_err());
    }

    #[test]
    fn a_time_before_the_commit_is_told_unless_a_clock_was_behind() {
        assert!(check(9_000 - HOUR, &truth(&[0..=0, 0..=0, 0..=0])).unwrap_err().contains("committed at"));
        assert!(check(9_000 - HOUR, &truth(&[0..=0, -HOUR..=0, 0..=0])).is_ok());
        assert!(check(9_000 - 2 * HOUR, &truth(&[0..=0, -HOUR..=0, 0..=0])).is_err());
        assert!(check(-HOUR, &Truth { committed: None, ..truth(&[0..=0]) }).is_ok());
    }
}
