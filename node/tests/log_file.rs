//! The log file in use: rolling, reading, pins, deletion, restarts.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use seawall_host::time;
use seawall_node::store::log::{LogEntry, LogFile, LogId, LogOptions, ReadLogError};
use tokio::sync::oneshot;

const SMALL: LogOptions = LogOptions { piece_bytes: 4096, cache_bytes: 512 };

fn entry_of(term: u64, index: u64) -> LogEntry {
    let meta = Bytes::from(format!("meta of {term} {index}"));
    let payload = Bytes::from(vec![(index * 7 + term) as u8; (index % 5 * 100) as usize]);
    LogEntry { id: LogId { term, node: 9, index }, meta, payload }
}

async fn open(dir: &Path) -> LogFile {
    seawall_host::real::install();
    LogFile::open(dir, SMALL).await.unwrap()
}

async fn append(log: &LogFile, entries: Vec<LogEntry>) {
    let (sender, done) = oneshot::channel();
    log.append(entries, Box::new(move |outcome| sender.send(outcome).unwrap()));
    done.await.unwrap().unwrap();
}

async fn fill(log: &LogFile, range: std::ops::Range<u64>) {
    for index in range {
        append(log, vec![entry_of(1, index)]).await;
    }
}

async fn check_entries(log: &LogFile, expected: &[LogEntry]) {
    let (first, last) = (expected[0].id.index, expected[expected.len() - 1].id.index);
    assert_eq!(log.entries(0..u64::MAX, usize::MAX).await.unwrap(), expected);
    let heads = log.heads(first..last + 1);
    assert_eq!(heads.len(), expected.len());
    for (head, entry) in heads.iter().zip(expected) {
        assert_eq!((head.id, &head.meta, head.payload_len as usize), (entry.id, &entry.meta, entry.payload.len()));
        assert_eq!(log.payload(entry.id.index).await.unwrap().as_ref(), Some(&entry.payload));
    }
    assert_eq!(log.payload(last + 1).await.unwrap(), None);
}

fn pieces(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            time::sleep(Duration::from_millis(1)).await;
        }
    };
    time::timeout(Duration::from_secs(10), wait).await.unwrap_or_else(|_| panic!("{what} took too long"));
}

#[tokio::test]
async fn gives_back_over_many_pieces_and_restarts_what_was_appended() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    let state = log.state();
    assert!(state.was_created && !state.was_clean && state.identity.raft_id != 0);
    fill(&log, 0..100).await;
    let expected: Vec<LogEntry> = (0..100).map(|index| entry_of(1, index)).collect();
    check_entries(&log, &expected).await;
    assert!(pieces(dir.path()).len() > 5);
    log.save_vote(Bytes::from_static(b"vote")).await.unwrap();
    log.save_cluster([3; 16]).await.unwrap();
    log.save_committed(Some(expected[90].id));
    log.close().await.unwrap();
    assert!(log.save_vote(Bytes::new()).await.is_err());
    drop(log);

    for restart in 0..2 {
        let log = open(dir.path()).await;
        let found = log.state();
        assert_eq!((found.was_created, found.was_clean), (false, restart == 0));
        assert_eq!(found.identity.raft_id, state.identity.raft_id);
        assert_eq!(found.identity.cluster, [3; 16]);
        assert_eq!(found.vote.as_deref(), Some(&b"vote"[..]));
        assert_eq!(found.committed, Some(expected[90].id));
        assert_eq!((found.last, log.synced()), (Some(expected[99].id), Some(expected[99].id)));
        check_entries(&log, &expected).await;
        let len = |name: &String| std::fs::metadata(dir.path().join(name)).unwrap().len();
        assert_eq!(log.bytes_on_disk(), pieces(dir.path()).iter().map(len).sum::<u64>());
    }
}

#[tokio::test]
async fn entries_are_readable_at_once_and_done_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    let (sender, mut done) = tokio::sync::mpsc::unbounded_channel();
    let entries: Vec<LogEntry> = (0..50).map(|index| entry_of(1, index)).collect();
    for entry in &entries {
        let (sender, index, reader) = (sender.clone(), entry.id.index, log.clone());
        let tell = move |outcome: std::io::Result<()>| {
            outcome.unwrap();
            assert!(reader.synced().unwrap().index >= index);
            sender.send(index).unwrap();
        };
        log.append(vec![entry.clone()], Box::new(tell));
        assert_eq!(log.state().last, Some(entry.id));
    }
    check_entries(&log, &entries).await;
    for expected in 0..50 {
        assert_eq!(done.recv().await, Some(expected));
    }
    assert_eq!(log.bytes_queued(), 0);
}

#[tokio::test]
async fn a_read_gives_at_least_one_entry_and_no_more_bytes_than_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    fill(&log, 0..20).await;
    assert_eq!(log.entries(4..20, 1).await.unwrap(), vec![entry_of(1, 4)]);
    let some = log.entries(4..20, 1000).await.unwrap();
    assert!(some.len() > 1 && some.iter().map(|entry| entry.meta.len() + entry.payload.len()).sum::<usize>() <= 1000);
    assert!(log.entries(20..30, 1000).await.unwrap().is_empty());
}

#[tokio::test]
async fn refuses_holes_and_cuts_of_purged_entries() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    fill(&log, 0..5).await;
    let (sender, done) = oneshot::channel();
    log.append(vec![entry_of(1, 6)], Box::new(move |outcome| sender.send(outcome.is_err()).unwrap()));
    assert!(done.await.unwrap());
    log.purge(entry_of(1, 3).id).await.unwrap();
    assert!(log.truncate_after(Some(entry_of(1, 2).id)).await.is_err());
    assert!(log.truncate_after(None).await.is_err());
    check_entries(&log, &[entry_of(1, 4)][..]).await;
}

#[tokio::test]
async fn a_truncation_reaches_over_pieces_and_survives_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    fill(&log, 0..60).await;
    log.truncate_after(Some(entry_of(1, 20).id)).await.unwrap();
    assert_eq!(log.state().last, Some(entry_of(1, 20).id));
    assert_eq!(log.payload(21).await.unwrap(), None);
    for index in 21..50 {
        append(&log, vec![entry_of(2, index)]).await;
    }
    log.truncate_after(Some(entry_of(2, 40).id)).await.unwrap();
    let expected: Vec<LogEntry> =
        (0..41).map(|index| if index <= 20 { entry_of(1, index) } else { entry_of(2, index) }).collect();
    check_entries(&log, &expected).await;
    for _ in 0..2 {
        let log = open(dir.path()).await;
        check_entries(&log, &expected).await;
        assert_eq!(log.state().last, Some(expected[40].id));
    }
    let log = open(dir.path()).await;
    log.truncate_after(None).await.unwrap();
    assert_eq!(log.state().last, None);
    append(&log, vec![entry_of(3, 0)]).await;
    let log = open(dir.path()).await;
    check_entries(&log, &[entry_of(3, 0)]).await;
}

#[tokio::test]
async fn a_purge_beyond_the_end_moves_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    fill(&log, 0..10).await;
    log.save_committed(Some(entry_of(1, 6).id));
    let id = LogId { term: 4, node: 2, index: 100 };
    log.purge(id).await.unwrap();
    assert_eq!((log.state().purged, log.state().last), (Some(id), Some(id)));
    append(&log, vec![entry_of(4, 101)]).await;
    for _ in 0..2 {
        let log = open(dir.path()).await;
        assert_eq!(log.state().purged, Some(id));
        check_entries(&log, &[entry_of(4, 101)]).await;
        assert_eq!(log.payload(4).await.unwrap(), Some(entry_of(1, 4).payload), "its piece is still there");
        assert_eq!(log.payload(7).await.unwrap(), None, "it may not be the entry that was committed at its index");
        assert_eq!(log.payload(50).await.unwrap(), None);
    }
    // The same while everything still waits to be written.
    let log = open(dir.path()).await;
    let (first, second) = (entry_of(4, 102), entry_of(5, 201));
    log.append(vec![first], Box::new(|outcome| outcome.unwrap()));
    let purge = log.purge(LogId { term: 5, node: 2, index: 200 });
    let append = async { append(&log, vec![second.clone()]).await };
    let (purged, ()) = futures::future::join(purge, append).await;
    purged.unwrap();
    check_entries(&log, std::slice::from_ref(&second)).await;
    check_entries(&open(dir.path()).await, &[second]).await;
}

#[tokio::test]
async fn pieces_go_when_raft_and_every_pin_let_them_go() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    log.save_vote(Bytes::from_static(b"vote")).await.unwrap();
    fill(&log, 0..100).await;
    let all = pieces(dir.path());
    let pin = log.pin(30, "test");
    log.purge(entry_of(1, 80).id).await.unwrap();
    assert_eq!(pieces(dir.path()), all, "nothing goes before start_deleting");
    assert_eq!(log.payload(3).await.unwrap(), Some(entry_of(1, 3).payload));
    assert!(log.heads(0..81).is_empty());

    log.start_deleting();
    let kept = log.bytes_from(30);
    wait_until("the first deletion", || log.bytes_on_disk() == kept).await;
    for index in 30..100 {
        assert_eq!(log.payload(index).await.unwrap(), Some(entry_of(1, index).payload), "entry {index}");
    }
    assert_eq!(log.payload(3).await.unwrap(), None);
    let file_name = all[0].clone();
    wait_until("the file's removal", || !pieces(dir.path()).contains(&file_name)).await;

    pin.advance(50);
    let kept = log.bytes_from(50);
    wait_until("the second deletion", || log.bytes_on_disk() == kept).await;
    assert_eq!(log.payload(50).await.unwrap(), Some(entry_of(1, 50).payload));
    let reopened = open(dir.path()).await;
    assert_eq!(reopened.payload(50).await.unwrap(), Some(entry_of(1, 50).payload));
    drop(reopened);
}

#[tokio::test]
async fn what_a_damaged_byte_hides_of_a_purged_entry_is_known_well_enough_to_be_had_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    fill(&log, 0..100).await;
    let _pin = log.pin(0, "test");
    log.purge(entry_of(1, 80).id).await.unwrap();
    let first = dir.path().join(&pieces(dir.path())[0]);
    let whole = std::fs::read(&first).unwrap();
    let (mut given, mut damaged) = (0, 0);
    for at in (0..whole.len()).step_by(3) {
        let mut contents = whole.clone();
        contents[at] ^= 1 << (at % 8);
        std::fs::write(&first, contents).unwrap();
        for index in 0..10 {
            let expected = entry_of(1, index);
            match log.payload(index).await {
                Ok(found) => {
                    assert_eq!(found.as_ref(), Some(&expected.payload), "byte {at}, entry {index}");
                    given += 1;
                }
                Err(ReadLogError::Damaged(it)) => {
                    assert_eq!(it.id, expected.id);
                    assert!(it.is_mended_by(&expected.payload) && !it.is_mended_by(b"other bytes"));
                    assert!(it.to_string().contains("damaged") && it.to_string().contains("offset"), "{it}");
                    damaged += 1;
                }
                Err(error) => panic!("byte {at}, entry {index}: {error}"),
            }
        }
    }
    assert!(given > 0 && damaged > 0);
    std::fs::write(&first, whole).unwrap();
    assert_eq!(log.payload_of(entry_of(1, 3).id).await.unwrap(), Some(entry_of(1, 3).payload));
    assert_eq!(log.payload_of(entry_of(2, 3).id).await.unwrap(), None, "it is another entry");
}

#[tokio::test]
async fn pins_that_go_with_their_node_let_nothing_go() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    fill(&log, 0..100).await;
    let pin = log.pin(30, "test");
    log.start_deleting();
    log.purge(entry_of(1, 80).id).await.unwrap();
    let kept = log.bytes_from(30);
    wait_until("the deletion", || log.bytes_on_disk() == kept).await;
    log.stop_deleting();
    drop(pin);
    log.purge(entry_of(1, 90).id).await.unwrap();
    append(&log, vec![entry_of(1, 100)]).await;
    assert_eq!(log.payload(30).await.unwrap(), Some(entry_of(1, 30).payload));
    log.close().await.unwrap();
    assert_eq!(open(dir.path()).await.payload(30).await.unwrap(), Some(entry_of(1, 30).payload));
}

#[tokio::test]
async fn a_log_whose_old_pieces_are_gone_still_knows_its_marks() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    log.save_vote(Bytes::from_static(b"vote")).await.unwrap();
    log.save_cluster([5; 16]).await.unwrap();
    fill(&log, 0..100).await;
    let identity = log.state().identity;
    log.start_deleting();
    log.save_committed(Some(entry_of(1, 99).id));
    log.purge(entry_of(1, 98).id).await.unwrap();
    let kept = log.bytes_from(99);
    wait_until("the deletion", || log.bytes_on_disk() == kept && pieces(dir.path()).len() <= 2).await;
    drop(log);
    let log = open(dir.path()).await;
    let state = log.state();
    assert_eq!((state.identity, state.vote), (identity, Some(Bytes::from_static(b"vote"))));
    assert_eq!(state.committed, Some(entry_of(1, 99).id));
    assert_eq!((state.purged, state.last), (Some(entry_of(1, 98).id), Some(entry_of(1, 99).id)));
    check_entries(&log, &[entry_of(1, 99)]).await;
    append(&log, vec![entry_of(1, 100)]).await;
}

#[tokio::test]
async fn a_missing_piece_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    fill(&log, 0..100).await;
    drop(log);
    let all = pieces(dir.path());
    for missing in [&all[0], &all[2]] {
        let (from, to) = (dir.path().join(missing), dir.path().join("elsewhere"));
        std::fs::rename(&from, &to).unwrap();
        let error = LogFile::open(dir.path(), SMALL).await.err().unwrap().to_string();
        assert!(error.contains("missing"), "{error}");
        std::fs::rename(&to, &from).unwrap();
    }
    open(dir.path()).await;
}

#[tokio::test]
async fn purges_past_the_end_are_found_again_wherever_pieces_end() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    let mut index = 0;
    for _ in 0..60 {
        fill(&log, index..index + 7).await;
        // As after a snapshot from a leader that is far ahead.
        index += 17;
        log.purge(entry_of(1, index - 1).id).await.unwrap();
    }
    fill(&log, index..index + 3).await;
    let expected: Vec<LogEntry> = (index..index + 3).map(|index| entry_of(1, index)).collect();
    assert!(pieces(dir.path()).len() > 3);
    drop(log);
    for _ in 0..2 {
        check_entries(&open(dir.path()).await, &expected).await;
    }
}
