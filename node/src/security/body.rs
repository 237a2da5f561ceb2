//! What goes to and fro in a call, until the caller's rights are taken away.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::BoxError;
use axum::body::Body;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body::Frame;
use tonic::Status;

use super::caller::Caller;

fn when_revoked(caller: Caller) -> BoxFuture<'static, Status> {
    async move { caller.revoked().await }.boxed()
}

/// What the caller sends. It breaks off when the caller may not send it any more.
pub(super) struct GuardedRequest {
    inner: Option<Body>,
    revoked: BoxFuture<'static, Status>,
}

impl GuardedRequest {
    pub(super) fn new(inner: Body, caller: Caller) -> Self {
        Self { inner: Some(inner), revoked: when_revoked(caller) }
    }
}

impl http_body::Body for GuardedRequest {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        if let Poll::Ready(status) = this.revoked.poll_unpin(cx) {
            this.inner = None;
            return Poll::Ready(Some(Err(status.into())));
        }
        Pin::new(inner).poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }
}

/// What the caller is answered. It ends when the caller may not hear it any more, and does not begin before the service
/// has asked whether the caller may hear it at all.
pub(super) struct GuardedAnswer {
    inner: Option<Body>,
    revoked: BoxFuture<'static, Status>,
    caller: Caller,
}

impl GuardedAnswer {
    pub(super) fn new(inner: Body, caller: Caller) -> Self {
        Self { inner: Some(inner), revoked: when_revoked(caller.clone()), caller }
    }

    /// Ends the answer with `status`.
    fn end(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.inner = None;
        Poll::Ready(Some(Ok(Frame::trailers(trailers(status)))))
    }
}

fn trailers(status: &Status) -> HeaderMap {
    let mut headers = status.clone().into_http::<()>().into_parts().0.headers;
    headers.remove(CONTENT_TYPE);
    headers
}

impl http_body::Body for GuardedAnswer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        if let Poll::Ready(status) = this.revoked.poll_unpin(cx) {
            return this.end(&status);
        }
        let frame = ready!(Pin::new(inner).poll_frame(cx));
        let is_data = frame.as_ref().is_some_and(|frame| frame.as_ref().is_ok_and(Frame::is_data));
        if is_data && !this.caller.has_asked() {
            tracing::error!("a call was answered without asking who may hear the answer");
            return this.end(&Status::internal("nobody looked who may hear this"));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use futures::{StreamExt, stream};
    use http_body::Body as _;

    use super::super::access::{Access, Identity};
    use super::super::action::{Action, rule_of};
    use super::super::grant::{Grants, TokenConfig, TokenIs};
    use super::super::token::Token;
    use super::*;

    async fn caller() -> (Arc<Access>, Caller) {
        seawall_host::real::install();
        let token = Token::generate();
        let config = TokenConfig {
            name: "it".to_owned(),
            token: TokenIs::Hash(token.hash()),
            databases: vec!["app".parse().unwrap()],
            actions: BTreeSet::from([Action::Restore]),
        };
        let access = Access::guarded("prod", Grants::read(&[config]).await.unwrap());
        let rule = rule_of("/seawall.v1.Restore/ReadObject").unwrap();
        let caller = Caller::admit(&access, Identity::Token(token.hash()), rule).unwrap();
        (access, caller)
    }

    fn endless() -> Body {
        let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"data"))]);
        Body::from_stream(first.chain(stream::pending()))
    }

    async fn next(body: &mut (impl http_body::Body<Data = Bytes, Error = BoxError> + Unpin)) -> Option<Frame<Bytes>> {
        futures::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await.transpose().unwrap()
    }

    fn status_of(frame: Option<Frame<Bytes>>) -> String {
        let trailers = frame.unwrap().into_trailers().unwrap();
        trailers["grpc-status"].to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn an_answer_ends_when_the_token_is_taken_away() {
        let (access, caller) = caller().await;
        caller.check(&"app".parse().unwrap()).unwrap();
        let mut answer = GuardedAnswer::new(endless(), caller);
        assert_eq!(next(&mut answer).await.unwrap().into_data().unwrap(), "data");
        let ending = seawall_host::task::spawn(async move {
            let last = status_of(next(&mut answer).await);
            (last, answer.is_end_stream(), next(&mut answer).await.is_none())
        });
        access.replace(Grants::default());
        assert_eq!(ending.await.unwrap(), ("16".to_owned(), true, true));
    }

    #[tokio::test]
    async fn a_request_breaks_off_when_the_token_is_taken_away() {
        let (access, caller) = caller().await;
        let mut request = GuardedRequest::new(endless(), caller);
        assert_eq!(next(&mut request).await.unwrap().into_data().unwrap(), "data");
        access.replace(Grants::default());
        let broken = futures::future::poll_fn(|cx| Pin::new(&mut request).poll_frame(cx)).await.unwrap().unwrap_err();
        assert_eq!(broken.downcast::<Status>().unwrap().code(), tonic::Code::Unauthenticated);
        assert!(request.is_end_stream());
    }

    #[tokio::test]
    async fn nothing_is_answered_before_it_was_asked_who_may_hear_it() {
        let (_access, caller) = caller().await;
        let mut answer = GuardedAnswer::new(endless(), caller);
        assert_eq!(status_of(next(&mut answer).await), "13");
    }
}
