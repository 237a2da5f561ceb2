//! Google Cloud Storage: by an emulator for what it can, by a double of the API for the rest.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, future};
use seawall_host::real::free_port;
use seawall_node::destination::{Creation, Destination, DestinationError, DestinationOptions, open_url};

use super::gs_double::{ACCOUNT, BUCKET, Mood, Store, service_account};
use super::program::{Program, find};
use super::suite::{
    endures_its_network, keeps_the_contract, keeps_what_it_can, large, lists_more_than_one_page, parts, stream_of,
};

/// A destination that shows the key of a service account.
struct Double {
    store: Store,
    directory: tempfile::TempDir,
}

impl Double {
    async fn start() -> Self {
        seawall_host::real::install();
        Self { store: Store::start().await, directory: tempfile::tempdir().unwrap() }
    }

    fn options(&self, email: &str) -> DestinationOptions {
        let file = self.directory.path().join(format!("{email}.json"));
        std::fs::write(&file, service_account(email)).unwrap();
        DestinationOptions {
            endpoint: Some(format!("http://{}", self.store.address)),
            credentials_file: Some(file),
            ..DestinationOptions::default()
        }
    }

    fn open(&self) -> Arc<dyn Destination> {
        at(BUCKET, "some/prefix", &self.options(ACCOUNT))
    }
}

fn at(bucket: &str, prefix: &str, options: &DestinationOptions) -> Arc<dyn Destination> {
    open_url(&format!("gs://{bucket}/{prefix}"), options, &|_| None).unwrap()
}

/// The emulator ignores conditions, pages and who is asking, and takes no `?` in a name: what it shows is that uploads, ranges and listings are
/// understood by somebody else than their author.
#[tokio::test(flavor = "multi_thread")]
async fn the_emulator_understands_requests() {
    seawall_host::real::install();
    let advice = "an emulator is needed: `pip install gcp-storage-emulator`";
    let Some(emulator) = find("gcp-storage-emulator", "SEAWALL_GCS_EMULATOR", advice) else { return };
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut command = Command::new(emulator);
    command.args(["start", "--host=127.0.0.1", &format!("--port={port}"), "--in-memory"]);
    command.arg(format!("--default-bucket={BUCKET}")).current_dir(directory.path());
    let mut program = Program::start(command, directory.path());
    let url = format!("http://127.0.0.1:{port}/storage/v1/b/{BUCKET}");
    let is_up = || reqwest::get(&url).map(|answer| answer.is_ok_and(|answer| answer.status().is_success()));
    assert!(program.wait_until(is_up).await, "the emulator does not come up");
    let host = format!("127.0.0.1:{port}");
    let environment = |name: &str| (name == "STORAGE_EMULATOR_HOST").then(|| host.clone());
    let url = format!("gs://{BUCKET}/some/prefix");
    let destination = open_url(&url, &DestinationOptions::default(), &environment).unwrap();
    keeps_what_it_can(&*destination).await;
    assert!(!destination.creates_conditionally());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_protocol_keeps_the_contract() {
    let double = Double::start().await;
    keeps_the_contract(double.open()).await;
    lists_more_than_one_page(&*double.open(), 1100).await;
    let through = |address: SocketAddr, timeout: Duration| {
        let endpoint = Some(format!("http://{address}"));
        at(BUCKET, "network", &DestinationOptions { endpoint, timeout: Some(timeout), ..double.options(ACCOUNT) })
    };
    endures_its_network(double.store.address, through).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_machine_says_who_it_is() {
    let double = Double::start().await;
    let host = double.store.address.to_string();
    let environment = |name: &str| (name == "GCE_METADATA_HOST").then(|| host.clone());
    let options = DestinationOptions { credentials_file: None, ..double.options(ACCOUNT) };
    let url = format!("gs://{BUCKET}/machine");
    open_url(&url, &options, &environment).unwrap().probe().await.unwrap();
    // Where no metadata server is, that is said.
    let closed = format!("127.0.0.1:{}", free_port());
    let nowhere = |name: &str| (name == "GCE_METADATA_HOST").then(|| closed.clone());
    let options = DestinationOptions { timeout: Some(Duration::from_secs(3)), ..options };
    let error = open_url(&url, &options, &nowhere).unwrap().probe().await.unwrap_err();
    assert!(error.to_string().contains(&format!("gs://{BUCKET}/machine")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_tell_what_will_pass_from_what_must_be_mended() {
    let double = Double::start().await;
    let right = double.options(ACCOUNT);
    let file = |name: &str, text: &str| {
        let file = double.directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        DestinationOptions { credentials_file: Some(file), ..right.clone() }
    };
    let broken_key = service_account(ACCOUNT).replace("PRIVATE KEY", "NO KEY");
    let mood = Mood::default;
    for (mood, bucket, options, advice) in [
        (mood(), "no-such-bucket", right.clone(), "create the bucket `no-such-bucket`"),
        (mood(), BUCKET, double.options("other@elsewhere"), "mend credentials-file"),
        // To a store whose clock is ahead by two hours a fresh token is an old one.
        (Mood { ahead: 7200, ..mood() }, BUCKET, right.clone(), "is this machine's clock right?"),
        (Mood { forbids: Some("forbidden"), ..mood() }, BUCKET, right.clone(), "roles/storage.objectUser"),
        (mood(), BUCKET, file("text", "hunter2"), "it is no JSON"),
        (mood(), BUCKET, file("type", r#"{"type":"hunter2-not"}"#), "set credentials-file"),
        (mood(), BUCKET, file("key", &broken_key), "set credentials-file"),
        (mood(), BUCKET, DestinationOptions { credentials_file: Some("/none".into()), ..right.clone() }, "/none"),
    ] {
        double.store.set(mood);
        let destination = at(bucket, "x", &options);
        let errors = [
            destination.list("").await.unwrap_err(),
            destination.probe().await.unwrap_err(),
            destination.create("a", parts(&["x"])).await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, DestinationError::Refused { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(advice) && text.contains(&format!("gs://{bucket}/x")), "{advice}: {text}");
            assert!(!text.contains("MII"), "{text}");
        }
    }
    for (status, reason) in [(429, "backendError"), (500, "backendError"), (503, "backendError")] {
        double.store.set(Mood { fails: Some((status, 100)), ..mood() });
        let error = at(BUCKET, "x", &right).create("a", parts(&["x"])).await.unwrap_err();
        assert!(matches!(error, DestinationError::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    double.store.set(Mood { forbids: Some("rateLimitExceeded"), ..mood() });
    let error = at(BUCKET, "x", &right).create("a", parts(&["x"])).await.unwrap_err();
    assert!(matches!(error, DestinationError::Unavailable { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_go_on_where_they_stopped() {
    let double = Double::start().await;
    let destination = double.open();
    let content = large(30_000_123);
    // A hiccup here and there is not even told.
    double.store.set(Mood { keeps_half: true, ..Mood::default() });
    let created = destination.create_streaming("halves", None, stream_of(content.clone())).await;
    assert_eq!(created.unwrap(), Creation::Created);
    assert!(double.store.halves() >= 3);
    assert!(destination.read("halves", 0, u64::MAX).await.unwrap() == content.concat());
    for status in [429, 503] {
        double.store.set(Mood { fails: Some((status, 1)), ..Mood::default() });
        assert_eq!(destination.create(&format!("retried/{status}"), parts(&["x"])).await.unwrap(), Creation::Created);
    }
    // What is given up is cancelled, so that nobody pays for it.
    let begun = double.store.uploads();
    double.store.set(Mood::default());
    let pieces = large(20_000_000).into_iter().map(Ok).chain([Err(std::io::Error::other("damaged"))]);
    let pieces: Vec<_> = pieces.collect();
    let failed =
        destination.create_streaming("given/up", None, futures::StreamExt::boxed(futures::stream::iter(pieces)));
    assert!(matches!(failed.await, Err(DestinationError::Source { .. })));
    let cancelled = || future::ready(double.store.uploads() == (begun.0 + 1, 0));
    while !cancelled().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_got_wrong_is_taken_back() {
    let double = Double::start().await;
    let destination = double.open();
    double.store.set(Mood { says_other_checksum: true, ..Mood::default() });
    let error = destination.create_streaming("a", None, stream_of(large(20_000_000))).await.unwrap_err();
    assert!(error.to_string().contains("other bytes than were sent"), "{error}");
    assert_eq!(destination.list("").await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_class_reaches_the_store() {
    let double = Double::start().await;
    let options = DestinationOptions { storage_class: Some("nearline".to_owned()), ..double.options(ACCOUNT) };
    let destination = at(BUCKET, "cold", &options);
    destination.create("small", parts(&["x"])).await.unwrap();
    destination.create_streaming("large", None, stream_of(large(9_000_000))).await.unwrap();
    assert_eq!(double.store.storage_class("cold/small"), "NEARLINE");
    assert_eq!(double.store.storage_class("cold/large"), "NEARLINE");
}
