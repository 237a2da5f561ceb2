//! Capture against real SQLite, one test a rule.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use seawall_agent::capture::{Capture, CaptureError, Look, OpenError, Resumption, Surprise};
use seawall_agent::sqlite::SqliteError;
use support::{Follower, clock, database, insert, python, run_python};

fn world() {
    seawall_host::real::install();
}

fn wal_of(path: &Path) -> PathBuf {
    format!("{}-wal", path.display()).into()
}

/// A database that is followed, and went on since it was taken in.
fn followed_on() -> (tempfile::TempDir, PathBuf, Connection, Follower) {
    world();
    let directory = tempfile::tempdir().unwrap();
    let (path, app) = database(directory.path(), 4096);
    insert(&app, 0, 100, 100);
    let mut follower = Follower::start(&path);
    insert(&app, 100, 110, 100);
    follower.settle();
    (directory, path, app, follower)
}

/// What a machine that dies leaves of a database: its file and the first `cut` bytes of its WAL, and no wal-index.
fn next_life(path: &Path, cut: u64) -> PathBuf {
    let life = path.with_file_name("next.db");
    std::fs::copy(path, &life).unwrap();
    let wal = std::fs::read(wal_of(path)).unwrap();
    std::fs::write(wal_of(&life), &wal[..cut as usize]).unwrap();
    life
}

#[test]
fn takes_in_a_database_and_follows_its_commits() {
    world();
    let directory = tempfile::tempdir().unwrap();
    for page_size in [512, 4096, 65536] {
        let directory = directory.path().join(page_size.to_string());
        std::fs::create_dir(&directory).unwrap();
        let (path, app) = database(&directory, page_size);
        insert(&app, 0, 500, 300);
        let mut follower = Follower::start(&path);
        follower.settle();
        for n in 0..50 {
            app.execute("UPDATE t SET n = ?1 WHERE id % 50 = ?1", [n]).unwrap();
        }
        follower.settle();
        assert_eq!(follower.model.commits, 51);
        assert!(follower.surprises.is_empty());
    }
}

#[test]
fn never_ships_what_is_not_committed() {
    world();
    let directory = tempfile::tempdir().unwrap();
    let (path, app) = database(directory.path(), 4096);
    insert(&app, 0, 2000, 1000);
    let mut follower = Follower::start(&path);
    follower.settle();
    let commits = follower.model.commits;
    app.execute_batch("PRAGMA cache_size=5; BEGIN; UPDATE t SET text = hex(randomblob(500));").unwrap();
    assert!(std::fs::metadata(wal_of(&path)).unwrap().len() > 1_000_000, "the cache was to spill into the WAL");
    assert_eq!(follower.capture.look().unwrap(), Look::Nothing);
    assert!(follower.capture.frames_pending());
    follower.settle();
    app.execute_batch("ROLLBACK").unwrap();
    follower.settle();
    assert_eq!(follower.model.commits, commits);
    app.execute("UPDATE t SET n = 7 WHERE id = 1", []).unwrap();
    follower.settle();
    assert_eq!(follower.model.commits, commits + 1);
}

#[test]
fn a_commit_frame_that_sqlite_does_not_acknowledge_is_a_phantom() {
    // A writer that dies between its commit frame and the wal-index leaves a valid frame that never happened.
    world();
    let directory = tempfile::tempdir().unwrap();
    let (path, app) = database(directory.path(), 4096);
    insert(&app, 0, 10, 100);
    let mut follower = Follower::start(&path);
    follower.settle();
    let wal = wal_of(&path);
    let before = std::fs::read(&wal).unwrap();
    app.execute("UPDATE t SET n = 99", []).unwrap();
    let after = std::fs::read(&wal).unwrap();
    follower.settle();
    let commits = follower.model.commits;
    // The same bytes again behind the new end: a well-formed header, yet nothing that SQLite committed.
    let mut phantom = after.clone();
    phantom.extend_from_slice(&after[before.len()..]);
    std::fs::write(&wal, &phantom).unwrap();
    assert_eq!(follower.capture.look().unwrap(), Look::Nothing);
    assert!(follower.capture.frames_pending());
    follower.settle();
    assert_eq!(follower.model.commits, commits);
}

#[test]
fn resumes_without_reading_the_database_when_the_wal_went_on() {
    world();
    let directory = tempfile::tempdir().unwrap();
    let (path, app) = database(directory.path(), 4096);
    insert(&app, 0, 100, 100);
    let mut follower = Follower::start(&path);
    insert(&app, 100, 110, 100);
    follower.settle();
    follower.capture = Capture::open(&path, clock()).unwrap();
    for n in 0..20 {
        app.execute("UPDATE t SET n = n + 1 WHERE id = ?1", [n]).unwrap();
    }
    let commits = follower.model.commits;
    assert!(follower.begin_again());
    follower.settle();
    assert_eq!((follower.resyncs, follower.model.commits), (1, commits + 20));
}

#[test]
fn hundreds_of_updates_and_a_restarted_wal_while_away_lose_no_row_and_ship_only_what_differs() {
    world();
    let directory = tempfile::tempdir().unwrap();
    let (path, app) = database(directory.path(), 4096);
    insert(&app, 0, 4000, 1000);
    let mut follower = Follower::start(&path);
    insert(&app, 4000, 4010, 100);
    follower.settle();
    let position = follower.position.clone().unwrap();
    follower.capture = Capture::open(&path, clock()).unwrap();
    for n in 0..1500 {
        app.execute("UPDATE t SET n = n + 1 WHERE id = ?1", [n % 40]).unwrap();
    }
    let shipped = follower.model.shipped_pages;
    assert!(!follower.begin_again(), "the WAL restarted: there is nothing to resume");
    follower.settle();
    assert_ne!(follower.position.as_ref().unwrap().salt2, position.salt2);
    let shipped = follower.model.shipped_pages - shipped;
    assert!((1..40).contains(&shipped), "{shipped} pages shipped, 10 to 20 differ");
}

#[test]
fn a_wal_that_was_deleted_by_the_last_to_close_is_compared_not_trusted() {
    world();
    let directory = tempfile::tempdir().unwrap();
    let (path, app) = database(directory.path(), 4096);
    insert(&app, 0, 100, 100);
    let mut follower = Follower::start(&path);
    insert(&app, 100, 110, 100);
    follower.settle();
    let shipped = follower.model.shipped_pages;
    // Replace the capture by one of another database, so that the application really is the last.
    let other = directory.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let (other, _other_app) = database(&other, 4096);
    follower.capture = Capture::open(&other, clock()).unwrap();
    drop(app);
    assert!(!wal_of(&path).exists());
    assert!(!follower.begin_again());
    follower.settle();
    assert_eq!(follower.model.shipped_pages, shipped, "nothing differs");
    let app = Connection::open(&path).unwrap();
    app.execute("UPDATE t SET n = 5 WHERE id = 5", []).unwrap();
    follower.settle();
    assert!(follower.surprises.is_empty());
}

#[test]
fn a_wal_behind_the_head_after_a_power_cut_is_resynced() {
    let (_directory, path, app, mut follower) = followed_on();
    let cut = std::fs::metadata(wal_of(&path)).unwrap().len();
    app.execute("UPDATE t SET n = -1", []).unwrap();
    follower.settle();
    // The machine dies before the WAL's tail is synced.
    let life = next_life(&path, cut);
    let app = Connection::open(&life).unwrap();
    assert_eq!(app.query_row("SELECT count(*) FROM t WHERE n = -1", [], |row| row.get::<_, u32>(0)).unwrap(), 0);
    follower.path = life;
    assert!(!follower.begin_again(), "the recorded frame is gone");
    follower.settle();
    // And another chain at the shipped offset.
    app.execute("UPDATE t SET n = -2", []).unwrap();
    follower.settle();
    assert!(follower.surprises.is_empty());
}

#[test]
fn another_chain_at_the_recorded_frame_is_not_resumed() {
    let (_directory, path, app, mut follower) = followed_on();
    let cut = std::fs::metadata(wal_of(&path)).unwrap().len();
    app.execute("UPDATE t SET n = -1", []).unwrap();
    follower.settle();
    let life = next_life(&path, cut);
    let app = Connection::open(&life).unwrap();
    for n in 0..20 {
        app.execute("UPDATE t SET n = ?1", [n]).unwrap();
    }
    follower.path = life;
    assert!(!follower.begin_again(), "same salts, enough frames, but other ones");
    follower.settle();
}

#[test]
fn follows_vacuum_shrinking_and_growing() {
    world();
    let directory = tempfile::tempdir().unwrap();
    let (path, app) = database(directory.path(), 4096);
    app.execute_batch("PRAGMA auto_vacuum=INCREMENTAL; VACUUM").unwrap();
    insert(&app, 0, 2000, 500);
    let mut follower = Follower::start(&path);
    follower.settle();
    for round in 0..5 {
        app.execute("DELETE FROM t WHERE id % 5 <= ?1", [round]).unwrap();
        app.execute_batch("PRAGMA incremental_vacuum").unwrap();
        follower.settle();
        app.execute_batch("VACUUM").unwrap();
        let small = {
            follower.settle();
            follower.model.pages.len()
        };
        insert(&app, 10_000 * (round + 1), 10_000 * (round + 1) + 1000, 800);
        follower.settle();
        assert!(follower.model.pages.len() > small);
    }
    assert!(follower.surprises.is_empty(), "{:?}", follower.surprises);
}

#[test]
fn a_new_page_size_is_shipped_as_one_whole_state() {
    world();
    let directory = tempfile::tempdir().unwrap();
    let (path, app) = database(directory.path(), 4096);
    insert(&app, 0, 300, 300);
    let mut follower = Follower::start(&path);
    follower.settle();
    let other = directory.path().join("other");
    std::fs::create_dir(&other).unwrap();
    follower.capture = Capture::open(&database(&other, 4096).0, clock()).unwrap();
    app.execute_batch("PRAGMA journal_mode=DELETE; PRAGMA page_size=1024; VACUUM; PRAGMA journal_mode=WAL;").unwrap();
    app.execute("UPDATE t SET n = 3 WHERE id = 3", []).unwrap();
    assert!(!follower.begin_again());
    follower.settle();
    assert_eq!(follower.model.page_size.bytes(), 1024);
    app.execute("UPDATE t SET n = 4 WHERE id = 4", []).unwrap();
    follower.settle();
}

#[test]
fn gives_way_to_the_applications_own_truncating_checkpoint() {
    if !support::has_python() {
        return;
    }
    world();
    let directory = tempfile::tempdir().unwrap();
    let (path, app) = database(directory.path(), 4096);
    insert(&app, 0, 100, 100);
    let mut follower = Follower::start(&path);
    for round in 0..10 {
        app.execute("UPDATE t SET n = n + 1", []).unwrap();
        follower.settle();
        let program = "import sqlite3,sys\nc=sqlite3.connect(sys.argv[1],timeout=5)\n\
                       print(c.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchone())";
        let mut checkpointer = python(program, &[path.to_str().unwrap()]);
        follower.cycle_until(|_| checkpointer.try_wait().unwrap().is_some());
        let output = std::io::read_to_string(checkpointer.stdout.take().unwrap()).unwrap();
        assert_eq!(output.trim(), "(0, 0, 0)", "round {round}");
        assert_eq!(std::fs::metadata(wal_of(&path)).unwrap().len(), 0);
    }
    app.execute("UPDATE t SET n = n + 1", []).unwrap();
    follower.settle();
    assert!(follower.surprises.is_empty(), "{:?}", follower.surprises);
    assert!(follower.gave_way >= 10);
}

#[test]
fn a_reader_on_mark_zero_allows_one_restart_and_loses_nothing() {
    world();
    let directory = tempfile::tempdir().unwrap();
    let (path, app) = database(directory.path(), 4096);
    insert(&app, 0, 100, 100);
    let mut follower = Follower::start(&path);
    app.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").unwrap();
    follower.settle();
    app.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").unwrap();
    follower.cycle_until(|follower| follower.capture.gives_way());
    let commits = follower.model.commits;
    // Enough for several automatic checkpoints: none may get through before the new WAL is captured.
    for n in 0..3000 {
        app.execute("UPDATE t SET n = n + 1 WHERE id = ?1 % 100", [n]).unwrap();
    }
    follower.settle();
    assert_eq!(follower.model.commits, commits + 3000);
    assert!(follower.surprises.is_empty(), "{:?}", follower.surprises);
}

#[test]
fn keeps_the_wal_of_a_busy_application_short() {
    world();
    let directory = tempfile::tempdir().unwrap();
    let (path, app) = database(directory.path(), 4096);
    insert(&app, 0, 1000, 100);
    app.execute_batch("PRAGMA synchronous=NORMAL").unwrap();
    let mut follower = Follower::start(&path);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            let mut n = 0_u32;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                app.execute("UPDATE t SET n = n + 1 WHERE id = ?1 * 7919 % 1000", [n]).unwrap();
                n += 1;
                // Never idle, yet not faster than an unoptimised build can follow.
                if n.is_multiple_of(8) {
                    std::thread::sleep(Duration::from_micros(100));
                }
            }
            n
        })
    };
    let commits = follower.model.commits;
    let start = std::time::Instant::now();
    let mut longest = 0;
    // A crowded machine needs longer.
    let over = |restarts: u32| start.elapsed() > Duration::from_secs(if restarts > 1 { 4 } else { 40 });
    while !over(follower.restarts) {
        follower.cycle();
        longest = longest.max(follower.position.as_ref().map_or(0, |position| position.frame));
        std::thread::sleep(Duration::from_millis(1));
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let written = writer.join().unwrap();
    follower.settle();
    println!(
        "{written} commits, {} restarts, {} barriers, longest WAL {longest} frames",
        follower.restarts, follower.barriers
    );
    assert_eq!(follower.model.commits - commits, u64::from(written));
    assert!(follower.restarts > 1, "the WAL never restarted");
    assert!(longest < 40_000, "the WAL grew to {longest} frames");
    assert!(follower.surprises.is_empty(), "{:?}", follower.surprises);
}

#[test]
fn a_file_renamed_over_the_database_is_noticed() {
    world();
    let directory = tempfile::tempdir().unwrap();
    let (path, app) = database(directory.path(), 4096);
    insert(&app, 0, 100, 100);
    let mut follower = Follower::start(&path);
    follower.settle();
    let other = directory.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let (replacement, other_app) = database(&other, 4096);
    insert(&other_app, 0, 30, 30);
    drop(other_app);
    drop(app);
    for suffix in ["-wal", "-shm"] {
        std::fs::remove_file(format!("{}{suffix}", path.display())).unwrap();
    }
    std::fs::rename(&replacement, &path).unwrap();
    let error = follower.capture.look().unwrap_err();
    assert!(matches!(error, CaptureError::Surprise(Surprise::DatabaseReplaced)), "{error}");
    follower.cycle();
    follower.settle();
    assert_eq!(follower.surprises, ["database-replaced"]);
}

#[test]
fn a_change_past_the_wal_is_found_by_the_scrub() {
    if !support::has_python() {
        return;
    }
    world();
    let directory = tempfile::tempdir().unwrap();
    let (path, app) = database(directory.path(), 4096);
    insert(&app, 0, 100, 100);
    app.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let mut follower = Follower::start(&path);
    follower.settle();
    let first = seawall_proto::position::PageNumber(1);
    assert_eq!(follower.capture.scrub(first, u32::MAX).unwrap(), None);
    assert_eq!(follower.capture.scrub(first, 2).unwrap().map(|page| page.0), Some(3));
    // Written by another process: opening and closing the file in this one would drop SQLite's locks.
    run_python(
        "import sys\nf=open(sys.argv[1],'r+b')\nf.seek(3*4096-8)\nf.write(b'sabotage')\nf.close()",
        &[path.to_str().unwrap()],
    );
    // SQLite keeps pages in its cache; a new life reads them afresh.
    let vector = follower.capture.vector().clone();
    let mut capture = Capture::open(&path, clock()).unwrap();
    capture.attach().unwrap();
    let resumed = capture.resume(&follower.position.clone().unwrap(), &vector).unwrap();
    assert_eq!(resumed, Resumption::Continued);
    let error = capture.scrub(first, u32::MAX).unwrap_err();
    assert!(matches!(error, CaptureError::Surprise(Surprise::PageDiffers(page)) if page.0 == 3), "{error}");
}

#[test]
fn frames_that_the_savepoint_defect_of_old_sqlite_hides_are_resynced() {
    if !support::has_python() {
        return;
    }
    world();
    let directory = tempfile::tempdir().unwrap();
    let (path, app) = database(directory.path(), 4096);
    insert(&app, 0, 3000, 1000);
    let mut follower = Follower::start(&path);
    follower.settle();
    // The system's SQLite: committed frames with zero salts after a cache spill and ROLLBACK TO.
    let program = "
import sqlite3,sys,random
c=sqlite3.connect(sys.argv[1],timeout=10,isolation_level=None)
c.execute('PRAGMA cache_size=5'); c.execute('PRAGMA wal_autocheckpoint=0')
random.seed(1)
for i in range(60):
    c.execute('BEGIN'); c.execute('UPDATE t SET n=n+1 WHERE id=?',(i,))
    c.execute('SAVEPOINT a')
    c.execute('UPDATE t SET text=hex(randomblob(500)) WHERE id%?=0',(random.randint(2,30),))
    if random.random()<.7: c.execute('ROLLBACK TO a')
    c.execute('UPDATE t SET n=n+1 WHERE id%17=0')
    c.execute('COMMIT')
print(sqlite3.sqlite_version)";
    let mut application = python(program, &[path.to_str().unwrap()]);
    while application.try_wait().unwrap().is_none() {
        follower.cycle();
        follower.compare();
    }
    follower.settle();
    println!(
        "surprises with SQLite {}: {:?}",
        std::io::read_to_string(application.stdout.unwrap()).unwrap().trim(),
        follower.surprises
    );
    assert!(follower.surprises.iter().all(|reason| *reason == "short-chain"));
}

#[test]
fn unusable_databases_are_refused_with_what_to_do() {
    world();
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.db");
    let error = Capture::open(&missing, clock()).unwrap_err();
    assert!(matches!(error, OpenError::Sqlite(SqliteError::Missing { .. })), "{error}");
    assert!(!missing.exists());

    let plain = directory.path().join("plain.db");
    Connection::open(&plain).unwrap().execute_batch("CREATE TABLE t(a)").unwrap();
    let error = Capture::open(&plain, clock()).unwrap_err();
    assert!(error.to_string().contains("PRAGMA journal_mode=WAL"), "{error}");

    let no_database = directory.path().join("no.db");
    std::fs::write(&no_database, "this is a text of some length ".repeat(200)).unwrap();
    let error = Capture::open(&no_database, clock()).unwrap_err();
    assert!(error.to_string().contains("not a database"), "{error}");

    let (path, app) = database(directory.path(), 4096);
    insert(&app, 0, 10, 10);
    drop(app);
    let app = Connection::open(&path).unwrap();
    app.execute_batch("PRAGMA locking_mode=EXCLUSIVE; BEGIN IMMEDIATE; COMMIT; UPDATE t SET n = 1").unwrap();
    let error = Capture::open(&path, clock()).unwrap_err();
    assert!(matches!(error, OpenError::Sqlite(SqliteError::Busy)), "{error}");
}

#[test]
fn a_corrupt_wal_header_is_sqlites_to_judge_and_nothing_wedges() {
    world();
    let directory = tempfile::tempdir().unwrap();
    let (path, app) = database(directory.path(), 4096);
    insert(&app, 0, 100, 100);
    let mut follower = Follower::start(&path);
    app.execute("UPDATE t SET n = 1 WHERE id = 1", []).unwrap();
    follower.settle();
    // A copy whose WAL has a damaged header: SQLite leaves such a WAL out.
    let copy = directory.path().join("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    let mut wal = std::fs::read(wal_of(&path)).unwrap();
    wal[17] ^= 1;
    std::fs::write(wal_of(&copy), wal).unwrap();
    follower.path = copy.clone();
    assert!(!follower.begin_again());
    follower.settle();
    let app = Connection::open(&copy).unwrap();
    app.execute_batch("CREATE TABLE IF NOT EXISTS u(a); INSERT INTO u VALUES (1)").unwrap();
    follower.settle();
    assert!(follower.surprises.is_empty(), "{:?}", follower.surprises);
}
