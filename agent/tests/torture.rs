//! Capture of a database that several processes write, vacuum, checkpoint and die on, compared page by page with what
//! SQLite itself reads at exactly the captured state.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use support::{Follower, clock, database, has_python, insert, python};

const WRITER: &str = "
import sqlite3,sys,random,time
path,seed,kind=sys.argv[1],int(sys.argv[2]),sys.argv[3]
random.seed(seed)
c=sqlite3.connect(path,timeout=20,isolation_level=None)
c.execute('PRAGMA synchronous=%s'%random.choice(['NORMAL','FULL']))
c.execute('PRAGMA cache_size=%d'%random.choice([5,50,2000]))
while True:
    try:
        r=random.random()
        if r<.70:
            c.execute('UPDATE t SET n=n+1,text=hex(randomblob(?)) WHERE id=?',(random.randint(1,400),random.randint(0,3000)))
        elif r<.80:
            c.execute('BEGIN IMMEDIATE')
            c.execute('UPDATE t SET n=n+1 WHERE id%?=0',(random.randint(2,40),))
            c.execute(random.choice(['COMMIT','COMMIT','ROLLBACK']))
        elif r<.88:
            c.execute('INSERT INTO t(n,text) SELECT 0,hex(randomblob(300)) FROM t LIMIT ?',(random.randint(1,300),))
        elif r<.95:
            c.execute('DELETE FROM t WHERE id>3000+?',(random.randint(0,500),))
        elif r<.97:
            c.execute('PRAGMA wal_checkpoint(%s)'%random.choice(['PASSIVE','FULL','RESTART','TRUNCATE']))
        elif r<.972:
            c.execute('VACUUM')
        elif kind=='savepoints':
            c.execute('BEGIN IMMEDIATE'); c.execute('UPDATE t SET n=n+1 WHERE id=1')
            c.execute('SAVEPOINT a'); c.execute('UPDATE t SET n=n+1 WHERE id%7=0')
            c.execute('ROLLBACK TO a'); c.execute('UPDATE t SET n=n+1 WHERE id%11=0'); c.execute('COMMIT')
        else:
            time.sleep(random.random()*.03)
    except sqlite3.OperationalError as e:
        if 'locked' not in str(e): raise
        if c.in_transaction: c.execute('ROLLBACK')
";

fn torture(kind: &str, seconds: u64, writers: usize) -> Option<Follower> {
    if !has_python() {
        return None;
    }
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let (path, app) = database(directory.path(), 4096);
    insert(&app, 0, 3001, 300);
    drop(app);
    let mut follower = Follower::start(&path);
    let mut seed = 0;
    let mut spawn = || {
        seed += 1;
        python(WRITER, &[path.to_str().unwrap(), &seed.to_string(), kind])
    };
    let mut children: Vec<_> = (0..writers).map(|_| spawn()).collect();
    let start = Instant::now();
    let (mut cycles, mut kills, mut lives) = (0_u32, 0_usize, 1);
    let mut next_kill = Duration::from_millis(300);
    let mut next_life = Duration::from_millis(1100);
    // A busy machine is given longer for as much.
    let seen_enough = |follower: &Follower| follower.comparisons > 20 && follower.model.commits > 100;
    let (least, most) = (Duration::from_secs(seconds), Duration::from_secs(20 * seconds));
    while start.elapsed() < least || (!seen_enough(&follower) && start.elapsed() < most) {
        follower.cycle();
        cycles += 1;
        if cycles.is_multiple_of(3) {
            follower.compare();
        }
        if start.elapsed() > next_kill {
            next_kill += Duration::from_millis(700);
            let victim = &mut children[kills % writers];
            victim.kill().unwrap();
            victim.wait().unwrap();
            *victim = spawn();
            kills += 1;
        }
        if start.elapsed() > next_life {
            // The agent dies and comes back, now at once, now after the WAL went on.
            next_life += Duration::from_millis(1100);
            lives += 1;
            follower.capture = seawall_agent::capture::Capture::open(&path, clock()).unwrap();
            std::thread::sleep(Duration::from_millis([0, 5, 150][lives % 3]));
            follower.begin_again();
            follower.compare();
        }
    }
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    follower.settle();
    println!(
        "{kind}: {} commits, {} exact comparisons, {kills} kills, {lives} lives, {} resyncs, {} WAL restarts, {} barriers, \
         gave way {} times, surprises {:?}",
        follower.model.commits,
        follower.comparisons,
        follower.resyncs,
        follower.restarts,
        follower.barriers,
        follower.gave_way,
        follower.surprises
    );
    assert!(seen_enough(&follower));
    Some(follower)
}

fn seconds() -> u64 {
    std::env::var("SEAWALL_TORTURE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(8)
}

#[test]
fn several_writers_that_are_killed_lose_nothing_and_surprise_nobody() {
    let Some(follower) = torture("plain", seconds(), 3) else { return };
    assert!(follower.surprises.is_empty(), "{:?}", follower.surprises);
}

#[test]
fn the_savepoint_defect_of_old_sqlite_is_survived() {
    let Some(follower) = torture("savepoints", seconds(), 2) else { return };
    assert!(follower.surprises.iter().all(|reason| *reason == "short-chain"), "{:?}", follower.surprises);
}
