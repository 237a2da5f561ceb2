//! What each fault looks like to a node, in a simulated world.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use seawall_host::{task, time};
use seawall_node::destination::{ByteStream, Creation, Destination, DestinationError};

use super::*;
use crate::world::{self, Machine, SimWorld, WorldOptions};

const SECOND: Duration = Duration::from_secs(1);
const CONTENT: &[u8] = b"an object";

fn content() -> Vec<Bytes> {
    vec![Bytes::from_static(&CONTENT[..2]), Bytes::from_static(&CONTENT[2..])]
}

/// Runs `test` with a place of these faults; gives its output and the rare paths that were taken.
fn run<T, F>(faults: PlaceFaults, test: impl FnOnce(Arc<Place>, Arc<dyn Destination>) -> F) -> (T, Vec<&'static str>)
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let world = SimWorld::new(1, WorldOptions::default());
    let place = Place::new("far");
    place.change_faults(|now| *now = faults);
    let output = world.run(test(Arc::clone(&place), place.destination())).unwrap();
    (output, world.paths_reached().keys().copied().filter(|path| RARE_PATHS.contains(path)).collect())
}

fn is_unavailable<T>(outcome: &Result<T, DestinationError>) -> bool {
    matches!(outcome, Err(DestinationError::Unavailable { .. }))
}

fn pieces(count: usize, pulled: &Arc<AtomicUsize>) -> ByteStream {
    let pulled = Arc::clone(pulled);
    let piece = move |number: usize| {
        pulled.fetch_add(1, Ordering::Relaxed);
        Ok(Bytes::from(vec![number as u8; 100]))
    };
    stream::iter((0..count).map(piece)).boxed()
}

#[test]
fn a_sound_place_keeps_the_contract() {
    let ((), paths) = run(PlaceFaults::default(), |place, it| async move {
        assert_eq!(it.url(), "sim://far");
        it.probe().await.unwrap();
        assert!(it.creates_conditionally());
        assert_eq!(place.objects(), 0, "a probe leaves nothing behind");
        assert_eq!(it.create("a/1", content()).await.unwrap(), Creation::Created);
        let again = it.create("a/1", vec![Bytes::from_static(b"other")]).await.unwrap();
        assert_eq!((again, place.peek("a/1").unwrap()), (Creation::AlreadyExists, Bytes::from_static(CONTENT)));
        it.create("a/2", Vec::new()).await.unwrap();
        it.create("b", Vec::new()).await.unwrap();
        let listed = it.list("a/").await.unwrap();
        assert_eq!(
            listed.iter().map(|object| (object.name.as_str(), object.size)).collect::<Vec<_>>(),
            [("a/1", CONTENT.len() as u64), ("a/2", 0)]
        );
        assert_eq!(it.read("a/1", 3, 3).await.unwrap(), &CONTENT[3..6]);
        assert_eq!(it.read("a/1", 8, 30).await.unwrap(), &CONTENT[8..]);
        assert_eq!(it.read("a/1", 9, 30).await.unwrap(), "");
        assert!(matches!(it.read("none", 0, 1).await, Err(DestinationError::NotFound { .. })));
        it.delete("b").await.unwrap();
        it.delete("b").await.unwrap();
        assert_eq!(place.names(), ["a/1", "a/2"]);
        assert_eq!((place.objects(), place.bytes(), place.journal().len()), (2, CONTENT.len() as u64, 4));
        assert_eq!(place.journal_since(3)[0].name, "b");
        assert_eq!(world::current().time(), Duration::ZERO);
    });
    assert_eq!(paths, Vec::<&str>::new());
}

#[test]
fn streams_are_pulled_as_they_are_sent() {
    let faults = PlaceFaults { bytes_per_second: Some(100), ..PlaceFaults::default() };
    run(faults, |place, it| async move {
        let pulled = Arc::new(AtomicUsize::new(0));
        let stream = pieces(10, &pulled);
        let creation = task::spawn(async move { it.create_streaming("streamed", Some(1000), stream).await });
        time::sleep(SECOND * 9 / 2).await;
        assert!((5..=8).contains(&pulled.load(Ordering::Relaxed)), "{pulled:?}");
        assert_eq!(place.peek("streamed"), None, "nothing is visible before the end");
        assert_eq!(creation.await.unwrap().unwrap(), Creation::Created);
        assert_eq!(world::current().time(), SECOND * 10);
        assert_eq!(place.peek("streamed").unwrap().len(), 1000);
    });
}

#[test]
fn a_stream_that_breaks_at_its_source_leaves_nothing() {
    run(PlaceFaults::default(), |place, it| async move {
        let broken = vec![Ok(Bytes::from_static(b"a piece")), Err(io::Error::other("rot"))];
        let outcome = it.create_streaming("a", None, stream::iter(broken).boxed()).await;
        assert!(matches!(outcome, Err(DestinationError::Source { .. })), "{outcome:?}");
        time::sleep(SECOND).await;
        assert_eq!(place.objects(), 0);
    });
}

#[test]
fn success_may_be_reported_as_time_out() {
    let faults = PlaceFaults { time_out_after: 1.0, ..PlaceFaults::default() };
    let ((), paths) = run(faults, |place, it| async move {
        assert!(is_unavailable(&it.create("a", content()).await));
        assert_eq!(world::current().time(), place.faults().time_out);
        assert_eq!(place.peek("a").unwrap(), CONTENT);
        place.heal();
        assert_eq!(it.create("a", content()).await.unwrap(), Creation::AlreadyExists);
    });
    assert_eq!(paths, [ANSWER_LOST]);
}

#[test]
fn lost_requests_do_nothing() {
    let faults = PlaceFaults { time_out_before: 1.0, ..PlaceFaults::default() };
    run(faults, |place, it| async move {
        assert!(is_unavailable(&it.create("a", content()).await));
        assert!(is_unavailable(&it.create_streaming("b", None, pieces(9, &Arc::default())).await));
        assert!(is_unavailable(&it.list("").await));
        assert_eq!(world::current().time(), place.faults().time_out * 3);
        assert_eq!(place.objects(), 0);
    });
}

#[test]
fn a_creation_may_come_after_its_time_out() {
    let faults = PlaceFaults { late_creations: 1.0, ..PlaceFaults::default() };
    let ((), paths) = run(faults, |place, it| async move {
        assert!(is_unavailable(&it.create("a", content()).await));
        assert_eq!(place.peek("a"), None);
        time::sleep(place.faults().latest_creation).await;
        assert_eq!(place.peek("a").unwrap(), CONTENT);
    });
    assert_eq!(paths, [LATE_CREATION]);
}

#[test]
fn broken_uploads_leave_nothing() {
    let faults = PlaceFaults { broken_uploads: 1.0, ..PlaceFaults::default() };
    let ((), paths) = run(faults, |place, it| async move {
        assert!(is_unavailable(&it.create("a", content()).await));
        assert!(is_unavailable(&it.create("empty", Vec::new()).await));
        let pulled = Arc::new(AtomicUsize::new(0));
        assert!(is_unavailable(&it.create_streaming("b", Some(100_000), pieces(1000, &pulled)).await));
        assert!((1..1000).contains(&pulled.load(Ordering::Relaxed)), "{pulled:?}");
        assert_eq!((place.objects(), place.journal().len()), (0, 0));
        place.heal();
        assert_eq!(it.create("a", content()).await.unwrap(), Creation::Created);
    });
    assert_eq!(paths, [PARTIAL_UPLOAD]);
}

#[test]
fn bursts_of_refusals_pass() {
    let faults = PlaceFaults { throttling: 1.0, burst: SECOND..SECOND, ..PlaceFaults::default() };
    let ((), paths) = run(faults, |place, it| async move {
        assert!(is_unavailable(&it.create("a", content()).await));
        place.change_faults(|faults| faults.throttling = 0.0);
        assert!(is_unavailable(&it.list("").await));
        time::sleep(SECOND).await;
        assert_eq!(it.create("a", content()).await.unwrap(), Creation::Created);
    });
    assert_eq!(paths, [THROTTLED]);
}

#[test]
fn bad_credentials_are_refused_for_as_long_as_they_are_bad() {
    let faults = PlaceFaults { refuses: true, ..PlaceFaults::default() };
    run(faults, |place, it| async move {
        assert!(matches!(it.probe().await, Err(DestinationError::Refused { .. })));
        assert!(matches!(it.create("a", content()).await, Err(DestinationError::Refused { .. })));
        place.heal();
        assert_eq!(it.create("a", content()).await.unwrap(), Creation::Created);
    });
}

#[test]
fn distance_and_slowness_take_time() {
    let faults = PlaceFaults { latency: SECOND..SECOND, bytes_per_second: Some(9), ..PlaceFaults::default() };
    run(faults, |_, it| async move {
        it.create("a", content()).await.unwrap();
        assert_eq!(world::current().time(), SECOND * 3);
        it.read("a", 0, 100).await.unwrap();
        assert_eq!(world::current().time(), SECOND * 6);
        it.list("").await.unwrap();
        assert_eq!(world::current().time(), SECOND * 8);
    });
}

#[test]
fn a_full_place_takes_nothing_more() {
    let faults = PlaceFaults { capacity: Some(15), ..PlaceFaults::default() };
    run(faults, |place, it| async move {
        it.create("a", content()).await.unwrap();
        assert!(is_unavailable(&it.create("b", content()).await));
        let pulled = Arc::new(AtomicUsize::new(0));
        assert!(is_unavailable(&it.create_streaming("c", None, pieces(100, &pulled)).await));
        assert!(pulled.load(Ordering::Relaxed) < 10, "{pulled:?}");
        assert_eq!(it.read("a", 0, 100).await.unwrap(), CONTENT, "reading needs no room");
        it.delete("a").await.unwrap();
        assert_eq!(it.create("b", content()).await.unwrap(), Creation::Created);
        place.change_faults(|faults| faults.capacity = Some(9));
        assert!(is_unavailable(&it.probe().await), "a probe writes");
    });
}

#[test]
fn stale_listings_show_the_past_and_reads_the_present() {
    let faults = PlaceFaults { stale_listings: 1.0, staleness: SECOND * 60, ..PlaceFaults::default() };
    let ((), paths) = run(faults, |_, it| async move {
        time::sleep(SECOND * 100).await;
        it.create("a", content()).await.unwrap();
        time::sleep(Duration::from_millis(1)).await;
        let listed = it.list("").await.unwrap();
        assert_eq!(listed, []);
        assert_eq!(it.read("a", 0, 100).await.unwrap(), CONTENT);
        time::sleep(SECOND * 60).await;
        assert_eq!(it.list("").await.unwrap().len(), 1);
        it.delete("a").await.unwrap();
        time::sleep(Duration::from_millis(1)).await;
        assert_eq!(it.list("").await.unwrap().len(), 1, "still named");
        assert!(matches!(it.read("a", 0, 1).await, Err(DestinationError::NotFound { .. })));
    });
    assert_eq!(paths, [STALE_LISTING]);
}

#[test]
fn a_lying_place_acknowledges_and_forgets() {
    let faults = PlaceFaults { lying: 0.5, ..PlaceFaults::default() };
    let ((), paths) = run(faults, |place, it| async move {
        let names: Vec<_> = (0..40).map(|number| format!("object {number:02}")).collect();
        for name in &names {
            assert_eq!(it.create(name, content()).await.unwrap(), Creation::Created);
        }
        let at_once = place.forgotten().len();
        time::sleep(place.faults().forgets_within).await;
        let forgotten = place.forgotten();
        assert!(at_once > 0 && at_once < forgotten.len() && forgotten.len() < 40, "{at_once}, {}", forgotten.len());
        for name in &names {
            assert_eq!(place.peek(name).is_none(), forgotten.contains(name), "{name}");
            assert_eq!(it.read(name, 0, 1).await.is_err(), forgotten.contains(name), "{name}");
        }
        place.heal();
        assert_eq!(it.create(&forgotten[0], content()).await.unwrap(), Creation::Created);
        assert_eq!(place.forgotten(), forgotten[1..]);
    });
    assert_eq!(paths, [FORGOTTEN]);
}

#[test]
fn a_place_that_is_gone_comes_back_as_it_was() {
    run(PlaceFaults::default(), |place, it| async move {
        it.create("a", content()).await.unwrap();
        place.change_faults(|faults| faults.gone = true);
        for _ in 0..10 {
            assert!(is_unavailable(&it.read("a", 0, 1).await));
            assert!(is_unavailable(&it.create("b", content()).await));
            time::sleep(SECOND * 3600).await;
        }
        place.heal();
        assert_eq!(it.read("a", 0, 100).await.unwrap(), CONTENT);
        assert_eq!(place.names(), ["a"]);
    });
}

#[test]
fn a_place_that_goes_during_a_request_leaves_its_outcome_unknown() {
    let faults = PlaceFaults { latency: SECOND..SECOND, ..PlaceFaults::default() };
    for (gone_at, created) in [(SECOND / 2, false), (SECOND * 3 / 2, true)] {
        run(faults.clone(), move |place, it| async move {
            let creation = task::spawn(async move { it.create("a", content()).await });
            time::sleep(gone_at).await;
            place.change_faults(|faults| faults.gone = true);
            assert!(is_unavailable(&creation.await.unwrap()));
            assert_eq!(place.peek("a").is_some(), created);
        });
    }
}

#[test]
fn without_conditional_creation_of_two_creators_the_last_one_wins() {
    let faults = PlaceFaults { latency: SECOND..SECOND * 2, unconditional: true, ..PlaceFaults::default() };
    run(faults, |place, it| async move {
        it.probe().await.unwrap();
        assert!(!it.creates_conditionally());
        let creators = ["one", "two"].map(|text| {
            let it = Arc::clone(&it);
            task::spawn(async move { it.create("a", vec![Bytes::from_static(text.as_bytes())]).await })
        });
        for creator in creators {
            assert_eq!(creator.await.unwrap().unwrap(), Creation::Created);
        }
        let journal = place.journal();
        assert!(matches!(
            journal[..],
            [JournalEntry { change: Change::Created { .. }, .. }, JournalEntry { change: Change::Replaced { .. }, .. }]
        ));
        assert_eq!(it.create("a", content()).await.unwrap(), Creation::AlreadyExists, "it looks first");
        place.heal();
        assert!(place.faults().unconditional, "no fault that ends");
    });
}

#[test]
fn conflicting_creators_may_hear_of_an_object_that_never_comes() {
    let faults = PlaceFaults { conflicts: 1.0, bytes_per_second: Some(100), ..PlaceFaults::default() };
    run(faults, |place, it| async move {
        assert_eq!(it.create("alone", content()).await.unwrap(), Creation::Created);
        let never_ends: ByteStream =
            stream::iter([Ok(Bytes::from_static(b"a piece"))]).chain(stream::pending()).boxed();
        let other = Arc::clone(&it);
        let other = task::spawn_owned(async move { drop(other.create_streaming("a", None, never_ends).await) });
        time::sleep(SECOND).await;
        assert_eq!(it.create("a", content()).await.unwrap(), Creation::AlreadyExists);
        drop(other);
        time::sleep(SECOND).await;
        assert_eq!(place.peek("a"), None);
        assert_eq!(it.create("a", content()).await.unwrap(), Creation::Created);
    });
}

#[test]
fn hidden_corruption_turns_one_bit_of_one_object() {
    run(PlaceFaults::default(), |place, it| async move {
        assert_eq!(place.corrupt_one(), None);
        it.create("a", content()).await.unwrap();
        assert_eq!(place.corrupt_one().as_deref(), Some("a"));
        let read = it.read("a", 0, 100).await.unwrap();
        let bits: u32 = read.iter().zip(CONTENT).map(|(now, then)| (now ^ then).count_ones()).sum();
        assert_eq!((bits, read.len(), place.corrupted()), (1, CONTENT.len(), vec!["a".to_owned()]));
        assert_eq!(place.corrupt_one(), None, "each object once");
    });
}

#[test]
fn what_a_dead_machine_sent_takes_effect_and_what_it_did_not_finish_does_not() {
    let faults = PlaceFaults { latency: SECOND..SECOND, bytes_per_second: Some(100), ..PlaceFaults::default() };
    run(faults, |place, it| async move {
        let world = world::current();
        let node = world.add_machine("node");
        let streaming = Arc::clone(&it);
        world.spawn_on(node, async move { drop(it.create("sent", content()).await) });
        world.spawn_on(node, async move {
            drop(streaming.create_streaming("unfinished", Some(1000), pieces(10, &Arc::default())).await);
        });
        time::sleep(SECOND / 2).await;
        world.kill(node, true);
        time::sleep(SECOND * 60).await;
        assert_eq!(place.names(), ["sent"]);
        assert_eq!(place.journal()[0].by, node);
        assert_ne!(node, Machine::SIMULATOR);
    });
}

#[test]
fn under_all_faults_objects_are_immutable_and_runs_repeat() {
    let run = |seed| {
        let world = SimWorld::new(seed, WorldOptions::default());
        let place = Place::new("far");
        place.change_faults(|faults| {
            *faults = PlaceFaults {
                latency: Duration::from_millis(1)..SECOND,
                time_out_after: 0.1,
                time_out_before: 0.1,
                late_creations: 0.1,
                broken_uploads: 0.1,
                throttling: 0.05,
                bytes_per_second: Some(100),
                stale_listings: 0.5,
                conflicts: 0.5,
                ..PlaceFaults::default()
            }
        });
        let far = Arc::clone(&place);
        let main = async move {
            let creators: Vec<_> = (0..4_u8)
                .map(|creator| {
                    let it = far.destination();
                    task::spawn(async move {
                        for number in 0..60_u8 {
                            let name = format!("{}", number % 7);
                            match number % 4 {
                                0 | 1 => drop(it.create(&name, vec![Bytes::from(vec![creator; 10])]).await),
                                2 => drop(it.list("").await),
                                _ => drop(it.delete(&name).await),
                            }
                        }
                    })
                })
                .collect();
            for creator in creators {
                creator.await.unwrap();
            }
            time::sleep(SECOND * 60).await;
        };
        world.run(main).unwrap();
        (world.hash(), place.journal())
    };
    let (hash, journal) = run(5);
    let mut there = BTreeMap::new();
    for entry in &journal {
        match entry.change {
            Change::Created { .. } => assert_eq!(there.insert(&entry.name, entry.at), None, "{entry:?}"),
            Change::Deleted { .. } => assert!(there.remove(&entry.name).is_some(), "{entry:?}"),
            _ => panic!("{entry:?}"),
        }
    }
    assert!(journal.len() > 20, "{}", journal.len());
    assert_eq!((hash, journal), run(5));
    assert_ne!(hash, run(6).0);
}
