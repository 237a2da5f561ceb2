//! What a lane does next, decided on plain values.

use std::time::Duration;

use seawall_host::time::{Instant, UnixMillis};
use seawall_proto::checksum::Checksum;
use seawall_proto::object_name::{Level, ObjectName};
use seawall_proto::position::{Lineage, Txid};
use seawall_proto::v1;

use super::FanoutOptions;
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
    /// Bytes of level 0 uploaded since that snapshot.
    pub(super) bytes_since_snapshot: u64,
    /// When that snapshot was taken; while there is none, when the first object was uploaded; 0 before.
    pub(super) snapshot_time: UnixMillis,
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
            },
            None => Self {
                lineage,
                watermark: Txid::NONE,
                snapshot: Txid::NONE,
                bytes_since_snapshot: 0,
                snapshot_time: UnixMillis(0),
            },
        }
    }

    /// This progress after an object of level 0 up to `last` with this many bytes.
    pub(super) fn after_window(mut self, last: Txid, bytes: u64, now: UnixMillis) -> Self {
        self.watermark = self.watermark.max(last);
        // What the snapshot holds already, because it overtook the log, is not since then.
        if self.watermark > self.snapshot {
            self.bytes_since_snapshot = self.bytes_since_snapshot.saturating_add(bytes);
        }
        if self.snapshot_time.0 == 0 {
            self.snapshot_time = now;
        }
        self
    }

    /// This progress after a snapshot at `txid`, which was begun at `begun` when `bytes_before` bytes had been counted.
    /// Where the log no longer has what follows the watermark (`gap`), history goes on from the snapshot.
    pub(super) fn after_snapshot(mut self, txid: Txid, begun: UnixMillis, bytes_before: u64, gap: bool) -> Self {
        self.snapshot = self.snapshot.max(txid);
        self.snapshot_time = begun;
        if gap {
            self.watermark = self.watermark.max(txid);
        }
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

    /// Takes in the next segment if it fits: a window is at most `window_bytes`, or one larger segment.
    pub(super) fn take(&mut self, record: SegmentRecord, now: Instant, options: &FanoutOptions) -> Taken {
        if record.first > self.last().next() || record.last <= self.last() {
            return Taken::Gap;
        }
        if let Some(last) = self.segments.last() {
            let fits = self.bytes.saturating_add(record.bytes) <= options.window_bytes
                && self.segments.len() < options.window_segments
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
        self.full = self.bytes >= options.window_bytes;
        Taken::Yes
    }

    /// Nothing more is taken in: what was tried to be uploaded once is tried again just so.
    pub(super) fn seal(&mut self) {
        self.full = true;
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
    pub(super) options: &'a FanoutOptions,
    pub(super) upload_interval: Duration,
    pub(super) progress: LaneProgress,
    pub(super) window: &'a Window,
    /// The log no longer has what follows the watermark.
    pub(super) gap: bool,
    /// Someone waits for this txid at the destination.
    pub(super) close_to: Txid,
    /// No upload of a window before this, because the last one failed.
    pub(super) retry_at: Option<Instant>,
    /// A snapshot is under way.
    pub(super) snapshot_running: bool,
    /// A snapshot at this txid or later was asked for.
    pub(super) snapshot_wanted: Option<Txid>,
    /// No snapshot before this, because the last one failed.
    pub(super) snapshot_retry_at: Option<Instant>,
    /// The database's size.
    pub(super) database_bytes: u64,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Upload the window as it is.
    UploadWindow,
    /// Begin a snapshot at this txid or later.
    BeginSnapshot(Txid),
    /// Nothing until something changes, or this moment.
    Wait(Option<Instant>),
}

/// What a lane does next.
pub(super) fn decide(situation: &Situation<'_>) -> Step {
    let Situation { now, window, progress, .. } = *situation;
    let snapshot_at = snapshot_at(situation);
    if snapshot_at.is_some_and(|at| at <= now) {
        let at_least = match situation.snapshot_wanted {
            _ if situation.gap => progress.watermark.next(),
            Some(wanted) => wanted,
            None => progress.snapshot.next(),
        };
        return Step::BeginSnapshot(at_least);
    }
    let upload_at = upload_at(situation);
    if upload_at.is_some_and(|at| at <= now) && !window.segments().is_empty() {
        return Step::UploadWindow;
    }
    Step::Wait(upload_at.into_iter().chain(snapshot_at).min())
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
    let due = if window.is_full() || awaited { opened } else { opened + situation.upload_interval };
    Some(situation.retry_at.map_or(due, |retry_at| due.max(retry_at)))
}

/// When a snapshot is due; `None` while one is under way and for a database that did not change since the last.
fn snapshot_at(situation: &Situation<'_>) -> Option<Instant> {
    let Situation { now, wall_clock, options, progress, .. } = *situation;
    if situation.snapshot_running {
        return None;
    }
    let due = if situation.gap || situation.snapshot_wanted.is_some() {
        now
    } else if progress.bytes_since_snapshot == 0 || progress.watermark <= progress.snapshot {
        return None;
    } else if progress.bytes_since_snapshot > situation.database_bytes.max(options.snapshot_min_bytes) {
        now
    } else {
        // A wall clock that was set back makes nobody wait longer than the interval.
        let age = u64::try_from(wall_clock.0.saturating_sub(progress.snapshot_time.0)).unwrap_or(0);
        now + options.snapshot_interval.saturating_sub(Duration::from_millis(age))
    };
    Some(situation.snapshot_retry_at.map_or(due, |retry_at| due.max(retry_at)))
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
