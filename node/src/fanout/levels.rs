//! Where the merged objects of a destination end, and when the next one is due.

use std::time::Duration;

use seawall_host::time::UnixMillis;
use seawall_proto::checksum::Checksum;
use seawall_proto::object_name::Level;
use seawall_proto::position::{Lineage, Position, Txid};
use seawall_proto::v1;

use crate::destination::Windows;

/// The newest state that the objects of a level, or of one above it, lead to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// 0 while there is none, so that nothing can continue it.
    pub(super) txid: Txid,
    /// The database's checksum there.
    pub(super) checksum: Checksum,
    /// When level 0 first went beyond it; 0 while it has not.
    pub(super) opened: UnixMillis,
}

impl Mark {
    fn at(position: Position, opened: UnixMillis) -> Self {
        Self { txid: position.txid, checksum: position.checksum, opened }
    }

    /// The state itself.
    pub(super) fn position(self, lineage: Lineage) -> Position {
        Position { lineage, txid: self.txid, checksum: self.checksum }
    }
}

impl From<&v1::LevelMark> for Mark {
    fn from(mark: &v1::LevelMark) -> Self {
        Self { txid: Txid(mark.txid), checksum: Checksum(mark.checksum), opened: UnixMillis(mark.opened_ms) }
    }
}

impl From<Mark> for v1::LevelMark {
    fn from(mark: Mark) -> Self {
        Self { txid: mark.txid.0, checksum: mark.checksum.0, opened_ms: mark.opened.0 }
    }
}

/// How long it is until `interval` after `since`. A time that lies ahead is of a clock that was wrong: nobody waits for
/// it.
pub(super) fn until(since: UnixMillis, interval: Duration, now: UnixMillis) -> Duration {
    let age = u64::try_from(now.0.saturating_sub(since.0)).map(Duration::from_millis);
    age.map_or(Duration::ZERO, |age| interval.saturating_sub(age))
}

/// The marks of both merged levels. What a higher level reaches, the lower one has reached too: the next object of
/// either continues it, so that a chain can go down from level to level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) one: Mark,
    pub(super) two: Mark,
}

impl Marks {
    /// The mark of a merged level; none for the others.
    pub(super) fn of(&self, level: Level) -> Option<Mark> {
        match level {
            Level::One => Some(self.one),
            Level::Two => Some(self.two),
            Level::Log | Level::Snapshot => None,
        }
    }

    /// After an object of level 0 that leads to `state`. The first one is what the merged levels begin behind: merging
    /// it would send the whole database twice.
    pub(super) fn after_window(mut self, state: Position, now: UnixMillis) -> Self {
        for mark in [&mut self.one, &mut self.two] {
            if mark.txid == Txid::NONE {
                *mark = Mark::at(state, UnixMillis(0));
            } else if state.txid > mark.txid && mark.opened.0 == 0 {
                mark.opened = now;
            }
        }
        self
    }

    /// After an object of `level` that leads to `state`, begun at `begun` when level 0 led to `watermark`.
    pub(super) fn after_merged(mut self, level: Level, state: Position, watermark: Txid, begun: UnixMillis) -> Self {
        let opened = if watermark > state.txid { begun } else { UnixMillis(0) };
        for (mark, reached) in [(&mut self.one, Level::One), (&mut self.two, Level::Two)] {
            if level >= reached && state.txid > mark.txid {
                *mark = Mark::at(state, opened);
            }
        }
        self
    }

    /// The merged level that is due next and how long until then, where level 0 leads to `watermark`. Of two that are
    /// due it is the higher: what it merges, the lower one need not.
    pub(super) fn due(&self, watermark: Txid, windows: &Windows, now: UnixMillis) -> Option<(Level, Duration)> {
        let levels =
            [(Level::Two, self.two, windows.level_two_interval), (Level::One, self.one, windows.level_one_interval)];
        let waits = levels.into_iter().filter_map(|(level, mark, interval)| {
            if interval.is_zero() || mark.opened.0 == 0 || mark.txid == Txid::NONE || watermark <= mark.txid {
                return None;
            }
            Some((level, until(mark.opened, interval, now)))
        });
        waits.min_by_key(|(level, wait)| (*wait, std::cmp::Reverse(*level)))
    }

    /// The newest of them.
    pub(super) fn newest(&self) -> Txid {
        self.one.txid.max(self.two.txid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(txid: u64) -> Position {
        Position { lineage: Lineage(1), txid: Txid(txid), checksum: Checksum(txid * 7) }
    }

    fn windows() -> Windows {
        Windows {
            level_one_interval: Duration::from_secs(10),
            level_two_interval: Duration::from_secs(60),
            ..Windows::default()
        }
    }

    const fn seconds(seconds: i64) -> UnixMillis {
        UnixMillis(seconds * 1000)
    }

    #[test]
    fn the_first_window_is_not_merged_and_the_next_ones_are_after_their_interval() {
        let first = Marks::default().after_window(state(5), seconds(100));
        assert_eq!(first.due(Txid(5), &windows(), seconds(9_000)), None);
        assert_eq!(first.one.position(Lineage(1)), state(5));
        let next = first.after_window(state(8), seconds(200)).after_window(state(9), seconds(205));
        assert_eq!(next.due(Txid(9), &windows(), seconds(203)), Some((Level::One, Duration::from_secs(7))));
        assert_eq!(next.due(Txid(9), &windows(), seconds(150)), Some((Level::Two, Duration::ZERO)), "a wrong clock");
        let merged = next.after_merged(Level::One, state(9), Txid(9), seconds(210));
        assert_eq!(merged.due(Txid(9), &windows(), seconds(230)), Some((Level::Two, Duration::from_secs(30))));
        assert_eq!(merged.one, Mark { txid: Txid(9), checksum: Checksum(63), opened: UnixMillis(0) });
    }

    #[test]
    fn a_higher_level_stands_in_for_the_lower_ones() {
        let marks = Marks::default().after_window(state(5), seconds(1)).after_window(state(9), seconds(2));
        assert_eq!(marks.due(Txid(9), &windows(), seconds(1_000)), Some((Level::Two, Duration::ZERO)));
        let two = marks.after_merged(Level::Two, state(9), Txid(9), seconds(1_000));
        assert_eq!((two.one, two.two), (two.two, two.two));
        assert_eq!(two.due(Txid(9), &windows(), seconds(9_000)), None);
        let snapshot = marks.after_merged(Level::Snapshot, state(7), Txid(9), seconds(50));
        assert_eq!((snapshot.one.txid, snapshot.two.txid, snapshot.two.opened), (Txid(7), Txid(7), seconds(50)));
        // One of an image that was behind takes nothing back.
        let late = two.after_merged(Level::Snapshot, state(7), Txid(9), seconds(2_000));
        assert_eq!(late, two);
    }

    #[test]
    fn a_level_without_an_interval_is_not_made() {
        let windows = Windows { level_one_interval: Duration::ZERO, level_two_interval: Duration::ZERO, ..windows() };
        let marks = Marks::default().after_window(state(5), seconds(1)).after_window(state(9), seconds(2));
        assert_eq!(marks.due(Txid(9), &windows, seconds(99_999)), None);
    }
}
