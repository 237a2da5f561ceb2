//! Real sockets: HTTP/2 over TCP or unix sockets, by tonic's transport.

use std::io;
use std::path::PathBuf;

use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::service::Routes;
use tonic::transport::{Endpoint, Uri};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use crate::net::{Address, CallError, Channel, ChannelOptions, Network, Server};
use crate::task;

#[derive(Debug)]
pub(super) struct RealNetwork;

/// HTTP/2 windows: enough for a few segments in flight without waiting for the reader's word.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

impl Network for RealNetwork {
    fn channel(&self, address: &Address, options: ChannelOptions) -> Channel {
        let endpoint = |uri: String| {
            Endpoint::from_shared(uri).map(|endpoint| {
                endpoint
                    .connect_timeout(options.connect_timeout)
                    .http2_keep_alive_interval(options.keep_alive)
                    .keep_alive_timeout(options.keep_alive)
                    .keep_alive_while_idle(true)
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .tcp_nodelay(true)
            })
        };
        let channel = match address {
            Address::Tcp(authority) => endpoint(format!("http://{authority}")).map(|endpoint| endpoint.connect_lazy()),
            Address::Unix(path) => {
                let path = path.clone();
                endpoint("http://unix.invalid".to_owned()).map(|endpoint| {
                    endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| connect(path.clone())))
                })
            }
        };
        match channel {
            Ok(channel) => Channel::from_service(BoxCloneSyncService::new(channel.map_err(CallError::from))),
            Err(error) => {
                let message = format!("{address}: {error}");
                let refuse = tower::service_fn(move |_request| {
                    futures::future::ready(Err(CallError::from(message.clone()))).boxed()
                });
                Channel::from_service(BoxCloneSyncService::new(refuse))
            }
        }
    }

    fn serve(&self, address: Address, routes: Routes) -> BoxFuture<'static, io::Result<Server>> {
        async move {
            let builder = || {
                tonic::transport::Server::builder()
                    // Browsers and Prometheus speak HTTP/1 to what is served beside gRPC.
                    .accept_http1(true)
                    .tcp_nodelay(true)
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .http2_keepalive_interval(Some(std::time::Duration::from_secs(5)))
                    .http2_keepalive_timeout(Some(std::time::Duration::from_secs(5)))
            };
            match address {
                Address::Tcp(authority) => {
                    let listener = TcpListener::bind(&authority).await?;
                    let bound = Address::Tcp(listener.local_addr()?.to_string());
                    let served = builder().add_routes(routes).serve_with_incoming(TcpListenerStream::new(listener));
                    Ok(Server::new(bound, task::spawn_owned(served.map(log_end))))
                }
                Address::Unix(path) => {
                    let listener = bind_unix(&path).await?;
                    let incoming = UnixListenerStream::new(listener);
                    let served = builder().add_routes(routes).serve_with_incoming(incoming);
                    Ok(Server::new(Address::Unix(path), task::spawn_owned(served.map(log_end))))
                }
            }
        }
        .boxed()
    }
}

fn log_end(outcome: Result<(), tonic::transport::Error>) {
    if let Err(error) = outcome {
        tracing::error!(%error, "a server stopped");
    }
}

async fn connect(path: PathBuf) -> io::Result<TokioIo<UnixStream>> {
    UnixStream::connect(path).map_ok(TokioIo::new).await
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
