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

fn options() -> FanoutOptions {
    FanoutOptions { window_bytes: 1000, window_segments: 50, snapshot_min_bytes: 500, ..FanoutOptions::default() }
}

fn progress(watermark: u64) -> LaneProgress {
    let progress = LaneProgress::replicated(Lineage(1), None);
    LaneProgress { watermark: Txid(watermark), ..progress }
}

fn situation<'a>(options: &'a FanoutOptions, window: &'a Window, now: Instant) -> Situation<'a> {
    Situation {
        now,
        wall_clock: UnixMillis(1_000_000),
        options,
        upload_interval: 10 * SECOND,
        progress: progress(0),
        window,
        gap: false,
        close_to: Txid::NONE,
        retry_at: None,
        snapshot_running: false,
        snapshot_wanted: None,
        snapshot_retry_at: None,
        database_bytes: 100,
    }
}

#[test]
fn nothing_to_do_means_waiting_without_a_timer() {
    let options = options();
    assert_eq!(decide(&situation(&options, &Window::new(Txid(0)), at(5))), Step::Wait(None));
}

#[test]
fn a_window_waits_for_its_interval() {
    let options = options();
    let mut window = Window::new(Txid(0));
    assert_eq!(window.take(record(1, 3, 10), at(100), &options), Taken::Yes);
    assert_eq!(window.take(record(4, 4, 10), at(105), &options), Taken::Yes);
    assert_eq!(decide(&situation(&options, &window, at(109))), Step::Wait(Some(at(110))));
    assert_eq!(decide(&situation(&options, &window, at(110))), Step::UploadWindow);
}

#[test]
fn a_full_or_awaited_window_does_not_wait() {
    let options = options();
    let mut window = Window::new(Txid(0));
    window.take(record(1, 3, 10), at(100), &options);
    let awaited = Situation { close_to: Txid(2), ..situation(&options, &window, at(100)) };
    assert_eq!(decide(&awaited), Step::UploadWindow);
    let past = Situation { close_to: Txid(3), progress: progress(3), ..situation(&options, &window, at(100)) };
    assert_eq!(decide(&past), Step::Wait(Some(at(110))));
    window.take(record(4, 4, 990), at(101), &options);
    assert_eq!(decide(&situation(&options, &window, at(101))), Step::UploadWindow);
}

#[test]
fn after_a_failure_nothing_is_tried_before_its_time() {
    let options = options();
    let mut window = Window::new(Txid(0));
    window.take(record(1, 3, 2000), at(100), &options);
    let failed = Situation { retry_at: Some(at(130)), ..situation(&options, &window, at(120)) };
    assert_eq!(decide(&failed), Step::Wait(Some(at(130))));
    assert_eq!(decide(&Situation { now: at(130), ..failed }), Step::UploadWindow);
}

#[test]
fn a_gap_asks_for_a_snapshot_beyond_the_watermark_and_for_nothing_else() {
    let options = options();
    let mut window = Window::new(Txid(7));
    window.take(record(8, 9, 2000), at(100), &options);
    let gap = Situation { gap: true, progress: progress(7), ..situation(&options, &window, at(200)) };
    assert_eq!(decide(&gap), Step::BeginSnapshot(Txid(8)));
    assert_eq!(decide(&Situation { snapshot_running: true, ..gap }), Step::Wait(None));
}

#[test]
fn a_snapshot_is_due_by_bytes_or_by_age_but_never_for_an_idle_database() {
    let options = options();
    let window = Window::new(Txid(9));
    let base = situation(&options, &window, at(50));
    let with = |bytes_since_snapshot, age: Duration| {
        let snapshot_time = UnixMillis(base.wall_clock.0 - i64::try_from(age.as_millis()).unwrap());
        LaneProgress { bytes_since_snapshot, snapshot_time, snapshot: Txid(4), ..progress(9) }
    };
    let step = |progress, database_bytes| {
        decide(&Situation { progress, database_bytes, ..situation(&options, &window, at(50)) })
    };
    let day = options.snapshot_interval;
    assert_eq!(step(with(0, 100 * day), 100), Step::Wait(None));
    assert_eq!(step(with(501, SECOND), 100), Step::BeginSnapshot(Txid(5)));
    assert_eq!(step(with(501, SECOND), 600), Step::Wait(Some(at(49) + day)));
    assert_eq!(step(with(1, day), 600), Step::BeginSnapshot(Txid(5)));
}

#[test]
fn a_snapshot_moves_the_watermark_only_over_a_gap() {
    let before = LaneProgress { bytes_since_snapshot: 700, ..progress(5) };
    let after = before.after_snapshot(Txid(9), UnixMillis(3), 600, false);
    assert_eq!((after.watermark, after.snapshot, after.bytes_since_snapshot), (Txid(5), Txid(9), 0));
    assert_eq!(before.after_snapshot(Txid(9), UnixMillis(3), 600, true).watermark, Txid(9));
    assert_eq!(before.after_snapshot(Txid(4), UnixMillis(3), 600, true).watermark, Txid(5));
}

#[test]
fn only_what_the_newest_snapshot_lacks_counts_towards_the_next() {
    let progress = LaneProgress { snapshot: Txid(9), ..progress(5) };
    let caught_up = progress.after_window(Txid(9), 700, UnixMillis(3));
    assert_eq!((caught_up.watermark, caught_up.bytes_since_snapshot), (Txid(9), 0));
    assert_eq!(caught_up.after_window(Txid(10), 30, UnixMillis(3)).bytes_since_snapshot, 30);
    // A snapshot of a state that level 0 had passed when it was finished.
    let behind = LaneProgress { bytes_since_snapshot: 700, ..self::progress(12) };
    assert_eq!(behind.after_snapshot(Txid(9), UnixMillis(3), 600, false).bytes_since_snapshot, 100);
}

#[test]
fn no_snapshot_is_asked_for_where_the_newest_one_is_ahead_of_level_0() {
    let options = options();
    let window = Window::new(Txid(9));
    let progress = LaneProgress { snapshot: Txid(12), bytes_since_snapshot: 10_000, ..progress(9) };
    assert_eq!(decide(&Situation { progress, ..situation(&options, &window, at(50)) }), Step::Wait(None));
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
    let options = options();
    let mut window = Window::new(Txid(0));
    assert_eq!(window.take(record(1, 1, 5000), at(1), &options), Taken::Yes);
    assert_eq!(window.take(record(2, 2, 1), at(1), &options), Taken::Full);
}

#[test]
fn a_changed_page_size_begins_a_new_window() {
    let options = options();
    let mut window = Window::new(Txid(0));
    window.take(record(1, 1, 5), at(1), &options);
    let changed = SegmentRecord { page_size: PageSize::new(8192).unwrap(), ..record(2, 2, 5) };
    assert_eq!(window.take(changed, at(1), &options), Taken::Full);
    assert_eq!(window.last(), Txid(1));
}

#[test]
fn a_segment_that_the_watermark_cuts_is_taken_whole_and_alone() {
    let options = options();
    let mut window = Window::new(Txid(5));
    assert_eq!(window.take(record(4, 6, 5), at(1), &options), Taken::Yes);
    assert_eq!(window.take(record(7, 7, 5), at(1), &options), Taken::Yes);
    let mut window = Window::new(Txid(5));
    assert_eq!(window.take(record(3, 5, 5), at(1), &options), Taken::Gap);
    assert_eq!(window.take(record(7, 8, 5), at(1), &options), Taken::Gap);
}

proptest! {
    /// Whatever the sizes of segments: windows are adjacent, hold everything once, and never exceed their limits
    /// unless by a single segment.
    #[test]
    fn windows_cover_the_log_exactly(
        segments in prop::collection::vec((1_u64..5, 1_u64..1500), 1..200),
        seal_after in prop::collection::vec(1_usize..20, 1..10),
    ) {
        let options = options();
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
                if window.take(record.clone(), at(0), &options) != Taken::Yes {
                    break;
                }
            }
            let (name, before) = window.object().unwrap();
            prop_assert_eq!(name.first, watermark.next());
            prop_assert_eq!(before, Checksum(watermark.0));
            prop_assert!(window.bytes() <= options.window_bytes || window.segments().len() == 1);
            prop_assert!(window.segments().len() <= options.window_segments);
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
        let options = options();
        let mut window = Window::new(Txid(0));
        window.take(record(1, 3, if full { 1000 } else { 10 }), at(opened), &options);
        let now = at(now.max(opened));
        let retry_at = retry.map(at);
        let step = decide(&Situation { retry_at, close_to: Txid(close_to), ..situation(&options, &window, now) });
        match step {
            Step::UploadWindow => prop_assert!(retry_at.is_none_or(|retry_at| retry_at <= now)),
            Step::Wait(Some(until)) => prop_assert!(until > now && until <= at(opened + 10).max(retry_at.unwrap_or(now))),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

#[test]
fn a_snapshot_that_is_asked_for_is_taken_of_what_should_be_there_even_if_nothing_changed() {
    let options = options();
    let window = Window::new(Txid(5));
    let idle = Situation { progress: progress(5), ..situation(&options, &window, at(5)) };
    assert_eq!(decide(&idle), Step::Wait(None));
    let wanted = Situation { snapshot_wanted: Some(Txid(5)), ..idle };
    assert_eq!(decide(&wanted), Step::BeginSnapshot(Txid(5)));
    let failed = Situation {
        snapshot_wanted: Some(Txid(5)),
        snapshot_retry_at: Some(at(9)),
        ..situation(&options, &window, at(5))
    };
    assert_eq!(decide(&failed), Step::Wait(Some(at(9))));
}
