use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use proptest::prelude::*;
use seawall_proto::object_name::{Level, ObjectName};

use super::super::options::RestoreOptions;
use super::super::outcome::Progress;
use super::super::source::{Breadth, ByteStream, Listing, RestoreSource, SourceError};
use super::*;

#[path = "../../tests/support/history.rs"]
mod history;
use history::History;

struct Silent;

impl Progress for Silent {
    fn planned(&self, _: u64) {}
    fn read(&self, _: u64) {}
    fn warn(&self, _: &str) {}
}

/// Objects in memory; those from a txid on cannot be read.
struct Memory {
    objects: Vec<(ObjectName, Bytes)>,
    fails_from: u64,
}

impl RestoreSource for Memory {
    fn describe(&self) -> &str {
        "memory"
    }

    fn list(&self, _: Breadth) -> BoxFuture<'_, Result<Listing, SourceError>> {
        let describe = |(route, (name, bytes)): (usize, &(ObjectName, Bytes))| SourceObject {
            origin: Arc::from("memory"),
            route: route as u32,
            name: *name,
            size: bytes.len() as u64,
            commit_time_ms: None,
        };
        let objects = self.objects.iter().enumerate().map(describe).collect();
        async { Ok(Listing { objects, ..Listing::default() }) }.boxed()
    }

    fn read(&self, object: &SourceObject) -> ByteStream {
        if object.name.last.0 >= self.fails_from {
            let error = SourceError::Unusable { origin: "memory".to_owned(), cause: "gone".to_owned() };
            return stream::iter([Err(error)]).boxed();
        }
        stream::iter([Ok(self.objects[object.route as usize].1.clone())]).boxed()
    }
}

/// What a run does when it fails.
enum Leaves {
    Checkpoint,
    /// What it wrote, and the checkpoint that was there before: it was killed.
    Pages,
}

/// Restores; answers what was restored and the file, or nothing if it failed.
async fn attempt(source: &Memory, output: &Path, when: When, leaves: Leaves) -> Option<(Restored, Vec<u8>)> {
    let options = RestoreOptions { when, ..RestoreOptions::new(output) };
    let mut search = Search::new(source, &Silent, &options);
    assert!(search.begin().await.unwrap());
    let plan = search.plan(None).await.unwrap();
    let (target, file) = Target::prepare(output, false).await.unwrap();
    let mut assembly = Assembly::new(&mut search, &target, file, &plan);
    match assembly.run(plan).await {
        Ok(restored) => {
            let bytes = std::fs::read(target.temporary()).unwrap();
            assert!(!target.state().exists());
            target.publish().await.unwrap();
            Some((restored, bytes))
        }
        Err(error) => {
            assert!(error.may_pass(), "{error}");
            match leaves {
                Leaves::Checkpoint => assembly.checkpoints.save(&mut assembly.applier).await.unwrap(),
                Leaves::Pages => drop(assembly.applier.checkpoint().await.unwrap()),
            }
            None
        }
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    seawall_host::real::install();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn objects(history: &History, cuts: &[u64]) -> Vec<(ObjectName, Bytes)> {
    let mut objects = vec![history.snapshot(5)];
    let mut first = 6;
    for cut in cuts {
        let last = (first + cut).min(30);
        if first <= last {
            // Merged ones leave out what is as it was before: a page that was owed may not come.
            objects.push(if cut % 3 == 0 {
                history.squashed(Level::One, first, last)
            } else {
                history.log(first, last)
            });
            first = last + 1;
        }
    }
    if first <= 30 {
        objects.push(history.log(first, 30));
    }
    objects.push(history.log(1, 30));
    objects
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_interrupted_where_the_state_is_exact(
        seed: u64,
        cuts in prop::collection::vec(0..9_u64, 0..8),
        first_fails in 6..31_u64,
        second_fails in 6..31_u64,
        target in prop::option::of(5..31_u64),
        other_database: bool,
        rot in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let history = History::random(30, seed);
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("restored.db");
        // The last object, of everything, is for earlier states only: it makes none of the failures pass.
        let all = objects(&history, &cuts);
        let failing = |fails_from| Memory { objects: all[..all.len() - 1].to_vec(), fails_from };
        let (restored, bytes, expected) = run(async {
            let first = attempt(&failing(first_fails), &output, When::Newest, Leaves::Checkpoint).await;
            assert!(first.is_none());
            let second = attempt(&failing(second_fails), &output, When::Newest, Leaves::Pages).await;
            assert!(second.is_none());
            if let Some(rot) = rot {
                let path = directory.path().join(".restored.db.restore");
                let mut bytes = std::fs::read(&path).unwrap();
                if !bytes.is_empty() {
                    let at = rot.index(bytes.len());
                    bytes[at] ^= 1;
                    std::fs::write(&path, bytes).unwrap();
                }
            }
            let other = History::random(30, seed.wrapping_add(1));
            let wanted = if other_database { &other } else { &history };
            let txid = target.unwrap_or(30);
            let source = Memory { objects: objects(wanted, &cuts), fails_from: u64::MAX };
            let when = target.map_or(When::Newest, |txid| When::Txid(Txid(txid)));
            let (restored, bytes) = attempt(&source, &output, when, Leaves::Checkpoint).await.unwrap();
            (restored, bytes, (wanted.position(txid), wanted.states[txid as usize].file()))
        });
        prop_assert_eq!(restored.position, expected.0);
        prop_assert!(bytes == expected.1);
        let names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        prop_assert_eq!(names, ["restored.db"]);
    }
}

#[test]
fn what_was_proven_is_not_read_again() {
    let history = History::random(30, 7);
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("restored.db");
    let objects = vec![history.snapshot(10), history.log(11, 20), history.log(21, 30)];
    run(async {
        let failing = Memory { objects: objects.clone(), fails_from: 21 };
        assert!(attempt(&failing, &output, When::Newest, Leaves::Checkpoint).await.is_none());
        let (mut rest, state) = (objects.clone(), directory.path().join(".restored.db.restore-state"));
        assert!(state.exists());
        // What is not needed any more may be broken.
        rest[1].1 = Bytes::from_static(b"nonsense");
        let source = Memory { objects: rest, fails_from: u64::MAX };
        let (restored, bytes) = attempt(&source, &output, When::Newest, Leaves::Checkpoint).await.unwrap();
        assert_eq!(restored.position, history.position(30));
        assert!(bytes == history.states[30].file());
    });
}

#[test]
fn two_restores_to_one_file_keep_out_of_each_others_way() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("restored.db");
    run(async {
        let held = Target::prepare(&output, false).await.unwrap();
        let refused = Target::prepare(&output, false).await.err().unwrap();
        assert!(refused.to_string().contains("another restore"), "{refused}");
        held.0.discard().await;
        Target::prepare(&output, false).await.unwrap().0.discard().await;
    });
}
