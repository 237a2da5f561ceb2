//! The fan-out with a real S3 server that comes and goes.

#![cfg(feature = "s3")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod fanout_double;
mod s3_server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanout_double::{TestLog, name, rebuild, until};
use s3_server::{BUCKET, S3Server};
use seawall_node::destination::{FileDestination, NamedDestination, Retention, VerificationOptions, Windows, open_url};
use seawall_node::fanout::{Fanout, FanoutOptions, LaneState};
use seawall_proto::position::Txid;

#[tokio::test(flavor = "multi_thread")]
async fn an_s3_server_that_stops_delays_nothing_else_and_catches_up() {
    seawall_host::real::install();
    let Some(mut server) = S3Server::start().await else { return };
    let directory = tempfile::tempdir().unwrap();
    let local = Arc::new(FileDestination::new(directory.path()));
    let remote = open_url(&format!("s3://{BUCKET}/fanout"), &server.options(), &|_| None).unwrap();
    let windows = Windows { upload_interval: Duration::from_millis(50), upload_bytes: 256 << 10, ..Windows::default() };
    let retention = Retention::default();
    let places = vec![
        NamedDestination {
            name: "local".to_owned(),
            windows: windows.clone(),
            retention: retention.clone(),
            verification: VerificationOptions::default(),
            destination: Arc::clone(&local) as _,
        },
        NamedDestination {
            name: "s3".to_owned(),
            windows,
            retention,
            verification: VerificationOptions::default(),
            destination: Arc::clone(&remote),
        },
    ];
    let log = TestLog::leader();
    let options = FanoutOptions {
        progress_interval: Duration::from_millis(50),
        retry_most: Duration::from_secs(2),
        ..FanoutOptions::default()
    };
    let fanout = Fanout::start(options, places, Arc::new(log.clone()), Arc::new(log.clone()));
    let app = name("app");
    let arrived = |destination: &'static str, txid: Txid| {
        let (log, app) = (log.clone(), app.clone());
        async move { until("the watermark", || log.watermark(&app, destination) >= txid).await }
    };
    let status = || fanout.handle().status().into_iter().find(|lane| lane.destination == "s3").unwrap();

    let head = log.commit(&app, 5, 100);
    arrived("s3", head).await;
    server.stop();
    let begun = Instant::now();
    let mut head = head;
    for _ in 0..20 {
        head = log.commit(&app, 5, 100);
        arrived("local", head).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    until("the failure", || status().state == LaneState::Failing).await;
    assert!(status().last_error.unwrap().contains(&server.endpoint()));
    assert!(log.watermark(&app, "s3") < head);

    server.resume().await;
    arrived("s3", head).await;
    until("health", || status().state == LaneState::Healthy).await;
    for place in [local as Arc<dyn seawall_node::destination::Destination>, remote] {
        let (txid, checksum, _) = rebuild(&*place, &app).await;
        assert_eq!((txid, checksum), (head, log.checksum(&app, head)), "{}", place.url());
    }
}
