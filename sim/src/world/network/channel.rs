//! A program's way to call one address.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use seawall_host::net::{Address, CallError, ChannelOptions};
use tonic::body::Body;
use tower_service::Service;

use super::connection::Connection;
use super::{SimNetwork, call};
use crate::world::machine::Machine;

/// Connects when first used, and again after its connection broke. Clones share the connection.
#[derive(Clone)]
pub(super) struct SimChannel {
    network: Arc<SimNetwork>,
    from: Machine,
    to: Address,
    options: ChannelOptions,
    connection: Arc<Mutex<Option<Arc<Connection>>>>,
}

impl SimChannel {
    pub(super) fn new(network: Arc<SimNetwork>, from: Machine, to: Address, options: ChannelOptions) -> Self {
        Self { network, from, to, options, connection: Arc::default() }
    }

    async fn connection(&self) -> Result<Arc<Connection>, CallError> {
        let slot = || self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = slot().as_ref().filter(|connection| !connection.is_broken()) {
            return Ok(connection.clone());
        }
        let connecting = self.network.connect(self.from, &self.to);
        let timeout = seawall_host::time::timeout(self.options.connect_timeout, connecting);
        let connection = timeout.await.map_err(|_elapsed| CallError::from("connecting took too long"))??;
        *slot() = Some(connection.clone());
        Ok(connection)
    }
}

impl Service<http::Request<Body>> for SimChannel {
    type Response = http::Response<Body>;
    type Error = CallError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let channel = self.clone();
        async move {
            let connection = channel.connection().await?;
            call::call(&channel.network, &connection, request).await
        }
        .boxed()
    }
}

impl SimNetwork {
    /// A new connection; waits as long as nothing answers.
    async fn connect(self: &Arc<Self>, from: Machine, to: &Address) -> Result<Arc<Connection>, CallError> {
        let unix = matches!(to, Address::Unix(_));
        let home = if unix { Some(from) } else { self.state().homes.get(&to.to_string()).copied() };
        let home = home.ok_or_else(|| CallError::from(format!("{to}: no route to host")))?;
        loop {
            let changed = self.changed.notified();
            let open = {
                let state = self.state();
                let cut = state.cut.contains_key(&(from, home)) || state.cut.contains_key(&(home, from));
                !cut && !state.silent.contains(&home)
            };
            if open {
                break;
            }
            changed.await;
        }
        if from != home {
            let round_trip = self.state().faults.latency.end;
            self.world().true_sleep(round_trip).await;
        }
        let mut state = self.state();
        let listener = state.listeners.get(&(home, to.clone())).cloned();
        let listener = listener.ok_or_else(|| CallError::from(format!("{to}: connection refused")))?;
        let connection = Arc::new(Connection::new(from, home, listener.routes));
        state.connections.push(Arc::downgrade(&connection));
        Ok(connection)
    }
}
