//! Calls between machines.
//!
//! The network is cut where tonic's generated clients and servers meet it: a [`Channel`] carries HTTP requests with
//! tonic bodies to an address, and [`serve`] answers them with tonic's routes. Real ones speak HTTP/2 over TCP or a
//! unix socket; the simulator delays, drops and reorders the frames in between.
//!
//! Who calls whom is shown by [`Credentials`] and seen by a [`Door`]: the real network hands them its connections as
//! streams of bytes. The simulator has neither eavesdroppers nor impostors, and leaves them out.

mod connection;
mod credentials;
mod limits;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use tonic::body::Body;
use tonic::service::Routes;
use tower::util::BoxCloneSyncService;
use tower_service::Service;

use crate::task::OwnedTask;
use crate::world;

pub use connection::{Connection, PeerCertificate};
pub use credentials::{ByteStream, Credentials, Door, Visitor};
pub use limits::Limits;

/// The error of a call that did not reach its server.
pub type CallError = Box<dyn std::error::Error + Send + Sync>;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// `host:port`.
    Tcp(String),
    /// A unix socket.
    Unix(PathBuf),
}

/// A text that is no `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address: write HOST:PORT, such as 127.0.0.1:7400 or [::1]:7400")]
pub struct InvalidAddress(String);

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidAddress(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let odd = |c: char| c.is_whitespace() || c.is_control() || "/@?#".contains(c);
        if host.is_empty() || (host.contains(':') && !bracketed) || host.contains(odd) {
            return Err(invalid());
        }
        port.parse::<u16>().map_err(|_| invalid())?;
        Ok(Self::Tcp(text.to_owned()))
    }
}

impl Address {
    /// The host, without the port and without brackets; nothing for a unix socket.
    pub fn host(&self) -> Option<&str> {
        let Self::Tcp(address) = self else { return None };
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        Some(host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host))
    }

    /// Whether only programs of this machine can be at the other end.
    pub fn is_local(&self) -> bool {
        match self.host() {
            None => true,
            Some(host) if host.eq_ignore_ascii_case("localhost") => true,
            Some(host) => host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How a channel treats its connection.
#[derive(Clone, Debug)]
pub struct ChannelOptions {
    /// How long setting up a connection may take.
    pub connect_timeout: Duration,
    /// A connection that answers no ping for this long is closed.
    pub keep_alive: Duration,
    /// Who calls, and how it is seen to that nobody else listens; without, in plain text and as anybody. Nobody listens
    /// at a unix socket but its owner: they are left out there.
    pub credentials: Option<Arc<dyn Credentials>>,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(3), keep_alive: Duration::from_secs(5), credentials: None }
    }
}

impl ChannelOptions {
    /// The usual times, with these credentials.
    pub fn with_credentials(credentials: Option<Arc<dyn Credentials>>) -> Self {
        Self { credentials, ..Self::default() }
    }
}

/// A way to call the server at one address. Connects when first used, and again after it broke. Clones share it.
#[derive(Clone)]
pub struct Channel {
    service: BoxCloneSyncService<http::Request<Body>, http::Response<Body>, CallError>,
    credentials: Option<Arc<dyn Credentials>>,
}

impl Channel {
    /// A channel to `address`.
    pub fn new(address: &Address, options: ChannelOptions) -> Self {
        let credentials = options.credentials.clone().filter(|_| matches!(address, Address::Tcp(_)));
        Self { credentials, ..world::current().network().channel(address, options) }
    }

    /// A channel over a service of a world's own.
    pub fn from_service(service: BoxCloneSyncService<http::Request<Body>, http::Response<Body>, CallError>) -> Self {
        Self { service, credentials: None }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Channel")
    }
}

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Body>;
    type Error = CallError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(authorization) = self.credentials.as_ref().and_then(|credentials| credentials.authorization()) {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        let response = self.service.call(request);
        Box::pin(response)
    }
}

/// A running server. Dropping it closes its port; connections that are open take no new calls and end with those that
/// they carry, or with the runtime they run on.
pub struct Server {
    address: Address,
    _task: OwnedTask,
}

impl Server {
    /// A server that runs as `task`; for worlds.
    pub fn new(address: Address, task: OwnedTask) -> Self {
        Self { address, _task: task }
    }

    /// Where it listens; with port 0 asked for, the port that was given.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

/// How a server treats who comes.
#[derive(Clone, Debug, Default)]
pub struct ServeOptions {
    /// Who is let in, and how it is seen to that nobody else listens; without, everybody, in plain text.
    pub door: Option<Arc<dyn Door>>,
    /// Whether the service says by [`Connection::let_in`] whom it lets in. Otherwise everybody is whose request came.
    pub is_guarded: bool,
    /// What is given to those that come.
    pub limits: Limits,
}

/// The network as one machine reaches it; what worlds implement.
pub trait Network: Send + Sync {
    /// A channel to an address; connects lazily. The caller adds what goes with every request.
    fn channel(&self, address: &Address, options: ChannelOptions) -> Channel;
    /// Listens and answers with `routes` until the server is dropped.
    fn serve(&self, address: Address, routes: Routes, options: ServeOptions) -> BoxFuture<'static, io::Result<Server>>;
}

/// Listens at `address` and answers with `routes` until the returned server is dropped.
///
/// # Errors
/// If the address cannot be listened at, with the address in the text.
pub async fn serve(address: Address, routes: Routes, options: ServeOptions) -> io::Result<Server> {
    let shown = address.to_string();
    let serving = world::current().network().serve(address, routes, options);
    serving.await.map_err(|error| io::Error::new(error.kind(), format!("cannot listen at {shown}: {error}")))
}
