use proptest::prelude::*;
use seawall_proto::position::{Epoch, PageSize};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(0) + SECOND * u32::try_from(seconds).unwrap()
}

fn record(first: u64, last: u64, bytes: u64) -> SegmentRecord {
    SegmentRecord {
        lineage: Lineage(1),
        epoch: Epoch(1),
        first: Txid(first),
        last: Txid(last),
        checksum_before: Checksum(first - 1),
        checksum_after: Checksum(last),
        commit_time_ms: 0,
        page_size: PageSize::new(4096).unwrap(),
        page_count: 10,
        bytes,
        entries: vec![last],
    }
}

fn windows() -> Windows {
    Windows { snapshot_min_bytes: 500, ..Windows::default() }
}

const LIMITS: WindowLimits = WindowLimits { bytes: 1000, segments: 50 };

fn state(txid: u64) -> Position {
    Position { lineage: Lineage(1), txid: Txid(txid), checksum: Checksum(txid) }
}

fn progress(watermark: u64) -> LaneProgress {
    let progress = LaneProgress::replicated(Lineage(1), None);
    LaneProgress { watermark: Txid(watermark), ..progress }
}

fn situation<'a>(windows: &'a Windows, window: &'a Window, now: Instant) -> Situation<'a> {
    Situation {
        now,
        wall_clock: UnixMillis(1_000_000),
        windows,
        progress: progress(0),
        window,
        gap: false,
        close_to: Txid::NONE,
        retry_at: None,
        merge_running: false,
        snapshot_wanted: None,
        snapshot_retry_at: None,
        merge_retry_at: None,
        database_bytes: 100,
    }
}

#[test]
fn nothing_to_do_means_waiting_without_a_timer() {
    let windows = windows();
    assert_eq!(decide(&situation(&windows, &Window::new(Txid(0)), at(5))), Step::Wait(None));
}

#[test]
fn a_window_waits_for_its_interval() {
    let windows = windows();
    let mut window = Window::new(Txid(0));
    assert_eq!(window.take(record(1, 3, 10), at(100), LIMITS), Taken::Yes);
    assert_eq!(window.take(record(4, 4, 10), at(105), LIMITS), Taken::Yes);
    assert_eq!(decide(&situation(&windows, &window, at(109))), Step::Wait(Some(at(110))));
    assert_eq!(decide(&situation(&windows, &window, at(110))), Step::UploadWindow);
}

#[test]
fn a_full_or_awaited_window_does_not_wait() {
    let windows = windows();
    let mut window = Window::new(Txid(0));
    window.take(record(1, 3, 10), at(100), LIMITS);
    let awaited = Situation { close_to: Txid(2), ..situation(&windows, &window, at(100)) };
    assert_eq!(decide(&awaited), Step::UploadWindow);
    let past = Situation { close_to: Txid(3), progress: progress(3), ..situation(&windows, &window, at(100)) };
    assert_eq!(decide(&past), Step::Wait(Some(at(110))));
    window.take(record(4, 4, 990), at(101), LIMITS);
    assert_eq!(decide(&situation(&windows, &window, at(101))), Step::UploadWindow);
}

#[test]
fn after_a_failure_nothing_is_tried_before_its_time() {
    let windows = windows();
    let mut window = Window::new(Txid(0));
    window.take(record(1, 3, 2000), at(100), LIMITS);
    let failed = Situation { retry_at: Some(at(130)), ..situation(&windows, &window, at(120)) };
    assert_eq!(decide(&failed), Step::Wait(Some(at(130))));
    assert_eq!(decide(&Situation { now: at(130), ..failed }), Step::UploadWindow);
}

#[test]
fn a_gap_asks_for_a_snapshot_beyond_the_watermark_and_for_nothing_else() {
    let windows = windows();
    let mut window = Window::new(Txid(7));
    window.take(record(8, 9, 2000), at(100), LIMITS);
    let gap = Situation { gap: true, progress: progress(7), ..situation(&windows, &window, at(200)) };
    assert_eq!(decide(&gap), Step::Begin(Level::Snapshot, Txid(8)));
    assert_eq!(decide(&Situation { merge_running: true, ..gap }), Step::Wait(None));
}

#[test]
fn a_snapshot_is_due_by_bytes_or_by_age_but_never_for_an_idle_database() {
    let windows = windows();
    let window = Window::new(Txid(9));
    let base = situation(&windows, &window, at(50));
    let with = |bytes_since_snapshot, age: Duration| {
        let snapshot_time = UnixMillis(base.wall_clock.0 - i64::try_from(age.as_millis()).unwrap());
        LaneProgress { bytes_since_snapshot, snapshot_time, snapshot: Txid(4), ..progress(9) }
    };
    let step = |progress, database_bytes| {
        decide(&Situation { progress, database_bytes, ..situation(&windows, &window, at(50)) })
    };
    let day = windows.snapshot_interval;
    let held = LaneProgress { snapshot: Txid(9), ..with(600, 100 * day) };
    assert_eq!(step(held, 100), Step::Wait(None));
    assert_eq!(step(with(0, SECOND), 100), Step::Wait(Some(at(49) + day)));
    assert_eq!(step(with(501, SECOND), 100), Step::Begin(Level::Snapshot, Txid(5)));
    assert_eq!(step(with(501, SECOND), 600), Step::Wait(Some(at(49) + day)));
    assert_eq!(step(with(1, day), 600), Step::Begin(Level::Snapshot, Txid(5)));
}

#[test]
fn a_merged_object_is_due_after_its_interval_and_never_in_a_gap() {
    let windows = windows();
    let window = Window::new(Txid(9));
    let base = situation(&windows, &window, at(50));
    let opened = |seconds: i64| UnixMillis(base.wall_clock.0 - seconds * 1000);
    let with = |seconds| {
        let behind_first = progress(0).after_window(state(5), 10, opened(900));
        Situation {
            progress: behind_first.after_window(state(9), 10, opened(seconds)),
            ..situation(&windows, &window, at(50))
        }
    };
    assert_eq!(decide(&with(100)), Step::Wait(Some(at(250))));
    assert_eq!(decide(&with(300)), Step::Begin(Level::One, Txid(9)));
    assert_eq!(decide(&with(3_600)), Step::Begin(Level::Two, Txid(9)));
    assert_eq!(decide(&Situation { merge_running: true, ..with(300) }), Step::Wait(None));
    assert_eq!(decide(&Situation { merge_retry_at: Some(at(60)), ..with(300) }), Step::Wait(Some(at(60))));
    assert_eq!(decide(&Situation { gap: true, ..with(300) }), Step::Begin(Level::Snapshot, Txid(10)));
    let merged = with(300).progress.after_merged(Level::One, state(9), 0, base.wall_clock);
    let merged = LaneProgress { bytes_since_snapshot: 0, ..merged };
    assert_eq!(decide(&Situation { progress: merged, ..with(300) }), Step::Wait(Some(at(50 + 3_300))), "level 2");
}

#[test]
fn no_object_ends_before_another_one_of_its_level_or_below_and_none_waits_for_a_commit() {
    let windows = windows();
    let window = Window::new(Txid(9));
    let base = situation(&windows, &window, at(50));
    let step = |progress: LaneProgress| decide(&Situation { progress, ..situation(&windows, &window, at(50)) });
    let first = progress(9).after_window(state(3), 10, UnixMillis(1)).after_window(state(9), 10, UnixMillis(1));
    let ahead = first.after_merged(Level::One, state(12), 0, UnixMillis(1));
    assert_eq!(step(LaneProgress { bytes_since_snapshot: 10_000, ..ahead }), Step::Begin(Level::Snapshot, Txid(12)));
    // Level 1 leads to the newest state already; level 2 and the snapshot are due, and nothing more is committed.
    let merged = first.after_merged(Level::One, state(9), 0, base.wall_clock);
    let old = LaneProgress { bytes_since_snapshot: 0, ..merged };
    let opened = UnixMillis(base.wall_clock.0 - 3_700_000);
    let old = LaneProgress { marks: Marks { two: Mark { opened, ..old.marks.two }, ..old.marks }, ..old };
    assert_eq!(step(old), Step::Begin(Level::Two, Txid(9)));
    let outgrown = LaneProgress { bytes_since_snapshot: 10_000, snapshot: Txid(3), ..merged };
    assert_eq!(step(outgrown), Step::Begin(Level::Snapshot, Txid(9)));
}

#[test]
fn a_snapshot_moves_the_watermark_only_over_a_gap() {
    let before = LaneProgress { bytes_since_snapshot: 700, ..progress(5) };
    let after = before.after_snapshot(state(9), UnixMillis(3), 600, false);
    assert_eq!((after.watermark, after.snapshot, after.bytes_since_snapshot), (Txid(5), Txid(9), 0));
    assert_eq!(before.after_snapshot(state(9), UnixMillis(3), 600, true).watermark, Txid(9));
    assert_eq!(before.after_snapshot(state(4), UnixMillis(3), 600, true).watermark, Txid(5));
}

#[test]
fn only_what_the_newest_snapshot_lacks_counts_towards_the_next() {
    let progress = LaneProgress { snapshot: Txid(9), ..progress(5) };
    let caught_up = progress.after_window(state(9), 700, UnixMillis(3));
    assert_eq!((caught_up.watermark, caught_up.bytes_since_snapshot), (Txid(9), 0));
    assert_eq!(caught_up.after_window(state(10), 30, UnixMillis(3)).bytes_since_snapshot, 30);
    // A snapshot of a state that level 0 had passed when it was finished.
    let behind = LaneProgress { bytes_since_snapshot: 700, ..self::progress(12) };
    assert_eq!(behind.after_snapshot(state(9), UnixMillis(3), 600, false).bytes_since_snapshot, 100);
}

#[test]
fn no_snapshot_is_asked_for_where_the_newest_one_is_ahead_of_level_0() {
    let windows = windows();
    let window = Window::new(Txid(9));
    let progress = LaneProgress { snapshot: Txid(12), bytes_since_snapshot: 10_000, ..progress(9) };
    assert_eq!(decide(&Situation { progress, ..situation(&windows, &window, at(50)) }), Step::Wait(None));
}

#[test]
fn progress_of_another_lineage_counts_for_nothing() {
    let replicated = v1::DestinationProgress { lineage: 1, watermark: 8, ..Default::default() };
    assert_eq!(LaneProgress::replicated(Lineage(1), Some(&replicated)).watermark, Txid(8));
    assert_eq!(LaneProgress::replicated(Lineage(2), Some(&replicated)).watermark, Txid::NONE);
}

#[test]
fn waiting_doubles_up_to_its_limit() {
    let options = FanoutOptions::default();
    let waits: Vec<u64> = [1, 2, 3, 7, 40, u32::MAX].iter().map(|n| back_off(*n, &options).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 60, 60, 60]);
}

#[test]
fn a_segment_larger_than_a_window_goes_alone() {
    let mut window = Window::new(Txid(0));
    assert_eq!(window.take(record(1, 1, 5000), at(1), LIMITS), Taken::Yes);
    assert_eq!(window.take(record(2, 2, 1), at(1), LIMITS), Taken::Full);
}

#[test]
fn a_changed_page_size_begins_a_new_window() {
    let mut window = Window::new(Txid(0));
    window.take(record(1, 1, 5), at(1), LIMITS);
    let changed = SegmentRecord { page_size: PageSize::new(8192).unwrap(), ..record(2, 2, 5) };
    assert_eq!(window.take(changed, at(1), LIMITS), Taken::Full);
    assert_eq!(window.last(), Txid(1));
}

#[test]
fn a_segment_that_the_watermark_cuts_is_taken_whole_and_alone() {
    let mut window = Window::new(Txid(5));
    assert_eq!(window.take(record(4, 6, 5), at(1), LIMITS), Taken::Yes);
    assert_eq!(window.take(record(7, 7, 5), at(1), LIMITS), Taken::Yes);
    let mut window = Window::new(Txid(5));
    assert_eq!(window.take(record(3, 5, 5), at(1), LIMITS), Taken::Gap);
    assert_eq!(window.take(record(7, 8, 5), at(1), LIMITS), Taken::Gap);
}

proptest! {
    /// Whatever the sizes of segments: windows are adjacent, hold everything once, and never exceed their limits
    /// unless by a single segment.
    #[test]
    fn windows_cover_the_log_exactly(
        segments in prop::collection::vec((1_u64..5, 1_u64..1500), 1..200),
        seal_after in prop::collection::vec(1_usize..20, 1..10),
    ) {
        let mut next = 1;
        let log: Vec<SegmentRecord> = segments.iter().map(|(transactions, bytes)| {
            let first = next;
            next += transactions;
            record(first, next - 1, *bytes)
        }).collect();
        let mut watermark = Txid::NONE;
        let mut uploaded = Vec::new();
        let mut seals = seal_after.iter().cycle();
        while uploaded.len() < log.len() {
            let mut window = Window::new(watermark);
            let limit = *seals.next().unwrap();
            for (taken, record) in log[uploaded.len()..].iter().enumerate() {
                if taken == limit {
                    window.seal();
                }
                if window.take(record.clone(), at(0), LIMITS) != Taken::Yes {
                    break;
                }
            }
            let (name, before) = window.object().unwrap();
            prop_assert_eq!(name.first, watermark.next());
            prop_assert_eq!(before, Checksum(watermark.0));
            prop_assert!(window.bytes() <= LIMITS.bytes || window.segments().len() == 1);
            prop_assert!(window.segments().len() <= LIMITS.segments);
            watermark = name.last;
            uploaded.extend_from_slice(window.segments());
        }
        prop_assert_eq!(uploaded, log);
    }

    /// A lane never waits for ever while something is to be uploaded, and never uploads before it may.
    #[test]
    fn pending_work_always_has_a_time(
        opened in 0_u64..100, now in 0_u64..200, retry in prop::option::of(0_u64..300), close_to in 0_u64..5, full: bool,
    ) {
        let windows = windows();
        let mut window = Window::new(Txid(0));
        window.take(record(1, 3, if full { 1000 } else { 10 }), at(opened), LIMITS);
        let now = at(now.max(opened));
        let retry_at = retry.map(at);
        let step = decide(&Situation { retry_at, close_to: Txid(close_to), ..situation(&windows, &window, now) });
        match step {
            Step::UploadWindow => prop_assert!(retry_at.is_none_or(|retry_at| retry_at <= now)),
            Step::Wait(Some(until)) => prop_assert!(until > now && until <= at(opened + 10).max(retry_at.unwrap_or(now))),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

#[test]
fn a_snapshot_that_is_asked_for_is_taken_of_what_should_be_there_even_if_nothing_changed() {
    let windows = windows();
    let window = Window::new(Txid(5));
    let held = LaneProgress { snapshot: Txid(5), ..progress(5) };
    let idle = Situation { progress: held, ..situation(&windows, &window, at(5)) };
    assert_eq!(decide(&idle), Step::Wait(None));
    let wanted = Situation { snapshot_wanted: Some(Txid(5)), ..idle };
    assert_eq!(decide(&wanted), Step::Begin(Level::Snapshot, Txid(5)));
    let failed = Situation {
        snapshot_wanted: Some(Txid(5)),
        snapshot_retry_at: Some(at(9)),
        ..situation(&windows, &window, at(5))
    };
    assert_eq!(decide(&failed), Step::Wait(Some(at(9))));
}
