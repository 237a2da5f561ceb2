//! What is given to those that come, before it is known who they are: connections, time, heads, messages.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod secured;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use seawall_host::net::{self, Address, Limits, ServeOptions, Server};
use seawall_host::time::{self, Instant, UnixMillis};
use seawall_node::security::certificates::Authority;
use seawall_node::security::{NodeSecurity, Role, TlsFiles, Token, open_node};
use seawall_proto::MAX_MESSAGE_BYTES;
use secured::{CLUSTER, PATIENCE, Secured, call, entry, framed, write};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tonic::Code;
use tower::ServiceExt;

/// Something that answers `fine` over TLS, with these limits.
struct Fine {
    directory: tempfile::TempDir,
    authority: Authority,
    server: Server,
    _rotation: Option<seawall_host::task::OwnedTask>,
}

impl Fine {
    async fn start(limits: Limits) -> Self {
        seawall_host::real::install();
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::create(CLUSTER, UnixMillis::now(), 10).unwrap();
        let tls = write(directory.path(), "node-1", &authority, Role::Node, UnixMillis::now(), 5);
        let security = NodeSecurity { tls: Some(tls), ..NodeSecurity::default() };
        let opened = open_node(CLUSTER, &security).await.unwrap();
        let options = ServeOptions { door: opened.door, is_guarded: false, limits };
        let router = axum::Router::new().route("/fine", axum::routing::any(|| async { "fine" }));
        let routes = tonic::service::Routes::from(router);
        let server = net::serve("127.0.0.1:0".parse().unwrap(), routes, options).await.unwrap();
        Self { directory, authority, server, _rotation: opened.rotation }
    }

    fn address(&self) -> SocketAddr {
        let Address::Tcp(address) = self.server.address() else { panic!() };
        address.parse().unwrap()
    }

    fn files(&self) -> TlsFiles {
        write(self.directory.path(), "agent", &self.authority, Role::Agent, UnixMillis::now(), 1)
    }

    /// Whether somebody with a certificate is answered in time.
    async fn answers(&self) -> bool {
        let caller = call(self.server.address(), &self.files(), None).await;
        // It speaks no gRPC, and the path is all that is looked at.
        let answer = time::timeout(PATIENCE, caller.raw("/fine", Bytes::new())).await.expect("it does not answer");
        matches!(answer, Err(error) if error.contains("200"))
    }
}

/// A connection from an address of this machine's own.
async fn connect_from(from: &str, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(format!("{from}:0").parse().unwrap())?;
    socket.connect(to).await
}

/// Whether the other end has closed a connection: nothing, an end, or an error.
fn is_closed(stream: &TcpStream) -> bool {
    match stream.try_read(&mut [0; 1024]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn ten_thousand_idle_connections_keep_nobody_out() {
    const MANY: usize = 10_000;
    let allowed = seawall_host::process::raise_open_files().unwrap_or(u64::MAX);
    let needed = MANY as u64 + 1_500;
    if allowed < needed {
        eprintln!("skipped: this machine allows a process {allowed} descriptors, and {needed} are needed");
        return;
    }
    let limits = Limits { handshake_timeout: Duration::from_secs(3_000), ..Limits::default() };
    let waiting = limits.connections_waiting;
    let it = Fine::start(limits).await;
    let to = it.address();
    let mut idle = Vec::new();
    for number in 0..MANY {
        let from = format!("127.0.1.{}", 1 + number % 5);
        let stream = connect_from(&from, to).await;
        idle.push(stream.unwrap_or_else(|error| panic!("connection {number}: {error}")));
    }
    assert!(it.answers().await, "somebody with a certificate is kept out");
    until("all but those that may wait are closed", async || {
        idle.iter().filter(|stream| !is_closed(stream)).count() <= waiting
    })
    .await;
    assert!(it.answers().await);
}

#[tokio::test]
async fn an_address_has_no_more_connections_than_its_share() {
    let it = Fine::start(Limits { connections_per_address: 5, ..Limits::default() }).await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(connect_from("127.0.1.1", it.address()).await.unwrap());
    }
    until("three of eight are closed", async || streams.iter().filter(|it| is_closed(it)).count() == 3).await;
    assert!(it.answers().await, "another address has its own share");
}

#[tokio::test]
async fn who_says_nothing_is_not_waited_for() {
    let it = Fine::start(Limits { handshake_timeout: Duration::from_secs(1), ..Limits::default() }).await;
    let silent = TcpStream::connect(it.address()).await.unwrap();
    let mut slow = TcpStream::connect(it.address()).await.unwrap();
    let began = Instant::now();
    let dripping = async {
        // A handshake of one byte now and then.
        for byte in [0x16_u8, 3, 1, 2, 0].into_iter().chain(std::iter::repeat(0)) {
            if slow.write_all(&[byte]).await.is_err() || is_closed(&slow) {
                break;
            }
            time::sleep(Duration::from_millis(100)).await;
        }
    };
    time::timeout(PATIENCE, dripping).await.expect("it waits for ever");
    until("the silent one is closed", async || is_closed(&silent)).await;
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    assert!(it.answers().await);
}

#[tokio::test]
async fn a_connection_without_calls_is_closed_and_made_again_when_it_is_needed() {
    let it = Fine::start(Limits { idle_timeout: Duration::from_secs(1), ..Limits::default() }).await;
    let caller = call(it.server.address(), &it.files(), None).await;
    for _ in 0..3 {
        let answer = caller.raw("/fine", Bytes::new()).await;
        assert!(matches!(&answer, Err(error) if error.contains("200")), "{answer:?}");
        time::sleep(Duration::from_millis(1_500)).await;
    }
}

#[tokio::test]
async fn an_address_from_which_too_much_is_refused_is_not_heard_for_a_while() {
    let it = Fine::start(Limits { failures_per_minute: 5, ..Limits::default() }).await;
    for _ in 0..5 {
        let mut stream = connect_from("127.0.1.1", it.address()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut said = Vec::new();
        let _ = time::timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("it is not refused");
    }
    until("it is not heard any more", async || {
        let mut stream = connect_from("127.0.1.1", it.address()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut said = Vec::new();
        let read = time::timeout(PATIENCE, stream.read_to_end(&mut said)).await.unwrap();
        // Where it is heard it is told by an alert what is wrong.
        read.is_err() || said.is_empty()
    })
    .await;
    assert!(it.answers().await, "others are");
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    seawall_host::real::install();
    let token = Token::generate();
    let it = Secured::start(&[entry("a", &token, "a", "write")], "limits: { header-size: 4KiB }").await;
    let caller = it.call(Role::Agent, Some(&token)).await;
    let request = |bytes: usize| {
        let body = tonic::body::Body::empty();
        let request = http::Request::post("http://node/seawall.v1.Cluster/GetStatus");
        request.header("content-type", "application/grpc").header("x-large", "x".repeat(bytes)).body(body).unwrap()
    };
    let fine = caller.channel.clone().oneshot(request(1_000)).await;
    assert!(fine.is_ok(), "{:?}", fine.err().map(|error| error.to_string()));
    let large = time::timeout(PATIENCE, caller.channel.clone().oneshot(request(64 << 10))).await.unwrap();
    assert!(large.is_err() || !large.unwrap().status().is_success());
    assert!(it.call(Role::Agent, Some(&token)).await.databases().await.is_ok());
}

#[tokio::test]
async fn messages_that_are_too_large_or_no_messages_are_refused_and_the_node_goes_on() {
    seawall_host::real::install();
    let token = Token::generate();
    let it = Secured::start(&[entry("a", &token, "\"**\"", "write, restore")], "").await;
    let caller = it.call(Role::Agent, Some(&token)).await;
    let calls = ["Ingest/Claim", "Ingest/Append", "Ingest/GetHead", "Restore/Describe", "Cluster/GetStatus"];
    let large = framed(&vec![b'x'; MAX_MESSAGE_BYTES + 1]);
    // It says to be as large as can be, and is not.
    let lie = Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3]);
    let garbage: Vec<Bytes> = (0..32_u8).map(|seed| (0..=seed).map(|i| i.wrapping_mul(251) ^ seed).collect()).collect();
    for call in calls {
        let path = format!("/seawall.v1.{call}");
        for body in [&large, &lie] {
            let answer = time::timeout(PATIENCE, caller.raw(&path, body.clone())).await.unwrap();
            if let Ok(answer) = answer {
                assert_ne!(answer.code, Code::Ok, "{call}");
            }
        }
        for bytes in &garbage {
            let raw = time::timeout(PATIENCE, caller.raw(&path, bytes.clone())).await.unwrap();
            assert!(raw.map_or(true, |answer| answer.code != Code::Unknown), "{call} {bytes:?}");
            let _ = time::timeout(PATIENCE, caller.raw(&path, framed(bytes))).await.unwrap();
        }
    }
    assert!(caller.databases().await.is_ok());
    // To those that nobody knows nothing is said of their messages, and nothing is read of them.
    let stranger = it.call(Role::Agent, None).await;
    let answer = time::timeout(PATIENCE, stranger.raw("/seawall.v1.Ingest/Claim", large)).await.unwrap();
    assert!(answer.is_err() || answer.unwrap().code == Code::Unauthenticated);
}

#[tokio::test]
async fn metrics_are_put_together_once_a_second_however_often_they_are_asked_for() {
    seawall_host::real::install();
    struct Ready;
    impl seawall_node::http::Readiness for Ready {
        fn ready(&self) -> Result<(), String> {
            Ok(())
        }
    }
    let metrics = seawall_node::http::Metrics::install().unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let options = ServeOptions::default();
    let server = seawall_node::http::serve(address, Some(metrics.clone()), Arc::new(Ready), options).await.unwrap();
    let Address::Tcp(address) = server.address() else { panic!() };
    let counter = metrics::counter!("test_renders_total");
    let shown = async || {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text.lines().find_map(|line| line.strip_prefix("test_renders_total ")?.parse::<u64>().ok())
    };
    let began = Instant::now();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..200 {
        counter.increment(1);
        seen.insert(shown().await);
    }
    let seconds = began.elapsed().as_secs() as usize;
    assert!(seen.len() <= seconds + 2, "{} states in {seconds} s", seen.len());
    let last = Some(200);
    until("they are shown as they are now", async || shown().await == last).await;
}
