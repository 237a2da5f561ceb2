//! Verifying objects without restoring them: what is damaged, what is lost, what is proven.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "support/history.rs"]
mod history;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use history::History;
use proptest::prelude::*;
use seawall_node::restore::plan::{Goal, plan};
use seawall_node::restore::{
    Breadth, ByteStream, FaultCause, Finding, Listing, PartRead, Progress, Reached, Report, RestoreSource, SourceError,
    SourceObject, prove_chain, verify,
};
use seawall_proto::checksum::Checksum;
use seawall_proto::object_name::{Level, ObjectName};
use seawall_proto::position::{Lineage, PageNumber, PageSize, Position, Txid};
use seawall_proto::segment::{SegmentEncoder, SegmentHeader, SegmentKind};

struct Silent;

impl Progress for Silent {
    fn planned(&self, _: u64) {}
    fn read(&self, _: u64) {}
    fn warn(&self, _: &str) {}
}

/// Objects in memory, at one place.
#[derive(Clone, Default)]
struct Memory {
    objects: BTreeMap<String, (ObjectName, Bytes)>,
    head: Option<Position>,
}

impl Memory {
    fn of(objects: impl IntoIterator<Item = (ObjectName, Bytes)>) -> Self {
        let objects = objects.into_iter().map(|(name, bytes)| (name.to_string(), (name, bytes)));
        Self { objects: objects.collect(), head: None }
    }
}

impl RestoreSource for Memory {
    fn describe(&self) -> &str {
        "memory"
    }

    fn list(&self, _: Breadth) -> BoxFuture<'_, Result<Listing, SourceError>> {
        let objects = self.objects.values().map(|(name, bytes)| SourceObject {
            origin: Arc::from("memory"),
            route: 0,
            name: *name,
            size: bytes.len() as u64,
            commit_time_ms: None,
        });
        let listing = Listing { objects: objects.collect(), head: self.head, ..Listing::default() };
        async { Ok(listing) }.boxed()
    }

    fn read(&self, object: &SourceObject) -> ByteStream {
        let bytes = self.objects[&object.name.to_string()].1.clone();
        stream::iter([Ok(bytes)]).boxed()
    }

    fn read_part(&self, object: &SourceObject, offset: u64, length: u64) -> Option<PartRead> {
        let bytes = self.objects[&object.name.to_string()].1.slice(offset as usize..(offset + length) as usize);
        Some(async { Ok(bytes) }.boxed())
    }
}

fn run(source: &Memory, deep: bool) -> Report {
    seawall_host::real::install();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(verify(source, deep, 4, &Silent)).unwrap()
}

/// Names of the objects found at fault.
fn names(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.object.as_str()).collect()
}

fn all_kinds(history: &History) -> Vec<(ObjectName, Bytes)> {
    vec![
        history.log(1, 10),
        history.log(8, 14),
        history.log(15, 20),
        history.snapshot(12),
        history.snapshot(24),
        history.squashed(Level::One, 13, 22),
        history.squashed(Level::One, 23, 26),
        history.squashed(Level::Two, 13, 26),
        history.log(27, 30),
    ]
}

#[test]
fn every_state_of_a_sound_place_is_proven() {
    let source = Memory::of(all_kinds(&History::random(30, 3)));
    let report = run(&source, true);
    assert!(report.is_sound() && report.unproven.is_empty(), "{report:?}");
    // 1 to 20, 22, 24, 26 to 30.
    assert_eq!(report.states, 27);
    let size: usize = source.objects.values().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(report.bytes, size as u64);
    let report = run(&source, false);
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.bytes, 9 * 128);
}

#[test]
fn each_damaged_object_is_named() {
    let history = History::random(30, 3);
    let whole = Memory::of(all_kinds(&history));
    for name in whole.objects.keys() {
        let mut source = whole.clone();
        let bytes = &mut source.objects.get_mut(name).unwrap().1;
        let mut rotten = bytes.to_vec();
        rotten[bytes.len() / 3] ^= 4;
        *bytes = rotten.into();
        let report = run(&source, true);
        assert_eq!(names(&report.damaged), [name.as_str()], "{report:?}");
        let bytes = &mut source.objects.get_mut(name).unwrap().1;
        *bytes = bytes.slice(..bytes.len() - 1);
        assert_eq!(names(&run(&source, true).damaged), [name.as_str()]);
        assert_eq!(names(&run(&source, false).damaged), [name.as_str()]);
        // What stands in an object of that name is another's.
        let (other, content) = history.log(3, 4);
        source.objects.get_mut(name).unwrap().1 = content;
        assert_ne!(other.to_string(), *name);
        assert_eq!(names(&run(&source, true).damaged), [name.as_str()]);
        assert_eq!(names(&run(&source, false).damaged), [name.as_str()]);
    }
}

/// A segment that is whole and consistent, with a page that is not what the checksums it states say.
fn lying(history: &History, txid: u64) -> (ObjectName, Bytes) {
    let (name, _) = history.log(txid, txid);
    let (before, state) = (&history.states[txid as usize - 1], &history.states[txid as usize]);
    let mut encoder = SegmentEncoder::new(SegmentHeader {
        page_size: PageSize::new(state.page_size).unwrap(),
        lineage: name.lineage,
        first: name.first,
        last: name.last,
        checksum_before: before.checksum(),
        kind: SegmentKind::Log,
    });
    for page in &state.written {
        encoder.page(PageNumber(*page), &state.pages[page]).unwrap();
    }
    encoder.page(PageNumber(1), &vec![0xaa; state.page_size as usize]).unwrap();
    encoder.commit(state.page_count, state.time, state.checksum()).unwrap();
    (name, encoder.finish().unwrap().0.concat().into())
}

#[test]
fn pages_that_do_not_give_the_stated_checksum_are_found_by_reading_them() {
    let history = History::random(12, 5);
    let source = Memory::of([
        history.log(1, 5),
        lying(&history, 6),
        history.log(7, 9),
        history.snapshot(10),
        history.log(11, 12),
    ]);
    let report = run(&source, true);
    assert_eq!(names(&report.damaged), [history.log(6, 6).0.to_string()], "{report:?}");
    // Whole, but what it continues is not: nobody can say that it is right.
    assert_eq!(names(&report.unproven), [history.log(7, 9).0.to_string()]);
    assert_eq!(report.states, 8);
}

#[test]
fn objects_that_contradict_each_other_are_found_by_their_ends() {
    let (history, other) = (History::random(12, 5), History::random(12, 6));
    let report = run(&Memory::of([history.log(1, 6), other.log(7, 12)]), false);
    assert_eq!(report.damaged.len(), 1, "{report:?}");
    assert!(report.damaged[0].cause.contains("txid 6"), "{report:?}");
}

#[test]
fn a_newest_state_that_nothing_leads_to_is_told() {
    let history = History::random(12, 5);
    let mut source = Memory::of([history.log(1, 10)]);
    source.head = Some(history.position(12));
    for deep in [false, true] {
        let report = run(&source, deep);
        assert_eq!(report.unreachable, Some((Lineage(1), Txid(12))));
        assert!(!report.is_sound());
    }
    source.head = Some(history.position(10));
    assert!(run(&source, true).is_sound());
}

/// Goes to `txid` as a restore does; answers where that leads, or which object is at fault.
fn arrive(source: &Memory, txid: u64, known: Option<Checksum>) -> Result<Reached, String> {
    seawall_host::real::install();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let objects = source.list(Breadth::Wide).await.unwrap().objects;
        let plan = plan(&objects, |_| true, Lineage(1), None, Goal::Exactly(Txid(txid))).unwrap();
        let known = move |_: Lineage, at: Txid| known.filter(|_| at == Txid(txid));
        match prove_chain(source, &objects, &plan, &known).await {
            Ok(reached) => Ok(reached),
            Err(fault) => {
                assert!(matches!(fault.cause, FaultCause::Damaged(_)), "{fault:?}");
                Err(objects[fault.object].name.to_string())
            }
        }
    })
}

#[test]
fn a_chain_breaks_at_the_damaged_object_and_at_what_the_cluster_knows_better() {
    let history = History::random(20, 5);
    let whole = Memory::of([history.log(1, 9), history.snapshot(7), history.log(10, 20)]);
    let reached = arrive(&whole, 15, Some(history.position(15).checksum)).unwrap();
    assert_eq!((reached.position, reached.whole.len()), (history.position(15), 3));
    let last = history.log(10, 20).0.to_string();
    assert_eq!(arrive(&whole, 15, Some(history.position(14).checksum)), Err(last.clone()));
    for name in whole.objects.keys() {
        let mut source = whole.clone();
        let bytes = &mut source.objects.get_mut(name).unwrap().1;
        let mut rotten = bytes.to_vec();
        rotten[bytes.len() / 2] ^= 16;
        *bytes = rotten.into();
        assert_eq!(arrive(&source, 15, None), Err(name.clone()));
    }
    // Whole by itself: only the pages show it.
    let lies = Memory::of([history.log(1, 5), lying(&history, 6), history.log(7, 9)]);
    assert_eq!(arrive(&lies, 8, None), Err(history.log(6, 6).0.to_string()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever is there, exactly the states that can be restored are proven, and nothing true is called damaged.
    #[test]
    fn proves_what_can_be_restored(
        seed: u64,
        kinds in prop::collection::vec((0..4_u8, 1..25_u64, 0..8_u64), 1..12),
        page_size_changes: bool,
    ) {
        let mut history = History::random(12, seed);
        if page_size_changes {
            history.change_page_size(1024, 9);
        } else {
            let all: Vec<u32> = (1..=40).collect();
            history.commit(&all, 40, 3);
        }
        for txid in 0..20_u32 {
            let count = history.states.last().unwrap().page_count;
            let written: Vec<u32> = (txid % count + 1..=count.min(txid % count + 2)).collect();
            history.commit(&written, count, txid as u8);
        }
        let objects = kinds.into_iter().filter_map(|(kind, first, length)| {
            let last = first + length;
            let one_size = history.states[first as usize].page_size == history.states[last as usize].page_size
                && history.states[first as usize - 1].page_size == history.states[last as usize].page_size;
            match kind {
                3 => Some(history.snapshot(last)),
                _ if !one_size => None,
                0 => Some(history.squashed(Level::One, first, last)),
                _ => Some(history.log(first, last)),
            }
        });
        let mut objects: Vec<_> = objects.collect();
        objects.push(history.log(1, 4));
        let source = Memory::of(objects);
        let report = run(&source, true);
        prop_assert!(report.damaged.is_empty(), "{:?}", report.damaged);
        let states: u64 = report.history.lineages[0].runs.iter().map(|timed| timed.run.states).sum();
        prop_assert_eq!(report.states, states);
        for timed in &report.history.lineages[0].runs {
            let last = timed.run.last.0;
            prop_assert_eq!(arrive(&source, last, None).unwrap().position, history.position(last));
        }
    }
}
