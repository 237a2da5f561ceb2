//! Every kind of destination keeps the same contract.

#![cfg(feature = "s3")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod s3_server;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, future, stream};
use s3_server::{BUCKET, S3Server};
use seawall_node::destination::{
    Creation, Destination, DestinationError, DestinationOptions, FileDestination, ListedObject, Secret, open_url,
};

fn parts(texts: &[&'static str]) -> Vec<Bytes> {
    texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect()
}

/// `length` bytes that do not repeat soon, in pieces of an odd size.
fn large(length: usize) -> Vec<Bytes> {
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

async fn keeps_the_contract(destination: Arc<dyn Destination>) {
    destination.probe().await.unwrap();
    assert!(destination.creates_conditionally());
    assert_eq!(destination.list("").await.unwrap(), [], "probing leaves something behind");

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
    let listed = |prefix: &'static str| {
        let destination = Arc::clone(&destination);
        async move { destination.list(prefix).await.unwrap().into_iter().map(|o| o.name).collect::<Vec<_>>() }
    };
    assert_eq!(listed("app/@1/").await, [name, "app/@1/0/f", "app/@1/snapshot/b"]);
    assert_eq!(listed("app/@").await, [name, "app/@1/0/f", "app/@1/snapshot/b", "app/@2/0/e"]);
    assert_eq!(listed("app/@1/sn").await, ["app/@1/snapshot/b"]);
    assert_eq!(listed("none/").await, Vec::<String>::new());
    assert_eq!(listed("").await.len(), 6);
    let sized = destination.list("app/@1/0/0").await.unwrap();
    assert_eq!(sized, [ListedObject { name: name.to_owned(), size: 5 }]);

    // Deletion is idempotent.
    destination.delete("app/@2/0/e").await.unwrap();
    destination.delete("app/@2/0/e").await.unwrap();
    assert_eq!(listed("app/@2/").await, Vec::<String>::new());

    streams_objects(&*destination).await;
    one_of_many_creators_wins(&*destination).await;
    assert_eq!(listed("streams/").await.len(), 2);
}

async fn streams_objects(destination: &dyn Destination) {
    let short = stream::iter(parts(&["one", "two"]).into_iter().map(Ok)).boxed();
    assert_eq!(destination.create_streaming("streams/short", None, short).await.unwrap(), Creation::Created);
    assert_eq!(destination.read("streams/short", 0, 9).await.unwrap(), "onetwo");

    let length = 40_000_123;
    let pieces = large(length);
    let stream_of = |pieces: Vec<Bytes>| stream::iter(pieces.into_iter().map(Ok)).boxed();
    let hint = Some(length as u64);
    let created = destination.create_streaming("streams/long", hint, stream_of(pieces.clone())).await;
    assert_eq!(created.unwrap(), Creation::Created);
    let read = destination.read("streams/long", 0, u64::MAX).await.unwrap();
    assert!(read == pieces.concat(), "{} bytes", read.len());
    let again = destination.create_streaming("streams/long", hint, stream_of(large(20_000_000))).await;
    assert_eq!(again.unwrap(), Creation::AlreadyExists);
    assert_eq!(destination.read("streams/long", 0, 100).await.unwrap(), read.slice(..100));

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
}

async fn one_of_many_creators_wins(destination: &dyn Destination) {
    let creations = (0..16).map(|writer: u8| async move {
        let content = vec![Bytes::from(vec![writer; 1000])];
        (writer, destination.create("race/object", content).await)
    });
    let outcomes = future::join_all(creations).await;
    let winners: Vec<u8> = outcomes
        .iter()
        .filter(|(_, outcome)| matches!(outcome, Ok(Creation::Created)))
        .map(|(writer, _)| *writer)
        .collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    let content = destination.read("race/object", 0, 2000).await.unwrap();
    assert!(content.len() == 1000 && content.iter().all(|byte| *byte == winners[0]));
}

#[tokio::test]
async fn directories_keep_the_contract() {
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("not/yet/there");
    let destination = Arc::new(FileDestination::new(&root));
    keeps_the_contract(Arc::clone(&destination) as _).await;
    // Also a creation that nobody waits for any more leaves no temporary file for long.
    let mut given_up = Box::pin(destination.create_streaming("given/up", None, stream::pending().boxed()));
    while temporary_files(directory.path()) == 0 {
        let step = tokio::time::sleep(std::time::Duration::from_millis(1));
        assert!(matches!(future::select(&mut given_up, Box::pin(step)).await, future::Either::Right(_)));
    }
    drop(given_up);
    destination.create("after", Vec::new()).await.unwrap();
    assert_eq!(temporary_files(directory.path()), 0);
}

#[tokio::test]
async fn temporary_files_of_a_crash_are_not_listed() {
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let destination = FileDestination::new(directory.path());
    destination.create("app/@1/0/a.seg", parts(&["x"])).await.unwrap();
    std::fs::write(directory.path().join("app/@1/0/.b.seg.0123456789abcdef.tmp"), "half").unwrap();
    let listed = destination.list("app/").await.unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(destination.create("app/@1/0/b.seg", parts(&["whole"])).await.unwrap(), Creation::Created);
}

#[tokio::test]
async fn names_never_leave_the_directory() {
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let destination = FileDestination::new(&directory.path().join("root"));
    for name in ["../x", "a/../../x", "/x", "", "a//b", "."] {
        let created = destination.create(name, parts(&["x"])).await;
        assert!(matches!(created, Err(DestinationError::Refused { .. })), "{name}: {created:?}");
    }
    assert!(!directory.path().join("x").exists());
}

#[tokio::test]
async fn a_directory_that_is_a_file_is_refused() {
    seawall_host::real::install();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let destination = FileDestination::new(&file);
    let error = destination.create("app/x", parts(&["x"])).await.unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
}

fn temporary_files(directory: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.path() {
            path if path.is_dir() => temporary_files(&path),
            path => usize::from(path.extension().is_some_and(|extension| extension == "tmp")),
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_keeps_the_contract() {
    seawall_host::real::install();
    let Some(server) = S3Server::start().await else { return };
    let url = format!("s3://{BUCKET}/some/prefix");
    keeps_the_contract(open_url(&url, &server.options(), &|_| None).unwrap()).await;
    s3_lists_more_than_one_page(&server).await;
    s3_says_what_to_do(&server).await;
}

async fn s3_lists_more_than_one_page(server: &S3Server) {
    let destination = open_url(&format!("s3://{BUCKET}/pages"), &server.options(), &|_| None).unwrap();
    let destination = &destination;
    let names: Vec<String> = (0..1100).map(|number| format!("app/{number:04}")).collect();
    let created = stream::iter(&names).map(|name| destination.create(name, Vec::new())).buffer_unordered(16);
    created.for_each(|created| async { assert_eq!(created.unwrap(), Creation::Created) }).await;
    let listed = destination.list("app/").await.unwrap();
    assert!(listed.iter().map(|object| &object.name).eq(&names), "{} of {}", listed.len(), names.len());
}

/// What a wrong configuration gives: an error that will not go away by itself, with advice.
async fn s3_says_what_to_do(server: &S3Server) {
    let right = server.options();
    let wrong_id = DestinationOptions { access_key_id: Some("nobody".to_owned()), ..right.clone() };
    let wrong_secret = DestinationOptions { secret_access_key: Some(Secret::new("hunter2")), ..right.clone() };
    // SeaweedFS creates a missing bucket when something is put into it, so that only reading finds it missing.
    for (bucket, options, advice, writes) in [
        ("no-such-bucket", &right, "create the bucket `no-such-bucket`", false),
        (BUCKET, &wrong_id, "access-key-id", true),
        (BUCKET, &wrong_secret, "secret-access-key", true),
    ] {
        let destination = open_url(&format!("s3://{bucket}/x"), options, &|_| None).unwrap();
        let mut errors = vec![destination.list("").await.unwrap_err()];
        if writes {
            errors.push(destination.probe().await.unwrap_err());
            errors.push(destination.create("a", parts(&["x"])).await.unwrap_err());
        }
        for error in errors {
            assert!(matches!(error, DestinationError::Refused { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(advice) && text.contains(bucket) && !text.contains("hunter2"), "{text}");
        }
    }
}

#[tokio::test]
async fn an_unreachable_s3_is_unavailable_and_named() {
    seawall_host::real::install();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let options = DestinationOptions {
        endpoint: Some(endpoint.clone()),
        access_key_id: Some("id".to_owned()),
        secret_access_key: Some(Secret::new("hunter2")),
        ..DestinationOptions::default()
    };
    let destination = open_url("s3://bucket/x", &options, &|_| None).unwrap();
    let error = destination.create("a", parts(&["x"])).await.unwrap_err();
    assert!(matches!(error, DestinationError::Unavailable { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&endpoint) && text.contains("cannot be reached"), "{text}");
}
