//! What every kind of destination must do.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, future, stream};
use seawall_host::real::free_port;
use seawall_node::destination::{ByteStream, Creation, Destination, DestinationError, ListedObject};

use super::proxy::{Fault, Proxy};

/// Names that stores, URLs and file systems have their trouble with.
const ODD_NAMES: &[&str] = &[
    "odd/with space",
    "odd/plus+and&amp=equals",
    "odd/percent%20%2F%",
    "odd/question?hash#semicolon;",
    "odd/quote'\"`$(x)",
    "odd/umlaut-ä-日本-🦀",
    "odd/e\u{301}-decomposed",
    "odd/.hidden",
    "odd/brackets[1]{2}<3>",
    "odd/tilde~*!@^|,:",
    "odd/UPPER",
    "odd/upper",
];

pub fn parts(texts: &[&'static str]) -> Vec<Bytes> {
    texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect()
}

/// `length` bytes that do not repeat soon, in pieces of an odd size.
pub fn large(length: usize) -> Vec<Bytes> {
    let mut state = 1_u64;
    let bytes: Vec<u8> = (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect();
    let bytes = Bytes::from(bytes);
    (0..length).step_by(700_001).map(|at| bytes.slice(at..length.min(at + 700_001))).collect()
}

pub fn stream_of(pieces: Vec<Bytes>) -> ByteStream {
    stream::iter(pieces.into_iter().map(Ok)).boxed()
}

async fn names(destination: &dyn Destination, prefix: &str) -> Vec<String> {
    destination.list(prefix).await.unwrap().into_iter().map(|object| object.name).collect()
}

/// What holds for every destination.
pub async fn keeps_the_contract(destination: Arc<dyn Destination>) {
    keeps_what_it_can(&*destination).await;
    takes_odd_names(&*destination).await;
    assert!(destination.creates_conditionally());
}

/// What holds also where a server has its limits.
pub async fn keeps_what_it_can(destination: &dyn Destination) {
    destination.probe().await.unwrap();
    assert_eq!(destination.list("").await.unwrap(), [], "probing leaves something behind");
    creates_reads_lists_and_deletes(destination).await;
    streams_objects(destination).await;
    if destination.creates_conditionally() {
        one_of_many_creators_wins(destination, 1000).await;
        one_of_many_creators_wins(destination, 9_000_000).await;
    }
}

async fn creates_reads_lists_and_deletes(destination: &dyn Destination) {
    // Creation never overwrites.
    let name = "app/@1/0/0000000000000001-0000000000000002-00000000000000ff.seg";
    assert_eq!(destination.create(name, parts(&["ab", "", "cde"])).await.unwrap(), Creation::Created);
    assert_eq!(destination.create(name, parts(&["other"])).await.unwrap(), Creation::AlreadyExists);
    assert_eq!(destination.read(name, 0, 100).await.unwrap(), "abcde");

    // Ranges end where the object ends.
    assert_eq!(destination.read(name, 1, 3).await.unwrap(), "bcd");
    assert_eq!(destination.read(name, 4, 10).await.unwrap(), "e");
    assert_eq!(destination.read(name, 5, 10).await.unwrap(), "");
    assert_eq!(destination.read(name, 99, 10).await.unwrap(), "");
    assert_eq!(destination.read(name, 2, 0).await.unwrap(), "");
    let missing = destination.read("app/@1/0/none.seg", 0, 10).await;
    assert!(matches!(missing, Err(DestinationError::NotFound { .. })), "{missing:?}");

    // Listings are by prefix, complete, and sorted.
    for name in ["app/@1/snapshot/b", "app/sub/@1/0/c", "apple/@1/0/d", "app/@2/0/e", "app/@1/0/f"] {
        assert_eq!(destination.create(name, parts(&["x"])).await.unwrap(), Creation::Created);
    }
    assert_eq!(names(destination, "app/@1/").await, [name, "app/@1/0/f", "app/@1/snapshot/b"]);
    assert_eq!(names(destination, "app/@").await, [name, "app/@1/0/f", "app/@1/snapshot/b", "app/@2/0/e"]);
    assert_eq!(names(destination, "app/@1/sn").await, ["app/@1/snapshot/b"]);
    assert_eq!(names(destination, "none/").await, Vec::<String>::new());
    assert_eq!(names(destination, "").await.len(), 6);
    let sized = destination.list("app/@1/0/0").await.unwrap();
    assert_eq!(sized, [ListedObject { name: name.to_owned(), size: 5 }]);

    // Deletion is idempotent.
    destination.delete("app/@2/0/e").await.unwrap();
    destination.delete("app/@2/0/e").await.unwrap();
    assert_eq!(names(destination, "app/@2/").await, Vec::<String>::new());

    // An object may be empty.
    assert_eq!(destination.create("empty/a", Vec::new()).await.unwrap(), Creation::Created);
    assert_eq!(destination.create_streaming("empty/b", None, stream_of(vec![])).await.unwrap(), Creation::Created);
    assert_eq!(destination.create("empty/a", parts(&["x"])).await.unwrap(), Creation::AlreadyExists);
    assert_eq!(destination.read("empty/a", 0, 10).await.unwrap(), "");
    let listed = destination.list("empty/").await.unwrap();
    assert_eq!(listed.iter().map(|object| object.size).collect::<Vec<_>>(), [0, 0]);
}

/// Objects under names that stores, URLs and file systems have their trouble with.
pub async fn takes_odd_names(destination: &dyn Destination) {
    for name in ODD_NAMES {
        let content = vec![Bytes::copy_from_slice(name.as_bytes())];
        let created = destination.create(name, content).await;
        assert!(matches!(created, Ok(Creation::Created)), "{name}: {created:?}");
    }
    for name in ODD_NAMES {
        assert_eq!(destination.read(name, 0, 100).await.unwrap(), name.as_bytes(), "{name}");
        assert_eq!(names(destination, name).await, [*name]);
    }
    let mut expected = ODD_NAMES.to_vec();
    expected.sort_unstable();
    assert_eq!(names(destination, "odd/").await, expected);
    for name in ODD_NAMES {
        destination.delete(name).await.unwrap();
    }
    assert_eq!(names(destination, "odd/").await, Vec::<String>::new());
}

async fn streams_objects(destination: &dyn Destination) {
    let short = stream_of(parts(&["one", "two"]));
    assert_eq!(destination.create_streaming("streams/short", None, short).await.unwrap(), Creation::Created);
    assert_eq!(destination.read("streams/short", 0, 9).await.unwrap(), "onetwo");

    // The second length is a whole number of parts for every kind.
    for (name, length) in [("streams/long", 40_000_123), ("streams/round", 32 << 20)] {
        let pieces = large(length);
        let hint = Some(length as u64);
        let created = destination.create_streaming(name, hint, stream_of(pieces.clone())).await;
        assert_eq!(created.unwrap(), Creation::Created);
        let read = destination.read(name, 0, u64::MAX).await.unwrap();
        assert!(read == pieces.concat(), "{} bytes", read.len());
        let middle = destination.read(name, 15_999_999, 3_000_000).await.unwrap();
        assert!(middle == read.slice(15_999_999..18_999_999));
        let again = destination.create_streaming(name, hint, stream_of(large(20_000_000))).await;
        assert_eq!(again.unwrap(), Creation::AlreadyExists);
        assert_eq!(destination.read(name, 0, 100).await.unwrap(), read.slice(..100));
    }
    // Many parts at once are an object too.
    assert_eq!(destination.create("streams/parts", large(20_000_000)).await.unwrap(), Creation::Created);
    assert_eq!(destination.list("streams/p").await.unwrap()[0].size, 20_000_000);

    // What cannot be produced to its end is not there at all.
    for produced in [3, 20_000_000] {
        let pieces = large(produced).into_iter().map(Ok).chain([Err(io::Error::other("the image is damaged"))]);
        let failed =
            destination.create_streaming("streams/broken", None, stream::iter(pieces.collect::<Vec<_>>()).boxed());
        let error = failed.await.unwrap_err();
        assert!(matches!(&error, DestinationError::Source { cause, .. } if cause == "the image is damaged"), "{error}");
    }
    let absent = destination.read("streams/broken", 0, 1).await;
    assert!(matches!(absent, Err(DestinationError::NotFound { .. })), "{absent:?}");
    assert_eq!(names(destination, "streams/").await.len(), 4);
}

async fn one_of_many_creators_wins(destination: &dyn Destination, length: usize) {
    let name = format!("race/{length}");
    let name = &name;
    let writers = if length > 1_000_000 { 4 } else { 16 };
    let creations = (0..writers).map(|writer: u8| async move {
        let content = stream_of(vec![Bytes::from(vec![writer; length])]);
        (writer, destination.create_streaming(name, None, content).await)
    });
    let outcomes = future::join_all(creations).await;
    let winners: Vec<u8> = outcomes
        .iter()
        .filter(|(_, outcome)| matches!(outcome, Ok(Creation::Created)))
        .map(|(writer, _)| *writer)
        .collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    let content = destination.read(name, 0, u64::MAX).await.unwrap();
    assert!(content.len() == length && content.iter().all(|byte| *byte == winners[0]));
}

/// Lists more objects than the store names at a time.
pub async fn lists_more_than_one_page(destination: &dyn Destination, count: usize) {
    let names: Vec<String> = (0..count).map(|number| format!("pages/{number:04}")).collect();
    let created = stream::iter(&names).map(|name| destination.create(name, Vec::new())).buffer_unordered(32);
    created.for_each(|created| async { assert_eq!(created.unwrap(), Creation::Created) }).await;
    let listed = destination.list("pages/").await.unwrap();
    assert!(listed.iter().map(|object| &object.name).eq(&names), "{} of {}", listed.len(), names.len());
}

/// What a destination does when its network misbehaves. `open` gives one that is reached at an address, and gives a
/// request up when it stands still for a time.
pub async fn endures_its_network(server: SocketAddr, open: impl Fn(SocketAddr, Duration) -> Arc<dyn Destination>) {
    nobody_listens(&open).await;
    nobody_answers(server, &open).await;
    an_upload_is_interrupted(server, &open).await;
    a_host_is_slow(server, &open).await;
}

async fn nobody_listens(open: &impl Fn(SocketAddr, Duration) -> Arc<dyn Destination>) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let destination = open(address, Duration::from_secs(10));
    for error in errors_of(&*destination).await {
        assert!(matches!(error, DestinationError::Unavailable { .. }), "{error:?}");
        let text = error.to_string();
        let says = [destination.url(), &address.to_string(), "cannot be reached"];
        assert!(says.iter().all(|part| text.contains(part)), "{says:?}: {text}");
    }
}

async fn nobody_answers(server: SocketAddr, open: &impl Fn(SocketAddr, Duration) -> Arc<dyn Destination>) {
    let proxy = Proxy::start(server, Fault::Silence).await;
    let destination = open(proxy.address, Duration::from_millis(300));
    let begun = Instant::now();
    for error in errors_of(&*destination).await {
        assert!(matches!(error, DestinationError::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().contains("in time"), "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

async fn errors_of(destination: &dyn Destination) -> Vec<DestinationError> {
    vec![
        destination.create("app/a", parts(&["x"])).await.unwrap_err(),
        destination.read("app/a", 0, 1).await.unwrap_err(),
        destination.list("app/").await.unwrap_err(),
        destination.delete("app/a").await.unwrap_err(),
        destination.probe().await.unwrap_err(),
    ]
}

async fn an_upload_is_interrupted(server: SocketAddr, open: &impl Fn(SocketAddr, Duration) -> Arc<dyn Destination>) {
    let proxy = Proxy::start(server, Fault::None).await;
    let destination = open(proxy.address, Duration::from_secs(5));
    destination.create("interrupted/before", parts(&["x"])).await.unwrap();
    proxy.set(Fault::BreakAfter(19_000_000));
    let content = large(30_000_000);
    let failed = destination.create_streaming("interrupted/a", None, stream_of(content.clone())).await;
    let error = failed.unwrap_err();
    assert!(matches!(error, DestinationError::Unavailable { .. }), "{error:?}");
    proxy.set(Fault::None);
    assert_eq!(names(&*destination, "interrupted/").await, ["interrupted/before"]);
    let absent = destination.read("interrupted/a", 0, 1).await;
    assert!(matches!(absent, Err(DestinationError::NotFound { .. })), "{absent:?}");
    let again = destination.create_streaming("interrupted/a", None, stream_of(content.clone())).await;
    assert_eq!(again.unwrap(), Creation::Created);
    assert!(destination.read("interrupted/a", 0, u64::MAX).await.unwrap() == content.concat());
    assert_eq!(names(&*destination, "interrupted/").await.len(), 2);
}

async fn a_host_is_slow(server: SocketAddr, open: &impl Fn(SocketAddr, Duration) -> Arc<dyn Destination>) {
    let proxy = Proxy::start(server, Fault::Slow(6_000_000)).await;
    let destination = open(proxy.address, Duration::from_secs(1));
    // Each part takes longer than a request may stand still: what goes on is not given up.
    let content = large(20_000_000);
    let created = destination.create_streaming("slow/a", None, stream_of(content.clone())).await;
    assert_eq!(created.unwrap(), Creation::Created);
    assert!(destination.read("slow/a", 0, u64::MAX).await.unwrap() == content.concat());
}

/// Fills the small disk of a destination: that is said, nothing half is left, and it goes on when there is room.
pub async fn endures_a_full_disk(destination: &dyn Destination, says: &str) {
    destination.create("full/small", parts(&["x"])).await.unwrap();
    let error = destination.create_streaming("full/large", None, stream_of(large(30_000_000))).await.unwrap_err();
    assert!(matches!(error, DestinationError::Unavailable { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(says) && text.contains("full/large"), "{text}");
    assert_eq!(names(destination, "full/").await, ["full/small"]);
    assert_eq!(destination.read("full/small", 0, 9).await.unwrap(), "x");
    destination.delete("full/small").await.unwrap();
    assert_eq!(destination.create("full/again", parts(&["y"])).await.unwrap(), Creation::Created);
}
