//! One connection: who comes by it, what it is given, and when it ends.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, Either, select};
use futures::{FutureExt, TryFutureExt};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, watch};
use tonic::body::Body;
use tonic::service::Routes;
use tower_service::Service as _;

use super::super::network::{CONNECTION_WINDOW, STREAM_WINDOW};
use super::places::Place;
use crate::net::{ByteStream, Connection, ServeOptions, Visitor};
use crate::time::{self, Instant};

/// A connection that answers no ping for this long is closed.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Calls in a row that are refused for who they are from, after which a connection is closed.
const REFUSALS: u32 = 10;
/// What a connection carries when its time is over may go on for so long.
const GRACE: Duration = Duration::from_secs(2);
/// HTTP/1's smallest buffer.
const LEAST_BUFFER: usize = 8 << 10;

/// What all connections of a server have in common.
pub(super) struct Serving {
    routes: Routes,
    options: ServeOptions,
    http: Builder<TokioExecutor>,
}

impl Serving {
    pub(super) fn new(routes: Routes, options: ServeOptions) -> Self {
        let limits = &options.limits;
        let mut http = Builder::new(TokioExecutor::new());
        http.http2()
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(limits.header_bytes)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        // Browsers and Prometheus speak HTTP/1 to what is served beside gRPC.
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.handshake_timeout)
            .max_buf_size(LEAST_BUFFER.max(limits.header_bytes as usize));
        Self { routes, options, http }
    }
}

/// Why a connection ends.
enum End {
    /// At once.
    Close(&'static str),
    /// Once its calls have ended, or the grace is over.
    Drain(String),
    /// Once its calls have ended.
    Finish,
}

/// Serves one connection until it ends.
pub(super) async fn serve(
    serving: Arc<Serving>,
    stream: Box<dyn ByteStream>,
    from: Option<IpAddr>,
    mut place: Place,
    open: watch::Receiver<()>,
) {
    let deadline = Instant::now() + serving.options.limits.handshake_timeout;
    let (stream, certificate, expired) = match &serving.options.door {
        None => (stream, None, futures::future::pending().boxed()),
        Some(door) => {
            let accepting = pin!(time::timeout_at(deadline, door.accept(stream)));
            match select(accepting, pin!(place.evicted())).await {
                Either::Left((Ok(Ok(Visitor { stream, certificate, expired })), _)) => {
                    (stream, Some(certificate), expired)
                }
                Either::Left((Ok(Err(error)), _)) => return refuse(&place, from, &error),
                Either::Left((Err(elapsed), _)) => {
                    return refuse(&place, from, &io::Error::new(io::ErrorKind::TimedOut, elapsed));
                }
                Either::Right(((), _)) => return count("evicted"),
            }
        }
    };
    let connection = Connection::new(from, certificate);
    let calls = Arc::new(Calls::default());
    let service =
        Answering { serving: Arc::clone(&serving), connection: connection.clone(), calls: Arc::clone(&calls) };
    let mut http = pin!(serving.http.serve_connection(TokioIo::new(Io(stream)), service));
    let end = {
        let watching = pin!(watch_over(&serving.options, &mut place, &connection, &calls, deadline, expired, open));
        match select(http.as_mut(), watching).await {
            Either::Left((ended, _)) => return log_end(ended),
            Either::Right((end, _)) => end,
        }
    };
    match end {
        End::Close(reason) => {
            count(reason);
            tracing::debug!(?from, reason, "a connection was closed");
        }
        End::Drain(reason) => {
            tracing::info!(?from, reason, "a connection is closed");
            http.as_mut().graceful_shutdown();
            if let Ok(ended) = time::timeout(GRACE, http).await {
                log_end(ended);
            }
        }
        End::Finish => {
            http.as_mut().graceful_shutdown();
            log_end(http.await);
        }
    }
}

fn refuse(place: &Place, from: Option<IpAddr>, error: &io::Error) {
    // Whoever only looks whether somebody listens goes without a word, and is not to be barred for it.
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return tracing::debug!(?from, "a connection ended before it said who it is from");
    }
    count("handshake");
    if place.fail() {
        tracing::warn!(?from, %error, "a connection was refused; more of them from there are counted, not told");
    } else {
        tracing::debug!(?from, %error, "a connection was refused");
    }
}

fn count(reason: &'static str) {
    metrics::counter!("seawall_connections_refused_total", "reason" => reason).increment(1);
}

fn log_end(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(error, "a connection broke");
    }
}

/// Completes when the connection has to end for a reason of this side's.
async fn watch_over(
    options: &ServeOptions,
    place: &mut Place,
    connection: &Connection,
    calls: &Calls,
    deadline: Instant,
    expired: BoxFuture<'static, String>,
    mut open: watch::Receiver<()>,
) -> End {
    // Whoever is refused too often is told so by those answers.
    let refused = connection.when_refused(REFUSALS).map(|()| End::Drain("it is refused".to_owned()));
    let expired = expired.map(End::Drain);
    let closing = async move {
        while open.changed().await.is_ok() {}
        End::Finish
    };
    let staying = async {
        let let_in = pin!(time::timeout_at(deadline, connection.when_let_in()));
        match select(let_in, pin!(place.evicted())).await {
            Either::Left((Ok(()), _)) => {}
            Either::Left((Err(time::Elapsed), _)) => return End::Close("timeout"),
            Either::Right(((), _)) => return End::Close("evicted"),
        }
        if !place.let_in() {
            return End::Close("evicted");
        }
        calls.idle_for(options.limits.idle_timeout).await;
        End::Finish
    };
    let (staying, closing, refused, expired) = (pin!(staying), pin!(closing), pin!(refused), pin!(expired));
    match select(select(staying, closing), select(refused, expired)).await {
        Either::Left((Either::Left((end, _)) | Either::Right((end, _)), _)) => end,
        Either::Right((Either::Left((end, _)) | Either::Right((end, _)), _)) => end,
    }
}

/// A connection's bytes, as a type of its own: the compiler does not see through the box that such a connection can go
/// from one thread to another.
struct Io(Box<dyn ByteStream>);

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Answers the calls of one connection.
struct Answering {
    serving: Arc<Serving>,
    connection: Connection,
    calls: Arc<Calls>,
}

impl Service<Request<Incoming>> for Answering {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if !self.serving.options.is_guarded {
            self.connection.let_in();
        }
        request.extensions_mut().insert(self.connection.clone());
        let call = Call::begin(&self.calls);
        let answer = self.serving.routes.clone().call(request.map(Body::new));
        answer.map_ok(move |response| response.map(|body| Body::new(CallBody { body, _call: call }))).boxed()
    }
}

/// How many calls a connection carries.
#[derive(Debug, Default)]
struct Calls {
    count: AtomicUsize,
    changed: Notify,
}

impl Calls {
    /// Completes when there was no call for this long.
    async fn idle_for(&self, limit: Duration) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.count.load(Ordering::Acquire) > 0 {
                changed.await;
            } else if time::timeout(limit, changed).await.is_err() {
                return;
            }
        }
    }
}

/// A call, until its answer is through or given up.
struct Call(Arc<Calls>);

impl Call {
    fn begin(calls: &Arc<Calls>) -> Self {
        calls.count.fetch_add(1, Ordering::AcqRel);
        calls.changed.notify_waiters();
        Self(Arc::clone(calls))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_waiters();
    }
}

/// The body of an answer, with the call that it ends.
struct CallBody {
    body: Body,
    _call: Call,
}

impl http_body::Body for CallBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
