//! What a node serves over plain HTTP: metrics and health.

mod metrics;

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use seawall_host::net::{self, Address, Server};
use tonic::service::Routes;

pub use self::metrics::{InstallMetricsError, Metrics};

/// Tells whether a node can serve; an error says in words why it cannot.
pub trait Readiness: Send + Sync + 'static {
    /// Fine, or what is missing.
    fn ready(&self) -> Result<(), String>;
}

/// Serves `/metrics`, `/healthz` and `/readyz` at `address`.
///
/// # Errors
/// If the address cannot be listened at.
pub async fn serve(address: Address, metrics: Option<Metrics>, readiness: Arc<dyn Readiness>) -> io::Result<Server> {
    net::serve(address, Routes::from(router(metrics, readiness))).await
}

fn router(metrics: Option<Metrics>, readiness: Arc<dyn Readiness>) -> Router {
    let ready = move || {
        let answer = match readiness.ready() {
            Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
            Err(cause) => (StatusCode::SERVICE_UNAVAILABLE, format!("{cause}\n")),
        };
        async { answer }
    };
    let router = Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(ready));
    match metrics {
        None => router,
        Some(metrics) => {
            let show = move || {
                let text = metrics.render();
                async { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response() }
            };
            router.route("/metrics", get(show))
        }
    }
}
