//! Looks who calls before anything is answered.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use http::header::AUTHORIZATION;
use seawall_host::net::Connection;
use seawall_host::time;
use tonic::Status;
use tonic::service::Routes;

use super::access::Access;
use super::action::rule_of;
use super::body::{GuardedAnswer, GuardedRequest};
use super::caller::Caller;

/// How long the answer to a caller that is not known is held back, doubled with each in a row on its connection.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// These routes, for those whom `access` lets in.
pub fn protect(routes: Routes, access: Arc<Access>) -> Routes {
    Routes::from(routes.into_axum_router().layer(middleware::from_fn_with_state(access, guard)))
}

async fn guard(State(access): State<Arc<Access>>, mut request: Request, next: Next) -> Response {
    let connection = request.extensions().get::<Connection>().cloned();
    let certificate = connection.as_ref().and_then(Connection::certificate);
    let from = connection.as_ref().and_then(Connection::address);
    // Before it is known who calls, nothing is said of what there is.
    let identity = match access.identify(certificate, request.headers().get(AUTHORIZATION)) {
        Ok(identity) => identity,
        Err(unknown) => {
            metrics::counter!("seawall_calls_refused_total", "reason" => unknown.as_str()).increment(1);
            access.tell(from, request.uri().path(), &unknown.to_string());
            let refusals = connection.map_or(u32::MAX, |connection| connection.refuse());
            time::sleep(delay(refusals)).await;
            return answer(&Status::unauthenticated(unknown.to_string()));
        }
    };
    if let Some(connection) = &connection {
        connection.let_in();
    }
    let Some(rule) = rule_of(request.uri().path()) else {
        return answer(&Status::unimplemented("there is no such call"));
    };
    let caller = match Caller::admit(&access, identity, rule) {
        Ok(caller) => caller,
        Err(status) => {
            metrics::counter!("seawall_calls_refused_total", "reason" => "not-allowed").increment(1);
            access.tell(from, rule.path, status.message());
            return answer(&status);
        }
    };
    request.extensions_mut().insert(caller.clone());
    if caller.is_revocable() {
        let request = request.map(|body| Body::new(GuardedRequest::new(body, caller.clone())));
        let response = next.run(request).await;
        response.map(|body| Body::new(GuardedAnswer::new(body, caller)))
    } else {
        next.run(request).await
    }
}

fn delay(refusals: u32) -> Duration {
    FIRST_DELAY.saturating_mul(1 << refusals.saturating_sub(1).min(10)).min(LONGEST_DELAY)
}

fn answer(status: &Status) -> Response {
    status.clone().into_http()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_end() {
        assert_eq!(delay(1), FIRST_DELAY);
        assert_eq!(delay(2), FIRST_DELAY * 2);
        assert_eq!(delay(0), FIRST_DELAY);
        assert_eq!(delay(u32::MAX), LONGEST_DELAY);
    }
}
