//! The door of an HTTP server: what its clients meet instead of it.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::http::{Body, Head, pass};
use crate::net::Host;

/// What is read at a time, and so how smooth a slow door is.
const PIECE_BYTES: usize = 8 * 1024;
/// How long the server may take to let a connection in.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// What a request is answered that is refused.
const REFUSAL: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>ServiceUnavailable</Code>\
    <Message>Please reduce your request rate.</Message></Error>";

/// What a door does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DoorMode {
    /// It passes them and their answers on.
    Pass,
    /// It answers 503 to each, which the server never sees.
    Unavailable,
    /// It passes them on, and cuts the connection when the answer comes: what was done looks as if it had failed.
    CutAnswers,
    /// It holds whatever is under way where it is, and lets no byte through.
    Hang,
    /// It passes so many KiB a second on, each connection and direction.
    Slow(u32),
}

/// A door. It and all connections through it are closed when this is dropped.
pub struct Door {
    address: SocketAddr,
    listener: TcpListener,
    doorkeeper: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    mode: DoorMode,
    is_closed: bool,
    next: u64,
    connections: BTreeMap<u64, TcpStream>,
}

impl Door {
    /// Opens one on `host`, at its `port`, for the server that listens at its `server_port`.
    ///
    /// # Errors
    /// The port is taken.
    pub fn open(host: &Host, port: u16, server_port: u16) -> io::Result<Self> {
        let address = SocketAddr::from((host.address(), port));
        let state = State { mode: DoorMode::Pass, is_closed: false, next: 0, connections: BTreeMap::new() };
        let server = SocketAddr::from((host.address(), server_port));
        let shared = Arc::new(Shared { server, state: Mutex::new(state), changed: Condvar::new() });
        let serving = Arc::clone(&shared);
        // Threads are born into the network of the thread that starts them.
        let opened = host.within(move || {
            let listener = TcpListener::bind(address)?;
            let incoming = listener.try_clone()?;
            let doorkeeper = thread::Builder::new().name("door".to_owned()).spawn(move || keep(&serving, &incoming))?;
            Ok((listener, doorkeeper))
        });
        let (listener, doorkeeper) = opened.map_err(|error: io::Error| {
            io::Error::new(error.kind(), format!("cannot listen at {address} of {}: {error}", host.name()))
        })?;
        // The port may have been chosen by the system.
        let address = listener.local_addr()?;
        Ok(Self { address, listener, doorkeeper: Some(doorkeeper), shared })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it does from now on, with requests under way too.
    pub fn set_mode(&self, mode: DoorMode) {
        self.shared.lock().mode = mode;
        self.shared.changed.notify_all();
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.is_closed = true;
            for connection in state.connections.values() {
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
        self.shared.changed.notify_all();
        // A listener that is shut down wakes whoever waits for it.
        if let Ok(listener) = self.listener.try_clone() {
            let _ = TcpStream::from(OwnedFd::from(listener)).shutdown(Shutdown::Both);
        }
        if let Some(doorkeeper) = self.doorkeeper.take() {
            let _ = doorkeeper.join();
        }
    }
}

fn keep(shared: &Arc<Shared>, listener: &TcpListener) {
    loop {
        let accepted = listener.accept();
        if shared.lock().is_closed {
            return;
        }
        // Out of descriptors or threads: others may give some back.
        let Ok((client, _)) = accepted else {
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        let serving = Arc::clone(shared);
        let _ = thread::Builder::new().name("door".to_owned()).spawn(move || {
            // However a connection ends, its client is told by its end.
            let _ = serve(&serving, client);
        });
    }
}

/// A connection while it is open; the door can close it.
struct Connection<'a> {
    shared: &'a Shared,
    number: u64,
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl<'a> Connection<'a> {
    fn new(shared: &'a Shared, stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let reader = BufReader::with_capacity(PIECE_BYTES, stream.try_clone()?);
        let mut state = shared.lock();
        if state.is_closed {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let number = state.next;
        state.next += 1;
        state.connections.insert(number, stream.try_clone()?);
        Ok(Self { shared, number, stream, reader })
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.shared.lock().connections.remove(&self.number);
    }
}

fn serve(shared: &Shared, client: TcpStream) -> io::Result<()> {
    let mut client = Connection::new(shared, client)?;
    let mut server = None;
    while let Some(request) = Head::read(&mut client.reader)? {
        let goes_on = if shared.pass()? == DoorMode::Unavailable {
            refuse(&request, &mut client)?
        } else {
            let server = match &mut server {
                Some(server) => server,
                none => {
                    none.insert(Connection::new(shared, TcpStream::connect_timeout(&shared.server, CONNECT_LIMIT)?)?)
                }
            };
            exchange(shared, &request, &mut client, server)?
        };
        if !goes_on {
            break;
        }
    }
    Ok(())
}

/// Answers 503. Whether the connection goes on.
fn refuse(request: &Head, client: &mut Connection<'_>) -> io::Result<bool> {
    // A body that waits to be asked for will not come.
    let has_body_coming = !request.waits_to_continue();
    if has_body_coming {
        pass(request.body()?, &mut client.reader, &mut |_| Ok(()))?;
    }
    let goes_on = has_body_coming && !request.closes();
    let body = if request.is_for_head() { "" } else { REFUSAL };
    let connection = if goes_on { "keep-alive" } else { "close" };
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n{body}",
        body.len()
    );
    client.stream.write_all(answer.as_bytes())?;
    Ok(goes_on)
}

/// Passes a request and its answer on. Whether the connections go on.
fn exchange(
    shared: &Shared,
    request: &Head,
    client: &mut Connection<'_>,
    server: &mut Connection<'_>,
) -> io::Result<bool> {
    server.stream.write_all(request.bytes())?;
    let mut owes_body = request.waits_to_continue();
    if !owes_body {
        pass(request.body()?, &mut client.reader, &mut |piece| shared.write(piece, &mut server.stream))?;
    }
    loop {
        let answer = Head::read(&mut server.reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let is_final = answer.status()? >= 200;
        if shared.pass()? == DoorMode::CutAnswers && is_final {
            return Ok(false);
        }
        client.stream.write_all(answer.bytes())?;
        if is_final {
            let body = answer.answer_body(request)?;
            pass(body, &mut server.reader, &mut |piece| shared.write(piece, &mut client.stream))?;
            return Ok(!owes_body && body != Body::UntilClosed && !request.closes() && !answer.closes());
        }
        if owes_body {
            owes_body = false;
            pass(request.body()?, &mut client.reader, &mut |piece| shared.write(piece, &mut server.stream))?;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panicked held nothing half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until bytes may pass; the mode under which they do.
    fn pass(&self) -> io::Result<DoorMode> {
        let waiting = |state: &mut State| state.mode == DoorMode::Hang && !state.is_closed;
        let state = self.changed.wait_while(self.lock(), waiting).unwrap_or_else(PoisonError::into_inner);
        if state.is_closed { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(state.mode) }
    }

    /// Writes `piece` as fast as the mode lets it.
    fn write(&self, piece: &[u8], to: &mut TcpStream) -> io::Result<()> {
        if let DoorMode::Slow(kibibytes) = self.pass()? {
            let due =
                Instant::now() + Duration::from_secs_f64(piece.len() as f64 / 1024.0 / f64::from(kibibytes.max(1)));
            let mut state = self.lock();
            while state.mode == DoorMode::Slow(kibibytes) && !state.is_closed {
                let left = due.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            drop(state);
            self.pass()?;
        }
        to.write_all(piece)
    }
}
