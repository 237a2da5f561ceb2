//! Real servers: HTTP/2 and HTTP/1 over TCP or unix sockets, by hyper.

mod connection;
mod places;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tonic::service::Routes;

use self::connection::Serving;
use self::places::Places;
use crate::net::{Address, ByteStream, ServeOptions, Server};
use crate::task;

/// How long a server waits before it takes the next connection, when it could not take the last one.
const PAUSE: Duration = Duration::from_millis(50);

/// Listens at `address` and answers with `routes`.
pub(super) async fn serve(address: Address, routes: Routes, options: ServeOptions) -> io::Result<Server> {
    let reception = Reception::new(routes, options);
    match address {
        Address::Tcp(authority) => {
            let listener = TcpListener::bind(&authority).await?;
            let bound = Address::Tcp(listener.local_addr()?.to_string());
            let taking = async move {
                loop {
                    let came = listener.accept().await;
                    let came = came.and_then(|(stream, from)| {
                        stream.set_nodelay(true)?;
                        Ok((Box::new(stream) as Box<dyn ByteStream>, Some(from.ip())))
                    });
                    reception.take(came).await;
                }
            };
            Ok(Server::new(bound, task::spawn_owned(taking)))
        }
        Address::Unix(path) => {
            let listener = bind_unix(&path).await?;
            let taking = async move {
                loop {
                    let came = listener.accept().await;
                    reception.take(came.map(|(stream, _)| (Box::new(stream) as Box<dyn ByteStream>, None))).await;
                }
            };
            Ok(Server::new(Address::Unix(path), task::spawn_owned(taking)))
        }
    }
}

/// Takes connections in.
struct Reception {
    places: Arc<Places>,
    serving: Arc<Serving>,
    /// Dropped when the server is: connections end then, once their calls have.
    open: watch::Sender<()>,
}

impl Reception {
    fn new(routes: Routes, options: ServeOptions) -> Self {
        let places = Arc::new(Places::new(options.limits.clone()));
        Self { places, serving: Arc::new(Serving::new(routes.prepare(), options)), open: watch::Sender::new(()) }
    }

    async fn take(&self, came: io::Result<(Box<dyn ByteStream>, Option<IpAddr>)>) {
        let (stream, from) = match came {
            Ok(came) => came,
            // It went before it was taken in.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {
                return;
            }
            // As a rule there are no descriptors left.
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be taken");
                self.places.make_room();
                tokio::time::sleep(PAUSE).await;
                return;
            }
        };
        match self.places.enter(from) {
            Ok(place) => {
                let served = connection::serve(Arc::clone(&self.serving), stream, from, place, self.open.subscribe());
                task::spawn(served);
            }
            Err(turned) => {
                metrics::counter!("seawall_connections_refused_total", "reason" => turned.as_str()).increment(1);
                tracing::debug!(?from, reason = turned.as_str(), "a connection was closed unheard");
            }
        }
    }
}

/// Binds a unix socket; what a dead server left at the path is replaced, a living one's is not.
async fn bind_unix(path: &PathBuf) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if UnixStream::connect(path).await.is_ok() {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
}
