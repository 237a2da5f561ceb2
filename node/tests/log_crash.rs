//! The log file after a crash and on a bad disk: every cut and every changed byte of it.
//!
//! A history of steps is carried out, each made durable before the next; the file after each step is known. Whatever is
//! done to the file afterwards, the log file must open to the state after some step, and to none older than what the file
//! itself shows to have been synced; or it must refuse.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use seawall_node::store::log::{LogEntry, LogFile, LogId, LogOptions, LogState, ReadLogError};
use tokio::sync::oneshot;

fn entry_of(term: u64, index: u64) -> LogEntry {
    let meta = Bytes::from(format!("m{term}-{index}"));
    let payload = Bytes::from(vec![(index * 7 + term) as u8; (index % 3 * 11) as usize]);
    LogEntry { id: LogId { term, node: 9, index }, meta, payload }
}

fn id_of(term: u64, index: u64) -> LogId {
    entry_of(term, index).id
}

async fn append(log: &LogFile, entries: Vec<LogEntry>) {
    let (sender, done) = oneshot::channel();
    log.append(entries, Box::new(move |outcome| sender.send(outcome).unwrap()));
    done.await.unwrap().unwrap();
}

/// All that a log file answers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answers {
    vote: Option<Bytes>,
    cluster: [u8; 16],
    raft_id: u64,
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
    entries: Vec<LogEntry>,
}

async fn answers(log: &LogFile) -> Result<Answers, ReadLogError> {
    let LogState { identity, vote, committed, purged, last, .. } = log.state();
    let mut entries = log.entries(0..u64::MAX, usize::MAX).await?;
    while let Some(last) = entries.last().filter(|_| entries.len() < log.heads(0..u64::MAX).len()) {
        let next = last.id.index + 1;
        entries.extend(log.entries(next..u64::MAX, usize::MAX).await?);
    }
    let (cluster, raft_id) = (identity.cluster, identity.raft_id);
    Ok(Answers { vote, cluster, raft_id, committed, purged, last, entries })
}

/// What the log answered after a step, and the length that its newest piece then had.
struct Step {
    answers: Answers,
    len: u64,
}

struct History {
    steps: Vec<Step>,
    /// Offset at which the newest piece's batches of the history begin.
    start: u64,
}

fn newest(dir: &Path) -> PathBuf {
    let mut names: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names.pop().unwrap()
}

/// Carries out the history on `log`, whose newest piece must not be full before it ends.
async fn carry_out(dir: &Path, log: &LogFile, from: u64) -> History {
    let len = || fs::metadata(newest(dir)).unwrap().len();
    let mut steps = vec![Step { answers: answers(log).await.unwrap(), len: len() }];
    let start = len();
    for step in 0..11 {
        match step {
            0 => log.save_vote(Bytes::from_static(b"first vote")).await.unwrap(),
            1 => append(log, vec![entry_of(1, from), entry_of(1, from + 1)]).await,
            2 => append(log, vec![entry_of(1, from + 2)]).await,
            3 => log.save_cluster([7; 16]).await.unwrap(),
            4 => append(log, (from + 3..from + 6).map(|index| entry_of(1, index)).collect()).await,
            5 => log.truncate_after(Some(id_of(1, from + 3))).await.unwrap(),
            6 => log.save_vote(Bytes::from_static(b"second vote")).await.unwrap(),
            7 => append(log, vec![entry_of(2, from + 4), entry_of(2, from + 5)]).await,
            8 => {
                log.save_committed(Some(id_of(2, from + 4)));
                log.purge(id_of(1, from + 1)).await.unwrap();
            }
            9 => append(log, vec![entry_of(2, from + 6)]).await,
            _ => append(log, vec![entry_of(2, from + 7), entry_of(2, from + 8)]).await,
        }
        steps.push(Step { answers: answers(log).await.unwrap(), len: len() });
    }
    assert!(steps.windows(2).all(|pair| pair[0].answers != pair[1].answers && pair[0].len < pair[1].len));
    History { steps, start }
}

/// A directory with the pieces of `from`, the newest of them with the given contents.
fn copy_with(from: &Path, contents: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let newest = newest(from);
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.path() != newest {
            fs::hard_link(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
    }
    fs::write(dir.path().join(newest.file_name().unwrap()), contents).unwrap();
    dir
}

/// Opens the log file; now and then also tries that it can be written, and read again after that.
async fn open(dir: &Path, options: LogOptions, at: usize) -> Result<Answers, String> {
    let log = LogFile::open(dir, options).await.map_err(|error| error.to_string())?;
    let found = answers(&log).await.map_err(|error| error.to_string())?;
    if !at.is_multiple_of(8) {
        return Ok(found);
    }
    let next = found.last.map_or(0, |last| last.index + 1);
    append(&log, vec![entry_of(9, next)]).await;
    drop(log);
    let log = LogFile::open(dir, options).await.unwrap();
    let mut expected = found.clone();
    expected.last = Some(id_of(9, next));
    expected.entries.push(entry_of(9, next));
    assert_eq!(answers(&log).await.unwrap(), expected);
    Ok(found)
}

const LARGE: LogOptions = LogOptions { piece_bytes: 1 << 20, cache_bytes: 0 };

/// A log file whose newest piece holds a history, once without and once with older pieces.
async fn prepare(with_older_pieces: bool) -> (tempfile::TempDir, History) {
    seawall_host::real::install();
    let dir = tempfile::tempdir().unwrap();
    let mut from = 0;
    if with_older_pieces {
        let log = LogFile::open(dir.path(), LogOptions { piece_bytes: 1500, cache_bytes: 0 }).await.unwrap();
        while fs::read_dir(dir.path()).unwrap().count() < 4 {
            append(&log, vec![entry_of(1, from)]).await;
            log.save_vote(Bytes::from(format!("vote {from}"))).await.unwrap();
            from += 1;
        }
    }
    let log = LogFile::open(dir.path(), LARGE).await.unwrap();
    let history = carry_out(dir.path(), &log, from).await;
    (dir, history)
}

#[tokio::test]
async fn every_cut_opens_to_all_that_was_acknowledged_before_it() {
    for with_older_pieces in [false, true] {
        let (dir, history) = prepare(with_older_pieces).await;
        let whole = fs::read(newest(dir.path())).unwrap();
        for cut in history.start as usize..=whole.len() {
            let copy = copy_with(dir.path(), &whole[..cut]);
            let found = open(copy.path(), LARGE, cut).await.unwrap();
            let expected = history.steps.iter().rev().find(|step| step.len <= cut as u64).unwrap();
            assert_eq!(found, expected.answers, "cut at {cut}");
        }
    }
}

#[tokio::test]
async fn every_cut_below_the_first_acknowledgement_opens_to_a_new_log_or_the_one_before() {
    for with_older_pieces in [false, true] {
        let (dir, history) = prepare(with_older_pieces).await;
        let whole = fs::read(newest(dir.path())).unwrap();
        for cut in 0..history.start as usize {
            let copy = copy_with(dir.path(), &whole[..cut]);
            let found = open(copy.path(), LARGE, cut).await.unwrap();
            if with_older_pieces {
                // What the last of the older steps wrote may lie in the newest piece.
                let known = &history.steps[0].answers;
                let count = known.entries.len();
                let votes = [count - 1, count - 2].map(|index| Some(Bytes::from(format!("vote {index}"))));
                assert!(found.raft_id == known.raft_id && votes.contains(&found.vote), "cut at {cut}");
                assert!(known.entries.starts_with(&found.entries), "cut at {cut}");
                assert!(found.entries.len() + 1 >= known.entries.len(), "cut at {cut}");
            } else {
                assert!(found.entries.is_empty() && found.vote.is_none(), "cut at {cut}");
            }
        }
    }
}

/// What a changed byte at `at` may lead to: the last batch may be taken for a torn write, anything else is refused, at
/// the start or, in a payload, when that is read; nobody reads those of entries that were purged or cut off.
fn check_changed(history: &History, at: u64, outcome: Result<Answers, String>) -> bool {
    let [.., before, last] = &history.steps[..] else { panic!("no steps") };
    match outcome {
        Ok(found) if at < before.len => {
            assert_eq!(found, last.answers, "a change at {at}, below {}, was not refused", before.len);
            false
        }
        Ok(found) => {
            assert_eq!(found, before.answers, "a change at {at}, below {}", last.len);
            true
        }
        Err(text) => {
            assert!(at < before.len, "a change at {at}, in the last batch, was refused: {text}");
            assert!(text.contains("damaged") && text.contains("offset"), "{text}");
            false
        }
    }
}

#[tokio::test]
async fn every_changed_byte_is_refused_or_cut_off_with_the_last_batch() {
    for with_older_pieces in [false, true] {
        let (dir, history) = prepare(with_older_pieces).await;
        let whole = fs::read(newest(dir.path())).unwrap();
        let mut mended = 0;
        for at in 0..whole.len() {
            for change in [1 << (at % 8), 0xff] {
                let mut contents = whole.clone();
                contents[at] ^= change;
                let copy = copy_with(dir.path(), &contents);
                mended += u64::from(check_changed(&history, at as u64, open(copy.path(), LARGE, at).await));
            }
        }
        let [.., before, last] = &history.steps[..] else { panic!("no steps") };
        assert_eq!(mended, 2 * (last.len - before.len));
    }
}

#[tokio::test]
async fn zeros_in_place_of_written_blocks_are_refused_or_cut_off_with_the_last_batch() {
    let (dir, history) = prepare(false).await;
    let whole = fs::read(newest(dir.path())).unwrap();
    for from in (0..whole.len()).step_by(13) {
        let mut to_end = whole.clone();
        to_end[from..].fill(0);
        let copy = copy_with(dir.path(), &to_end);
        // Of everything after it nothing is left that could tell how much was synced: any state of the history will do.
        match open(copy.path(), LARGE, from).await {
            Ok(found) => assert!(history.steps.iter().any(|step| step.answers == found), "zeros from {from}"),
            Err(text) => assert!(from < 193 && text.contains("damaged"), "zeros from {from}: {text}"),
        }
        let mut hole = whole.clone();
        hole[from..whole.len().min(from + 60)].fill(0);
        let copy = copy_with(dir.path(), &hole);
        let later_batch = history.steps.iter().rev().skip(1).any(|step| step.len as usize >= from + 60);
        match open(copy.path(), LARGE, from).await {
            Ok(found) if later_batch && hole != whole => {
                assert_eq!(Some(&found), history.steps.last().map(|step| &step.answers), "zeros at {from}");
            }
            Ok(found) => assert!(history.steps.iter().any(|step| step.answers == found), "zeros at {from}"),
            Err(text) => assert!(text.contains("damaged"), "zeros at {from}: {text}"),
        }
    }
}

#[tokio::test]
async fn after_a_clean_close_every_changed_byte_before_the_closing_mark_is_refused() {
    let (dir, history) = prepare(false).await;
    let log = LogFile::open(dir.path(), LARGE).await.unwrap();
    let closing = fs::metadata(newest(dir.path())).unwrap().len();
    log.close().await.unwrap();
    let whole = fs::read(newest(dir.path())).unwrap();
    for at in 0..closing as usize {
        let mut contents = whole.clone();
        contents[at] ^= 0x10;
        let copy = copy_with(dir.path(), &contents);
        match open(copy.path(), LARGE, 1).await {
            Ok(found) => assert_eq!(found, history.steps.last().unwrap().answers, "a change at {at}"),
            Err(refused) => assert!(refused.contains("damaged"), "{refused}"),
        }
    }
    for cut in closing as usize..whole.len() {
        let copy = copy_with(dir.path(), &whole[..cut]);
        let log = LogFile::open(copy.path(), LARGE).await.unwrap();
        assert!(!log.state().was_clean);
        assert_eq!(answers(&log).await.unwrap(), history.steps.last().unwrap().answers);
    }
}

#[tokio::test]
async fn every_changed_byte_of_a_sealed_piece_is_refused_or_does_no_harm() {
    seawall_host::real::install();
    let options = LogOptions { piece_bytes: 500, cache_bytes: 0 };
    let dir = tempfile::tempdir().unwrap();
    let log = LogFile::open(dir.path(), options).await.unwrap();
    append(&log, vec![entry_of(1, 0), entry_of(1, 1)]).await;
    let mut index = 2;
    while fs::read_dir(dir.path()).unwrap().count() < 3 {
        append(&log, vec![entry_of(2, index)]).await;
        log.truncate_after(Some(id_of(2, index))).await.unwrap();
        index += 1;
    }
    let known = answers(&log).await.unwrap();
    drop(log);
    let mut names: Vec<PathBuf> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let (mut refused, mut harmless) = (0, 0);
    for name in &names[..2] {
        let whole = fs::read(name).unwrap();
        for at in 0..whole.len() {
            let mut contents = whole.clone();
            contents[at] ^= 1 << (at % 8);
            fs::write(name, &contents).unwrap();
            match LogFile::open(dir.path(), options).await {
                Err(error) => {
                    assert!(error.to_string().contains("damaged"), "{error}");
                    refused += 1;
                }
                Ok(log) => match answers(&log).await {
                    Ok(found) => {
                        assert_eq!(found, known, "byte {at} of {}", name.display());
                        harmless += 1;
                    }
                    Err(error) => {
                        assert!(error.to_string().contains("damaged"), "{error}");
                        refused += 1;
                    }
                },
            }
        }
        for cut in (0..whole.len()).step_by(5) {
            fs::write(name, &whole[..cut]).unwrap();
            assert!(LogFile::open(dir.path(), options).await.is_err(), "cut at {cut}");
        }
        fs::write(name, &whole).unwrap();
    }
    assert!(refused > 0 && harmless > 0, "{refused} refused, {harmless} harmless");
}
