//! What a door does with requests, seen from both of its sides.

use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::super::http::{Head, pass};
use super::super::{Door, DoorMode};
use super::{PATIENCE, host};
use crate::net::Host;

/// A server of HTTP that tells of each request it was asked, body and all, and answers `done`, in chunks.
struct Backend {
    port: u16,
    requests: Receiver<String>,
}

impl Backend {
    fn start(host: &Host) -> Self {
        let listener = TcpListener::bind((host.address(), 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, requests) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, tell) = (stream.unwrap(), tell.clone());
                thread::spawn(move || -> io::Result<()> {
                    let mut reader = BufReader::new(stream.try_clone()?);
                    while let Some(head) = Head::read(&mut reader)? {
                        if head.waits_to_continue() {
                            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                        }
                        let mut body = Vec::new();
                        pass(head.body()?, &mut reader, &mut |piece| {
                            body.extend_from_slice(piece);
                            Ok(())
                        })?;
                        let line = String::from_utf8_lossy(head.bytes()).lines().next().unwrap_or_default().to_owned();
                        let _ = tell.send(format!("{line} {}", String::from_utf8_lossy(&body)));
                        let body = if head.is_for_head() { "" } else { "4\r\ndone\r\n0\r\n\r\n" };
                        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
                        stream.write_all(answer.as_bytes())?;
                    }
                    Ok(())
                });
            }
        });
        Self { port, requests }
    }

    fn heard(&self) -> String {
        self.requests.recv_timeout(PATIENCE).expect("the server is asked")
    }

    fn hears_nothing(&self) {
        assert!(self.requests.try_recv().is_err());
    }
}

/// A client with one connection.
struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    fn new(door: &Door) -> Self {
        let stream = TcpStream::connect(door.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    fn answer(&mut self, request: &str) -> io::Result<(u16, String)> {
        let head = Head::read(&mut self.reader)?.ok_or(ErrorKind::UnexpectedEof)?;
        let request = Head::read(&mut request.as_bytes())?.unwrap();
        let mut body = Vec::new();
        pass(head.answer_body(&request)?, &mut self.reader, &mut |piece| {
            body.extend_from_slice(piece);
            Ok(())
        })?;
        Ok((head.status()?, String::from_utf8(body).unwrap()))
    }

    fn ask(&mut self, text: &str) -> io::Result<(u16, String)> {
        self.stream.write_all(text.as_bytes())?;
        self.answer(text)
    }

    fn is_cut(&mut self) {
        let cut = self.reader.read(&mut [0]);
        assert!(matches!(&cut, Ok(0)) || cut.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    }
}

const PUT: &str = "PUT /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
const GET: &str = "GET /a HTTP/1.1\r\n\r\n";
const HEAD: &str = "HEAD /a HTTP/1.1\r\n\r\n";
const CHUNKED: &str = "PUT /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
const DONE: &str = "4\r\ndone\r\n0\r\n\r\n";

#[test]
fn a_door_passes_requests_and_answers_on() {
    let host = host(1);
    let backend = Backend::start(&host);
    let door = Door::open(&host, 0, backend.port).unwrap();
    let mut client = Client::new(&door);
    for (request, heard) in [
        (PUT, "PUT /a HTTP/1.1 hello"),
        (GET, "GET /a HTTP/1.1 "),
        (CHUNKED, "PUT /c HTTP/1.1 5\r\nhello\r\n0\r\n\r\n"),
    ] {
        assert_eq!(client.ask(request).unwrap(), (200, DONE.to_owned()));
        assert_eq!(backend.heard(), heard);
    }
    assert_eq!(client.ask(HEAD).unwrap(), (200, String::new()));
    assert_eq!(backend.heard(), "HEAD /a HTTP/1.1 ");
    // A body that waits to be asked for.
    let waiting = "PUT /e HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(client.ask(waiting).unwrap(), (100, String::new()));
    client.send("hello");
    assert_eq!(client.answer(waiting).unwrap(), (200, DONE.to_owned()));
    assert_eq!(backend.heard(), "PUT /e HTTP/1.1 hello");
}

#[test]
fn a_door_refuses_what_the_server_never_hears() {
    let host = host(2);
    let backend = Backend::start(&host);
    let door = Door::open(&host, 0, backend.port).unwrap();
    let mut client = Client::new(&door);
    client.ask(GET).unwrap();
    backend.heard();
    door.set_mode(DoorMode::Unavailable);
    // On a connection that was there before, again and again.
    for request in [PUT, CHUNKED, GET] {
        let (status, body) = client.ask(request).unwrap();
        assert!(status == 503 && body.contains("<Code>ServiceUnavailable</Code>"), "{status} {body}");
    }
    assert_eq!(client.ask(HEAD).unwrap(), (503, String::new()));
    assert_eq!(client.ask("PUT /e HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").unwrap().0, 503);
    client.is_cut();
    backend.hears_nothing();
    door.set_mode(DoorMode::Pass);
    assert_eq!(Client::new(&door).ask(PUT).unwrap().0, 200);
}

#[test]
fn a_door_cuts_answers_to_what_was_done() {
    let host = host(3);
    let backend = Backend::start(&host);
    let door = Door::open(&host, 0, backend.port).unwrap();
    door.set_mode(DoorMode::CutAnswers);
    let mut client = Client::new(&door);
    client.send(PUT);
    assert_eq!(backend.heard(), "PUT /a HTTP/1.1 hello");
    client.is_cut();
}

#[test]
fn a_door_hangs_until_it_is_told_otherwise() {
    let host = host(4);
    let backend = Backend::start(&host);
    let door = Door::open(&host, 0, backend.port).unwrap();
    let mut client = Client::new(&door);
    client.ask(GET).unwrap();
    backend.heard();
    door.set_mode(DoorMode::Hang);
    client.send(PUT);
    client.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let silence = client.reader.read(&mut [0]).unwrap_err();
    assert!(matches!(silence.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silence}");
    backend.hears_nothing();
    door.set_mode(DoorMode::Pass);
    client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(client.answer(PUT).unwrap().0, 200);
}

#[test]
fn a_door_is_slow_and_stops_being_slow() {
    let host = host(5);
    let backend = Backend::start(&host);
    let door = Door::open(&host, 0, backend.port).unwrap();
    let put = format!("PUT /a HTTP/1.1\r\nContent-Length: 65536\r\n\r\n{}", "a".repeat(65_536));
    door.set_mode(DoorMode::Slow(128));
    let began = Instant::now();
    assert_eq!(Client::new(&door).ask(&put).unwrap().0, 200);
    assert!(began.elapsed() >= Duration::from_millis(450), "{:?}", began.elapsed());
    // An hour's worth.
    door.set_mode(DoorMode::Slow(1));
    let mut client = Client::new(&door);
    client.stream.write_all(&put.repeat(50).as_bytes()[..70_000]).unwrap();
    let began = Instant::now();
    door.set_mode(DoorMode::Pass);
    assert_eq!(client.answer(&put).unwrap().0, 200);
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn a_closed_door_ends_what_goes_through_it() {
    let host = host(6);
    let backend = Backend::start(&host);
    let door = Door::open(&host, 0, backend.port).unwrap();
    let address = door.address();
    let (mut idle, mut hanging) = (Client::new(&door), Client::new(&door));
    assert_eq!(idle.ask(GET).unwrap().0, 200);
    door.set_mode(DoorMode::Hang);
    hanging.send(PUT);
    drop(door);
    idle.is_cut();
    hanging.is_cut();
    assert!(TcpStream::connect(address).is_err());
    // The port is free again.
    Door::open(&host, address.port(), backend.port).unwrap();
}
