//! What a lane does next, decided on plain values.

use std::time::Duration;

use seawall_host::time::{Instant, UnixMillis};
use seawall_proto::checksum::Checksum;
use seawall_proto::object_name::{Level, ObjectName};
use seawall_proto::position::{Lineage, Position, Txid};
use seawall_proto::v1;

use super::FanoutOptions;
use super::levels::{Mark, Marks, until};
use crate::destination::Windows;
use crate::replica::SegmentRecord;

/// How far a destination holds a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneProgress {
    /// The history this is about.
    pub(super) lineage: Lineage,
    /// The state at exactly this txid can be rebuilt from there.
    pub(super) watermark: Txid,
    /// The newest snapshot there; 0 if none.
    pub(super) snapshot: Txid,
    /// Bytes uploaded since that snapshot of merged objects, or of level 0 where nothing is merged: what a restore reads
    /// beside it, but for the newest windows.
    pub(super) bytes_since_snapshot: u64,
    /// When that snapshot was taken; while there is none, when the first object was uploaded; 0 before.
    pub(super) snapshot_time: UnixMillis,
    /// Where its merged objects end.
    pub(super) marks: Marks,
}

impl LaneProgress {
    /// What the cluster agreed on, or nothing if that was about another lineage.
    pub(super) fn replicated(lineage: Lineage, progress: Option<&v1::DestinationProgress>) -> Self {
        match progress.filter(|progress| progress.lineage == lineage.0) {
            Some(progress) => Self {
                lineage,
                watermark: Txid(progress.watermark),
                snapshot: Txid(progress.snapshot),
                bytes_since_snapshot: progress.bytes_since_snapshot,
                snapshot_time: UnixMillis(progress.snapshot_time_ms),
                marks: Marks {
                    one: progress.level_one.as_ref().map(Mark::from).unwrap_or_default(),
                    two: progress.level_two.as_ref().map(Mark::from).unwrap_or_default(),
                },
            },
            None => Self {
                lineage,
                watermark: Txid::NONE,
                snapshot: Txid::NONE,
                bytes_since_snapshot: 0,
                snapshot_time: UnixMillis(0),
                marks: Marks::default(),
            },
        }
    }

    /// This progress after an object of level 0 that leads to `state`; `bytes` of it count towards the next snapshot.
    pub(super) fn after_window(mut self, state: Position, bytes: u64, now: UnixMillis) -> Self {
        self.watermark = self.watermark.max(state.txid);
        self.marks = self.marks.after_window(state, now);
        // What the snapshot holds already, because it overtook the log, is not since then.
        if self.watermark > self.snapshot {
            self.bytes_since_snapshot = self.bytes_since_snapshot.saturating_add(bytes);
        }
        if self.snapshot_time.0 == 0 {
            self.snapshot_time = now;
        }
        self
    }

    /// This progress after an object of level 1 or 2 that leads to `state`, with so many bytes, begun at `begun`.
    pub(super) fn after_merged(mut self, level: Level, state: Position, bytes: u64, begun: UnixMillis) -> Self {
        self.bytes_since_snapshot = self.bytes_since_snapshot.saturating_add(bytes);
        self.marks = self.marks.after_merged(level, state, self.watermark, begun);
        self
    }

    /// This progress after a snapshot of `state`, which was begun at `begun` when `bytes_before` bytes had been counted.
    /// Where the log no longer has what follows the watermark (`gap`), history goes on from the snapshot.
    pub(super) fn after_snapshot(mut self, state: Position, begun: UnixMillis, bytes_before: u64, gap: bool) -> Self {
        let txid = state.txid;
        self.snapshot = self.snapshot.max(txid);
        self.snapshot_time = begun;
        if gap {
            self.watermark = self.watermark.max(txid);
        }
        self.marks = self.marks.after_merged(Level::Snapshot, state, self.watermark, begun);
        let all = self.snapshot >= self.watermark;
        self.bytes_since_snapshot = if all { 0 } else { self.bytes_since_snapshot.saturating_sub(bytes_before) };
        self
    }
}

/// How taking a segment into a window ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is the window's last now.
    Yes,
    /// It belongs into the next window: this one is full.
    Full,
    /// Transactions are missing before it.
    Gap,
}

/// How much a window takes in.
#[derive(Clone, Copy, Debug)]
pub(super) struct WindowLimits {
    /// Bytes of its segments.
    pub(super) bytes: u64,
    /// Its segments.
    pub(super) segments: usize,
}

/// Adjacent segments that become one object of level 0.
#[derive(Clone, Debug)]
pub(super) struct Window {
    after: Txid,
    segments: Vec<SegmentRecord>,
    bytes: u64,
    opened: Option<Instant>,
    full: bool,
}

impl Window {
    /// An empty window for what follows `after`.
    pub(super) fn new(after: Txid) -> Self {
        Self { after, segments: Vec::new(), bytes: 0, opened: None, full: false }
    }

    /// Takes in the next segment if it fits: a window is within its limits, or one larger segment.
    pub(super) fn take(&mut self, record: SegmentRecord, now: Instant, limits: WindowLimits) -> Taken {
        if record.first > self.last().next() || record.last <= self.last() {
            return Taken::Gap;
        }
        if let Some(last) = self.segments.last() {
            let fits = self.bytes.saturating_add(record.bytes) <= limits.bytes
                && self.segments.len() < limits.segments
                // One segment has one page size, and overlapping ones cannot be joined.
                && record.page_size == last.page_size
                && record.lineage == last.lineage
                && record.first == last.last.next();
            if !fits {
                self.full = true;
            }
        }
        if self.full {
            return Taken::Full;
        }
        self.bytes = self.bytes.saturating_add(record.bytes);
        self.segments.push(record);
        self.opened.get_or_insert(now);
        self.full = self.bytes >= limits.bytes;
        Taken::Yes
    }

    /// Nothing more is taken in: what was tried to be uploaded once is tried again just so.
    pub(super) fn seal(&mut self) {
        self.full = true;
    }

    /// The state that its last transaction leads to; only its txid is known of an empty one.
    pub(super) fn state(&self) -> Position {
        let last = self.segments.last();
        Position {
            lineage: last.map_or(Lineage(0), |record| record.lineage),
            txid: self.last(),
            checksum: last.map_or(Checksum::EMPTY, |record| record.checksum_after),
        }
    }

    /// The last transaction inside, or that before the window.
    pub(super) fn last(&self) -> Txid {
        self.segments.last().map_or(self.after, |record| record.last)
    }

    /// The segments, in order.
    pub(super) fn segments(&self) -> &[SegmentRecord] {
        &self.segments
    }

    /// Encoded bytes of the segments.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When the oldest segment inside was first seen.
    pub(super) fn opened(&self) -> Option<Instant> {
        self.opened
    }

    /// Whether nothing more is taken in.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// The object this window becomes, and the checksum it continues.
    pub(super) fn object(&self) -> Option<(ObjectName, Checksum)> {
        let (first, last) = (self.segments.first()?, self.segments.last()?);
        let name = ObjectName {
            lineage: last.lineage,
            level: Level::Log,
            first: first.first,
            last: last.last,
            checksum_after: last.checksum_after,
        };
        Some((name, first.checksum_before))
    }
}

/// What a lane knows when it decides.
#[derive(Debug)]
pub(super) struct Situation<'a> {
    pub(super) now: Instant,
    pub(super) wall_clock: UnixMillis,
    pub(super) windows: &'a Windows,
    pub(super) progress: LaneProgress,
    pub(super) window: &'a Window,
    /// The log no longer has what follows the watermark.
    pub(super) gap: bool,
    /// Someone waits for this txid at the destination.
    pub(super) close_to: Txid,
    /// No upload of a window before this, because the last one failed.
    pub(super) retry_at: Option<Instant>,
    /// A snapshot or a merged object is under way.
    pub(super) merge_running: bool,
    /// A snapshot at this txid or later was asked for.
    pub(super) snapshot_wanted: Option<Txid>,
    /// No snapshot before this, because the last one failed.
    pub(super) snapshot_retry_at: Option<Instant>,
    /// No merged object before this, because the last one failed.
    pub(super) merge_retry_at: Option<Instant>,
    /// The database's size.
    pub(super) database_bytes: u64,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Upload the window as it is.
    UploadWindow,
    /// Begin an object of this level, a snapshot or a merged one, at this txid or later.
    Begin(Level, Txid),
    /// Nothing until something changes, or this moment.
    Wait(Option<Instant>),
}

/// What a lane does next.
pub(super) fn decide(situation: &Situation<'_>) -> Step {
    let Situation { now, window, progress, .. } = *situation;
    let snapshot_at = snapshot_at(situation);
    // No object ends before another one of its level, or of one below, so that they continue one another; but where
    // nothing was committed since, it ends where that one does.
    let newest = progress.marks.newest();
    if snapshot_at.is_some_and(|at| at <= now) {
        let at_least = match situation.snapshot_wanted {
            _ if situation.gap => progress.watermark.next().max(progress.snapshot.next()),
            Some(wanted) => wanted,
            None => progress.snapshot.next(),
        };
        return Step::Begin(Level::Snapshot, at_least.max(newest));
    }
    let merged_at = merged_at(situation);
    if let Some((level, at)) = merged_at
        && at <= now
    {
        return Step::Begin(level, progress.watermark.max(newest));
    }
    let upload_at = upload_at(situation);
    if upload_at.is_some_and(|at| at <= now) && !window.segments().is_empty() {
        return Step::UploadWindow;
    }
    Step::Wait(upload_at.into_iter().chain(snapshot_at).chain(merged_at.map(|(_, at)| at)).min())
}

/// When the window is due.
fn upload_at(situation: &Situation<'_>) -> Option<Instant> {
    let window = situation.window;
    if situation.gap {
        return None;
    }
    let opened = window.opened()?;
    let first = window.segments().first()?.first;
    let awaited = situation.close_to >= first && situation.close_to > situation.progress.watermark;
    let due = if window.is_full() || awaited { opened } else { opened + situation.windows.upload_interval };
    Some(situation.retry_at.map_or(due, |retry_at| due.max(retry_at)))
}

/// When a snapshot is due; `None` while one is under way and for a database that did not change since the last.
fn snapshot_at(situation: &Situation<'_>) -> Option<Instant> {
    let Situation { now, wall_clock, windows, progress, .. } = *situation;
    if situation.merge_running {
        return None;
    }
    let due = if situation.gap || situation.snapshot_wanted.is_some() {
        now
    } else if progress.watermark <= progress.snapshot {
        return None;
    } else if progress.bytes_since_snapshot > situation.database_bytes.max(windows.snapshot_min_bytes) {
        now
    } else {
        now + until(progress.snapshot_time, windows.snapshot_interval, wall_clock)
    };
    Some(situation.snapshot_retry_at.map_or(due, |retry_at| due.max(retry_at)))
}

/// The merged level that is due next, and when; `None` while another object is under way, and in a gap, which only a
/// snapshot ends.
fn merged_at(situation: &Situation<'_>) -> Option<(Level, Instant)> {
    let Situation { now, wall_clock, windows, progress, .. } = *situation;
    if situation.merge_running || situation.gap {
        return None;
    }
    let (level, wait) = progress.marks.due(progress.watermark, windows, wall_clock)?;
    let due = now + wait;
    Some((level, situation.merge_retry_at.map_or(due, |retry_at| due.max(retry_at))))
}

/// Whether what is kept of the log for one way (`kept` bytes) outgrew the share (`limit`), so that it is to be detached.
/// One that lacks nothing keeps nothing by itself: a transaction whose parts are still arriving is no fault of its.
pub(super) fn is_outgrown(watermark: Txid, head: Txid, kept: u64, limit: u64) -> bool {
    watermark < head && kept > limit
}

/// How long to wait after this many failures in a row (at least one), before jitter.
pub(super) fn back_off(failures: u32, options: &FanoutOptions) -> Duration {
    let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    options.retry_first.saturating_mul(factor).min(options.retry_most)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
