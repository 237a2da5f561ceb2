//! Calls between machines.
//!
//! The network is cut where tonic's generated clients and servers meet it: a [`Channel`] carries HTTP requests with
//! tonic bodies to an address, and [`serve`] answers them with tonic's routes. Real ones speak HTTP/2 over TCP or a
//! unix socket; the simulator delays, drops and reorders the frames in between.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use tonic::body::Body;
use tonic::service::Routes;
use tower::util::BoxCloneSyncService;
use tower_service::Service;

use crate::task::OwnedTask;
use crate::world;

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

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How a channel treats its connection.
#[derive(Clone, Copy, Debug)]
pub struct ChannelOptions {
    /// How long setting up a connection may take.
    pub connect_timeout: Duration,
    /// A connection that answers no ping for this long is closed.
    pub keep_alive: Duration,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self { connect_timeout: Duration::from_secs(3), keep_alive: Duration::from_secs(5) }
    }
}

/// A way to call the server at one address. Connects when first used, and again after it broke. Clones share it.
#[derive(Clone)]
pub struct Channel(BoxCloneSyncService<http::Request<Body>, http::Response<Body>, CallError>);

impl Channel {
    /// A channel to `address`.
    pub fn new(address: &Address, options: ChannelOptions) -> Self {
        world::current().network().channel(address, options)
    }

    /// A channel over a service of a world's own.
    pub fn from_service(service: BoxCloneSyncService<http::Request<Body>, http::Response<Body>, CallError>) -> Self {
        Self(service)
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
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let response = self.0.call(request);
        Box::pin(response)
    }
}

/// A running server. Dropping it closes its port; connections that are open end with what they carry, or with the
/// runtime they run on.
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

/// The network as one machine reaches it; what worlds implement.
pub trait Network: Send + Sync {
    /// A channel to an address; connects lazily.
    fn channel(&self, address: &Address, options: ChannelOptions) -> Channel;
    /// Listens and answers with `routes` until the server is dropped.
    fn serve(&self, address: Address, routes: Routes) -> BoxFuture<'static, io::Result<Server>>;
}

/// Listens at `address` and answers with `routes` until the returned server is dropped.
///
/// # Errors
/// If the address cannot be listened at, with the address in the text.
pub async fn serve(address: Address, routes: Routes) -> io::Result<Server> {
    let shown = address.to_string();
    let serving = world::current().network().serve(address, routes);
    serving.await.map_err(|error| io::Error::new(error.kind(), format!("cannot listen at {shown}: {error}")))
}
