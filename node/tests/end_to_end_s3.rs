//! A cluster with a real S3 server among its destinations.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

mod s3_server;
mod support;

use std::time::Duration;

use s3_server::{BUCKET, KEY, S3Server, SECRET};
use serde_json::Value;
use support::application::{self, Contents};
use support::{Cluster, wait_for};

const SEED: u64 = 11;
const LONG: Duration = Duration::from_secs(60);

fn destination(name: &str, secret: &str, endpoint: &str) -> String {
    format!(
        "  - {{ name: {name}, url: \"s3://{BUCKET}/prefix\", endpoint: \"{endpoint}\", region: us-east-1, \
         access-key-id: {KEY}, secret-access-key: {secret}, upload-interval: 1s }}\n"
    )
}

fn shown(cluster: &Cluster, name: &str) -> Option<Value> {
    let status = cluster.status()?;
    let destinations = status["databases"][0]["destinations"].as_array()?.clone();
    destinations.into_iter().find(|destination| destination["name"] == name)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_s3_server_that_stops_delays_nothing_and_gets_everything_when_it_is_back() {
    seawall_host::real::install();
    let Some(mut server) = S3Server::start().await else { return };
    let (cluster, database) = Cluster::shipping(&destination("s3", SECRET, &server.endpoint()));
    application::write(&database, SEED, Some(100));
    let first = cluster.sync_until_done("app", "all", LONG);
    let source = format!("s3://{BUCKET}/prefix/app?endpoint={}&region=us-east-1", server.endpoint());
    assert_eq!(Contents::read(&cluster.restore(&source, &[]).unwrap()).unwrap(), Contents::after(SEED, 100));

    server.stop();
    for _ in 0..10 {
        application::write(&database, SEED, Some(20));
        cluster.sync("app", "quorum", "10s").expect("the majority answers whatever a destination does");
    }
    cluster.sync("app", "one", "10s").expect("the other destinations go on");
    let error = cluster.sync("app", "all", "2s").unwrap_err();
    assert!(error.contains("s3"), "{error}");
    wait_for("status names what is wrong with the destination", LONG, || {
        let known = shown(&cluster, "s3").unwrap();
        known["watermark"] == first && !known["last_error"].as_str().unwrap_or_default().is_empty()
    });

    server.resume().await;
    cluster.sync_until_done("app", "all", LONG);
    assert_eq!(Contents::read(&cluster.restore(&source, &[]).unwrap()).unwrap(), Contents::after(SEED, 300));
    let earlier = cluster.restore(&source, &["--txid", &first.to_string()]).unwrap();
    assert_eq!(Contents::read(&earlier).unwrap(), Contents::after(SEED, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_named_in_status_and_a_missing_bucket_by_restore() {
    seawall_host::real::install();
    let Some(server) = S3Server::start().await else { return };
    let (cluster, _) = Cluster::shipping(&destination("wrong-key", "nonsense", &server.endpoint()));
    cluster.sync_until_done("app", "quorum", LONG);
    wait_for("the error names the setting that is wrong", LONG, || {
        let known = shown(&cluster, "wrong-key").unwrap();
        known["last_error"].as_str().is_some_and(|error| error.contains("secret-access-key"))
    });
    cluster.sync("app", "one", "10s").unwrap();
    let source = format!("s3://no-such-bucket/prefix/app?endpoint={}&region=us-east-1", server.endpoint());
    let error = cluster.restore(&source, &[]).unwrap_err();
    assert!(error.contains("no-such-bucket"), "{error}");
}
