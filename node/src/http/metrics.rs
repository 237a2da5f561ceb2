//! The metrics of this process, as Prometheus reads them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use seawall_host::task::{OwnedTask, spawn_owned};
use seawall_host::time::{self, Instant};

/// How often what histograms gathered is folded in while nobody reads them.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// They are put together at most this often.
const RENDER_INTERVAL: Duration = Duration::from_secs(1);

/// Bounds of histograms of seconds: from a fast acknowledgement to a stuck one.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Why metrics cannot be recorded.
#[derive(Debug, thiserror::Error)]
#[error("cannot record metrics: {0}")]
pub struct InstallMetricsError(#[from] BuildError);

/// The metrics of this process. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
    rendered: Arc<Mutex<Option<(Instant, Bytes)>>>,
    _upkeep: Arc<OwnedTask>,
}

impl Metrics {
    /// Records the metrics of this process from now on.
    ///
    /// # Errors
    /// [`InstallMetricsError`] if they are recorded already.
    pub fn install() -> Result<Self, InstallMetricsError> {
        let builder = PrometheusBuilder::new();
        let builder = builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?;
        let handle = builder.install_recorder()?;
        let upkept = handle.clone();
        let upkeep = spawn_owned(async move {
            loop {
                time::sleep(UPKEEP_INTERVAL).await;
                upkept.run_upkeep();
            }
        });
        Ok(Self { handle, rendered: Arc::default(), _upkeep: Arc::new(upkeep) })
    }

    /// All of them in Prometheus's text format, as they were at most a second ago: however often they are asked for,
    /// putting them together costs no more.
    pub fn render(&self) -> Bytes {
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        match &*rendered {
            Some((at, text)) if at.elapsed() < RENDER_INTERVAL => text.clone(),
            _ => {
                let text = Bytes::from(self.handle.render());
                *rendered = Some((Instant::now(), text.clone()));
                text
            }
        }
    }
}
