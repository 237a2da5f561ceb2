#![allow(clippy::disallowed_methods)]

use seawall_proto::checksum::Checksum;
use seawall_proto::position::{Epoch, PageSize};

use super::*;
use crate::store::sled_kv::SledKv;

fn name(text: &str) -> DatabaseName {
    text.parse().unwrap()
}

fn record(first: u64, last: u64) -> SegmentRecord {
    SegmentRecord {
        lineage: Lineage(1),
        epoch: Epoch(1),
        first: Txid(first),
        last: Txid(last),
        checksum_before: Checksum(first),
        checksum_after: Checksum(last),
        commit_time_ms: 7,
        page_size: PageSize::new(4096).unwrap(),
        page_count: 2,
        bytes: 100,
        entries: vec![first + 100],
    }
}

fn firsts(log: &PositionLog, database: &str, after: u64, limit: usize) -> Vec<u64> {
    log.segments(&name(database), Lineage(1), Txid(after), limit).iter().map(|record| record.first.0).collect()
}

async fn open(path: &Path) -> PositionLog {
    PositionLog::open(path, &SledKv::opener()).await.unwrap()
}

#[tokio::test]
async fn finds_segments_wherever_they_are() {
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).await;
    for (index, (first, last)) in [(1, 3), (4, 4), (5, 9), (10, 12)].into_iter().enumerate() {
        log.insert(&name("app"), record(first, last), index as u64 + 1);
        log.insert(&name("app/b"), record(first, last), index as u64 + 11);
    }
    for written in [0, 1, 2, 3, 4, 20] {
        log.write_up_to(written).await.unwrap();
        assert_eq!(firsts(&log, "app", 0, 9), [1, 4, 5, 10], "written {written}");
        assert_eq!(firsts(&log, "app", 6, 9), [5, 10]);
        assert_eq!(firsts(&log, "app", 9, 9), [10]);
        assert_eq!(firsts(&log, "app", 2, 2), [1, 4]);
        assert_eq!(firsts(&log, "app", 12, 9), [0u64; 0]);
    }
    assert!(log.tail().records.is_empty());
}

#[tokio::test]
async fn keeps_what_an_orderly_stop_left_and_deletes_what_another_did() {
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).await;
    log.insert(&name("app"), record(1, 1), 5);
    log.close(8).await.unwrap();
    drop(log);

    let log = open(directory.path()).await;
    assert_eq!((log.written(), firsts(&log, "app", 0, 9)), (8, vec![1]));
    log.insert(&name("app"), record(2, 2), 9);
    log.write_up_to(9).await.unwrap();
    drop(log);

    let log = open(directory.path()).await;
    assert_eq!((log.written(), firsts(&log, "app", 0, 9)), (0, vec![]));
}

#[tokio::test]
async fn builds_a_damaged_map_again() {
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).await;
    log.insert(&name("app"), record(1, 1), 5);
    log.close(5).await.unwrap();
    drop(log);
    let db = directory.path().join(DIRECTORY).join("conf");
    std::fs::write(&db, b"no sled configuration").unwrap();

    let log = open(directory.path()).await;
    assert_eq!((log.written(), firsts(&log, "app", 0, 9)), (0, vec![]));
    log.load(3, [(name("app"), record(1, 4))]).await.unwrap();
    assert_eq!(firsts(&log, "app", 0, 9), [1]);
}

#[tokio::test]
async fn the_mark_of_an_orderly_stop_is_not_believed_of_another_map() {
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let log = open(directory.path()).await;
    log.insert(&name("app"), record(1, 3), 1);
    log.close(1).await.unwrap();
    drop(log);
    std::fs::remove_dir_all(directory.path().join(DIRECTORY)).unwrap();
    let log = open(directory.path()).await;
    assert_eq!(log.written(), 0, "or what the log file gives again would be left out");
}
