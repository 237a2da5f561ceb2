//! Real connections: HTTP/2 over TCP or unix sockets, by tonic's transport.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tonic::Status;
use tonic::service::Routes;
use tonic::transport::{Endpoint, Uri};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use super::server;
use crate::net::{Address, ByteStream, CallError, Channel, ChannelOptions, Credentials, Network, ServeOptions, Server};

#[derive(Debug)]
pub(super) struct RealNetwork;

/// HTTP/2 windows: enough for a few segments in flight without waiting for the reader's word.
pub(super) const STREAM_WINDOW: u32 = 4 << 20;
pub(super) const CONNECTION_WINDOW: u32 = 16 << 20;

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
        let channel = match (address, options.credentials.clone()) {
            (Address::Tcp(authority), None) => {
                endpoint(format!("http://{authority}")).map(|endpoint| endpoint.connect_lazy())
            }
            (Address::Tcp(authority), Some(credentials)) => {
                let host = address.host().unwrap_or_default().to_owned();
                let authority = authority.clone();
                endpoint(format!("http://{authority}")).map(|endpoint| {
                    endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
                        secured(authority.clone(), host.clone(), Arc::clone(&credentials))
                    }))
                })
            }
            (Address::Unix(path), _) => {
                let path = path.clone();
                endpoint("http://unix.invalid".to_owned()).map(|endpoint| {
                    endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| connect(path.clone())))
                })
            }
        };
        match channel {
            Ok(channel) => Channel::from_service(BoxCloneSyncService::new(channel.map_err(in_full))),
            Err(error) => {
                let message = format!("{address}: {error}");
                let refuse = tower::service_fn(move |_request| {
                    futures::future::ready(Err(CallError::from(message.clone()))).boxed()
                });
                Channel::from_service(BoxCloneSyncService::new(refuse))
            }
        }
    }

    fn serve(&self, address: Address, routes: Routes, options: ServeOptions) -> BoxFuture<'static, io::Result<Server>> {
        server::serve(address, routes, options).boxed()
    }
}

/// What a failed call says is `transport error`; its causes say more.
fn in_full(error: tonic::transport::Error) -> CallError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    CallError::from(Status::new(Status::from_error(error.into()).code(), text))
}

async fn secured(
    authority: String,
    host: String,
    credentials: Arc<dyn Credentials>,
) -> io::Result<TokioIo<Box<dyn ByteStream>>> {
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    credentials.connect(&host, Box::new(stream)).map_ok(TokioIo::new).await
}

async fn connect(path: PathBuf) -> io::Result<TokioIo<UnixStream>> {
    UnixStream::connect(path).map_ok(TokioIo::new).await
}
