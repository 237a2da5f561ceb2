//! Segments written by the first version of the format, which every later one has to read.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::{Commit, decode, encode, events, header, noise};
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{PageNumber, Txid};
use seawall_proto::segment::{
    SegmentEvent, SegmentFooter, SegmentIndex, SegmentKind, SegmentSummary, Transaction, concat, squash,
};

fn page(byte: u8) -> Vec<u8> {
    vec![byte; common::PAGE_SIZE as usize]
}

fn commits() -> Vec<Commit> {
    let commit = |page_count, time, checksum, pages| Commit { page_count, time, checksum, pages };
    vec![
        commit(
            4,
            1_700_000_000_000,
            0x0123_4567_89ab_cdef,
            vec![(1, page(1)), (2, page(2)), (3, page(3)), (4, noise(4))],
        ),
        commit(
            9,
            1_700_000_000_000,
            0xffff_ffff_ffff_ffff,
            vec![(9, page(9)), (2, page(22)), (8, page(8)), (2, page(23))],
        ),
        commit(9, 1_700_000_123_456, 0xffff_ffff_ffff_ffff, vec![]),
        commit(3, 1_800_000_000_000, 1, vec![(1, noise(1))]),
    ]
}

fn resync() -> Commit {
    Commit { page_count: 2, time: 1_800_000_000_001, checksum: 2, pages: vec![(2, page(5))] }
}

/// Each file and what wrote it.
fn files() -> Vec<(&'static str, Vec<Bytes>)> {
    let log = encode(header(SegmentKind::Log, 1, 4, 0), &commits()).0;
    let resync = encode(header(SegmentKind::Resync, 5, 1, 1), &[resync()]).0;
    let joined = concat([log.clone(), resync.clone()]).unwrap().0;
    let squashed = squash([log.clone(), resync.clone()]).unwrap().0;
    vec![("log.seg", log), ("resync.seg", resync), ("joined.seg", joined), ("snapshot.seg", squashed)]
}

fn path(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1").join(name)
}

fn golden(name: &str) -> Bytes {
    std::fs::read(path(name)).unwrap().into()
}

/// All events but header and end, and the summary.
fn read(name: &str) -> (Vec<SegmentEvent>, SegmentSummary) {
    let mut events = decode([golden(name)]).unwrap();
    let Some(SegmentEvent::End(summary)) = events.pop() else { panic!("no end") };
    assert_eq!(events.remove(0), SegmentEvent::Header(summary.header));
    (events, summary)
}

fn resync_events() -> Vec<SegmentEvent> {
    let Commit { page_count, time: commit_time_ms, .. } = resync();
    let txid = Txid(5);
    let checksum_after = Checksum(2);
    vec![
        SegmentEvent::Page { txid, page: PageNumber(2), bytes: page(5).into() },
        SegmentEvent::Commit(Transaction { txid, page_count, commit_time_ms, checksum_after, pages: 1, resync: true }),
    ]
}

/// For a new version of the format: run it with `--ignored`; it never touches a file that is there.
#[test]
#[ignore = "writes the golden files that are missing"]
fn write_missing_files() {
    for (name, pieces) in files() {
        if !path(name).exists() {
            std::fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            std::fs::write(path(name), pieces.concat()).unwrap();
        }
    }
}

#[test]
fn reads_a_log_segment_of_version_1() {
    let (found, summary) = read("log.seg");
    assert_eq!(found, events(1, &commits()));
    assert_eq!(summary.header, header(SegmentKind::Log, 1, 4, 0));
    assert_eq!((summary.transactions, summary.pages, summary.frames), (4, 9, 1));
    assert_eq!((summary.page_count, summary.checksum_after), (3, Checksum(1)));
    assert_eq!((summary.first_commit_time_ms, summary.last_commit_time_ms), (1_700_000_000_000, 1_800_000_000_000));
}

#[test]
fn reads_a_resync_segment_of_version_1() {
    let (found, summary) = read("resync.seg");
    assert_eq!(found, resync_events());
    assert_eq!(summary.header, header(SegmentKind::Resync, 5, 1, 1));
}

#[test]
fn reads_a_joined_segment_of_version_1() {
    let (found, summary) = read("joined.seg");
    assert_eq!(found, [events(1, &commits()), resync_events()].concat());
    assert_eq!(summary.header, header(SegmentKind::Log, 1, 5, 0));
}

#[test]
fn reads_a_snapshot_of_version_1() {
    let (found, summary) = read("snapshot.seg");
    let mut expected = Commit { pages: vec![(1, noise(1)), (2, page(5))], ..resync() };
    expected.page_count = 2;
    assert_eq!(found, events(5, &[expected]));
    assert_eq!(summary.header, header(SegmentKind::Squashed, 1, 5, 0));
    assert!(summary.header.is_snapshot());
}

#[test]
fn finds_pages_in_segments_of_version_1() {
    let whole = golden("joined.seg");
    let tail_len = SegmentFooter::parse(whole.last_chunk().unwrap()).unwrap().tail_len() as usize;
    let index = SegmentIndex::parse(&whole[whole.len() - tail_len..]).unwrap();
    let find = |number, as_of| {
        let location = index.locate(PageNumber(number), Txid(as_of))?;
        let start = location.frame.offset as usize;
        Some(index.page(&location, &whole.slice(start..start + location.frame.len as usize)).unwrap().to_vec())
    };
    assert_eq!(find(2, 1), Some(page(2)));
    assert_eq!(find(2, 3), Some(page(23)));
    assert_eq!(find(2, 5), Some(page(5)));
    assert_eq!(find(9, 1), None);
    assert_eq!(find(9, 3), Some(page(9)));
    assert_eq!(find(9, 4), None);
}

// The compressed bytes may change with the compression library; what they are made of may not.
#[test]
fn still_writes_what_version_1_wrote() {
    for (name, pieces) in files() {
        let old = decode([golden(name)]).unwrap();
        let new = decode(pieces).unwrap();
        assert_eq!(new[..new.len() - 1], old[..old.len() - 1], "{name}");
    }
}
