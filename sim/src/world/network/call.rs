//! One call: the request's way, its handling at the server, the response's way.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures::future::{Either, select};
use futures::{StreamExt, stream};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, StreamBody};
use seawall_host::net::CallError;
use tokio::sync::oneshot;
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

use super::SimNetwork;
use super::connection::Connection;
use super::link::Lost;
use super::pipe::{Receiver, Sender, pipe};
use crate::random::Stream;

/// Carries `request` over `connection` and gives the response.
pub(super) async fn call(
    network: &Arc<SimNetwork>,
    connection: &Arc<Connection>,
    request: http::Request<Body>,
) -> Result<http::Response<Body>, CallError> {
    let (client, server) = (connection.client, connection.server);
    let world = network.world();
    let (parts, body) = request.into_parts();
    let (body, whole) = look_ahead(body).await;
    if let Some(frames) = whole {
        repeat_later(network, connection, &parts, frames);
    }

    let (request_in, request_out) = pipe(network, connection, client, server);
    world.spawn_on(client, pump(body, request_in));

    // The server's side lives until the client lets go of the response, as a stream's reset does.
    let (alive, gone) = oneshot::channel::<()>();
    let (answer, answered) = oneshot::channel::<http::Response<Receiver>>();
    let handling = {
        let (network, connection) = (network.clone(), connection.clone());
        let request = http::Request::from_parts(parts, Body::new(request_out));
        async move {
            if network.travel(&connection, client, server).await.is_err() {
                return;
            }
            let Ok(mut routes) = connection.routes() else { return };
            let Ok(response) = routes.call(request).await;
            if network.travel(&connection, server, client).await.is_err() {
                return;
            }
            let (parts, body) = response.into_parts();
            let (response_in, response_out) = pipe(&network, &connection, server, client);
            if answer.send(http::Response::from_parts(parts, response_out)).is_ok() {
                pump(body, response_in).await;
            }
        }
    };
    let watched = {
        let (network, connection) = (network.clone(), connection.clone());
        async move {
            let lost = async {
                let broken = pin!(connection.broken());
                select(gone, broken).await;
                // The reset takes its way, too.
                if let Ok(after) = network.fate(&connection, false) {
                    network.world().true_sleep(after).await;
                }
            };
            select(pin!(handling), pin!(lost)).await;
        }
    };
    world.spawn_on(server, watched);

    match select(answered, pin!(connection.broken())).await {
        Either::Left((Ok(response), _)) => Ok(response.map(|body| Body::new(body.keeping(alive)))),
        Either::Left((Err(_unanswered), _)) => {
            // A server that died says nothing; a reset is heard of when it breaks the connection.
            if world.is_alive(server) {
                return Err(Lost.into());
            }
            connection.broken().await;
            Err(Lost.into())
        }
        Either::Right(((), _)) => Err(Lost.into()),
    }
}

/// Takes what is there of a body without waiting. If that is all of it (a single-message call), the frames too.
async fn look_ahead(mut body: Body) -> (Body, Option<Vec<Bytes>>) {
    let mut items: Vec<Result<Frame<Bytes>, Status>> = Vec::new();
    let complete = poll_fn(|cx| {
        while items.len() < 4 {
            match Pin::new(&mut body).poll_frame(cx) {
                Poll::Ready(Some(item)) => items.push(item),
                Poll::Ready(None) => return Poll::Ready(true),
                Poll::Pending => return Poll::Ready(false),
            }
        }
        Poll::Ready(false)
    })
    .await;
    let data = |item: &Result<Frame<Bytes>, Status>| item.as_ref().ok().and_then(Frame::data_ref).cloned();
    let whole = if complete { items.iter().map(data).collect::<Option<Vec<Bytes>>>() } else { None };
    let rest = stream::unfold((body, complete), |(mut body, complete)| async move {
        if complete {
            return None;
        }
        let frame = body.frame().await?;
        Some((frame, (body, false)))
    });
    (Body::new(StreamBody::new(stream::iter(items).chain(rest))), whole)
}

/// Lets the same call arrive once more, if the faults say so; nobody waits for that answer.
fn repeat_later(
    network: &Arc<SimNetwork>,
    connection: &Arc<Connection>,
    parts: &http::request::Parts,
    frames: Vec<Bytes>,
) {
    let faults = network.state().faults.clone();
    let world = network.world();
    if connection.client == connection.server {
        return;
    }
    let Some(after) = world.draw(Stream::Network, |random| faults.duplicate(random)) else { return };
    let frames = frames.into_iter().map(|bytes| Ok::<_, Status>(Frame::data(bytes)));
    let mut again = http::Request::new(Body::new(StreamBody::new(stream::iter(frames))));
    *again.method_mut() = parts.method.clone();
    *again.uri_mut() = parts.uri.clone();
    *again.headers_mut() = parts.headers.clone();
    let (network, connection) = (network.clone(), connection.clone());
    world.spawn_on(connection.server, async move {
        network.world().true_sleep(after).await;
        if network.travel(&connection, connection.client, connection.server).await.is_ok() {
            network.world().event("duplicate", 0, || again.uri().path().to_owned());
            let Ok(mut routes) = connection.routes() else { return };
            let Ok(response) = routes.call(again).await;
            let _unheard = response.into_body().collect().await;
        }
    });
}

/// Sends a body's frames, one by one, until it ends or nobody listens.
async fn pump(body: Body, sender: Sender) {
    let mut body = pin!(body);
    loop {
        let frame = {
            let closed = pin!(sender.closed());
            match select(body.frame(), closed).await {
                Either::Left((frame, _)) => frame,
                Either::Right(((), _)) => return,
            }
        };
        match frame {
            None => return sender.end(),
            Some(item) => {
                let failed = item.is_err();
                if !sender.send(item).await {
                    return;
                }
                if failed {
                    return sender.end();
                }
            }
        }
    }
}
