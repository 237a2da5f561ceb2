//! An S3 server.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::door::Door;
use super::http::{Head, pass};
use super::server::Server;
use super::{Place, RestoreSource, encoded, quoted};
use crate::net::Host;
use crate::process::{Launch, Process};
use crate::tools;

const BUCKET: &str = "chaos";
const KEY: &str = "chaoskey";
const SECRET: &str = "chaossecret";
const REGION: &str = "us-east-1";
/// Where clients meet the door.
const DOOR_PORT: u16 = 8333;
/// How long the server may think about a question that only asks whether it is there.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// The ports behind the door.
#[derive(Clone, Copy)]
struct Ports {
    master: u16,
    volume: u16,
    filer: u16,
    s3: u16,
}

impl Ports {
    /// Those of the seat with this number. SeaweedFS listens at 127.0.0.1 too, whatever it is told, and at each port + 10000, which
    /// stays below those that the system gives out.
    fn of(seat: u16) -> Self {
        let first = 20_000 + 4 * seat;
        Self { master: first, volume: first + 1, filer: first + 2, s3: first + 3 }
    }
}

/// A number that no other server on this machine has at present. Hosts with networks of their own need it too: SeaweedFS puts
/// sockets into `/tmp` that are named after its ports.
struct Seat {
    number: u16,
    _lock: File,
}

impl Seat {
    fn take() -> io::Result<Self> {
        for number in 0..600 {
            let path = std::env::temp_dir().join(format!("chaos-s3-{number}.lock"));
            let lock = File::create(&path)
                .map_err(|error| io::Error::new(error.kind(), format!("cannot lock {}: {error}", path.display())))?;
            if lock.try_lock().is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        Err(io::Error::other("600 S3 servers run on this machine already"))
    }
}

/// SeaweedFS behind a [`Door`]. It does not sync what it takes in: killing it loses nothing, a power cut would.
pub struct S3 {
    name: String,
    server: Server,
    ports: Ports,
    door: Door,
    /// Last: the server is gone before anybody else takes its place.
    _seat: Seat,
}

impl S3 {
    /// Starts one on `host`, with its log in `run` and its data in `data`.
    ///
    /// # Errors
    /// It cannot be started, or does not answer.
    pub fn start(name: &str, host: &Host, run: &Path, data: &Path) -> io::Result<Self> {
        let weed = tools::find("weed").unwrap_or_else(|| "weed".into());
        let log = run.join(format!("{name}.log"));
        let seat = Seat::take()?;
        let (ports, address) = (Ports::of(seat.number), host.address());
        let launch = {
            let (name, log, data) = (name.to_owned(), log.clone(), data.to_owned());
            move || {
                Launch::new(&name, &weed, &log)
                    .arguments(["mini".to_owned(), format!("-dir={}", data.display())])
                    .arguments([format!("-ip={address}"), format!("-ip.bind={address}")])
                    .arguments([format!("-master.port={}", ports.master), format!("-volume.port={}", ports.volume)])
                    .arguments([format!("-filer.port={}", ports.filer), format!("-s3.port={}", ports.s3)])
                    .arguments(["-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false"])
                    .arguments(["-master.telemetry=false".to_owned(), format!("-bucket={BUCKET}")])
                    .environment("AWS_ACCESS_KEY_ID", KEY)
                    .environment("AWS_SECRET_ACCESS_KEY", SECRET)
            }
        };
        let door = Door::open(host, DOOR_PORT, ports.s3)?;
        let mut s3 = Self { name: name.to_owned(), server: Server::new(host, log, launch), ports, door, _seat: seat };
        // The bucket is made last, and writing may lag behind reading.
        let probe = format!("/buckets/{BUCKET}/.chaos-probe");
        s3.server.start(move |host| {
            is_up(host, ports)
                && ask(host, ports.filer, "PUT", &probe).is_ok_and(|status| status == 201)
                && ask(host, ports.filer, "DELETE", &probe).is_ok()
        })?;
        Ok(s3)
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.door.address())
    }
}

/// Whether the bucket is there and the S3 API answers, if only that it does not know who asks.
fn is_up(host: &Host, ports: Ports) -> bool {
    ask(host, ports.filer, "GET", &format!("/buckets/{BUCKET}/")).is_ok_and(|status| status == 200)
        && ask(host, ports.s3, "GET", &format!("/{BUCKET}/")).is_ok_and(|status| status == 403)
}

/// What the server at `port` of `host` answers a request from that host.
fn ask(host: &Host, port: u16, method: &str, path: &str) -> io::Result<u16> {
    let address = SocketAddr::from((host.address(), port));
    let mut stream = host.within(move || TcpStream::connect_timeout(&address, ANSWER_LIMIT))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let asked = Head::read(&mut request.as_bytes())?.ok_or(io::ErrorKind::InvalidInput)?;
    let mut reader = BufReader::new(stream);
    let answer = Head::read(&mut reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    pass(answer.answer_body(&asked)?, &mut reader, &mut |_| Ok(()))?;
    answer.status()
}

impl Place for S3 {
    fn name(&self) -> &str {
        &self.name
    }

    fn yaml(&self) -> Vec<String> {
        vec![
            format!("name: {}", quoted(&self.name)),
            format!("url: {}", quoted(&format!("s3://{BUCKET}"))),
            format!("endpoint: {}", quoted(&self.endpoint())),
            format!("region: {REGION}"),
            format!("access-key-id: {KEY}"),
            format!("secret-access-key: {SECRET}"),
        ]
    }

    fn source(&self, database: &str) -> RestoreSource {
        let url = format!("s3://{BUCKET}/{database}?endpoint={}&region={REGION}", encoded(&self.endpoint()));
        let environment = [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)];
        let environment: BTreeMap<String, String> =
            environment.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        RestoreSource { url, environment }
    }

    fn kill(&mut self) -> io::Result<()> {
        self.server.kill();
        Ok(())
    }

    fn start_again(&mut self) -> io::Result<()> {
        let ports = self.ports;
        self.server.start(move |host| is_up(host, ports))
    }

    fn pause(&mut self) -> io::Result<()> {
        self.server.pause();
        Ok(())
    }

    fn resume(&mut self) -> io::Result<()> {
        self.server.resume();
        Ok(())
    }

    fn door(&self) -> Option<&Door> {
        Some(&self.door)
    }

    fn process(&mut self) -> Option<&mut Process> {
        self.server.process()
    }
}
