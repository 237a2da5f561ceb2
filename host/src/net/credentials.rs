//! Who calls, and who is let in.

use std::fmt;
use std::io;

use futures::future::BoxFuture;
use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::PeerCertificate;

/// A connection as bytes, in either direction.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// What a program shows of itself, and how it makes sure whom it speaks to.
pub trait Credentials: fmt::Debug + Send + Sync + 'static {
    /// What goes with every request as `authorization`, if anything does. Marked as sensitive.
    fn authorization(&self) -> Option<HeaderValue>;
    /// Makes a new connection to `host` secure.
    ///
    /// # Errors
    /// If the other end is not `host`, or refuses; the connection is not to be used then.
    fn connect(&self, host: &str, stream: Box<dyn ByteStream>) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>>;
}

/// Makes connections that come secure, and tells by whom they come.
pub trait Door: fmt::Debug + Send + Sync + 'static {
    /// Makes a new connection secure.
    ///
    /// # Errors
    /// If the other end is not to be trusted; the connection is not to be used then.
    fn accept(&self, stream: Box<dyn ByteStream>) -> BoxFuture<'static, io::Result<Visitor>>;
}

/// Who came through a [`Door`].
pub struct Visitor {
    /// The connection, secured.
    pub stream: Box<dyn ByteStream>,
    /// What the other end has shown.
    pub certificate: PeerCertificate,
    /// Completes, with the reason, when that is not to be trusted any more.
    pub expired: BoxFuture<'static, String>,
}
