//! The metrics of this process, as Prometheus reads them.

use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use seawall_host::task::{OwnedTask, spawn_owned};
use seawall_host::time;

/// How often what histograms gathered is folded in while nobody reads them.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

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
        Ok(Self { handle, _upkeep: Arc::new(upkeep) })
    }

    /// All of them in Prometheus's text format.
    pub fn render(&self) -> String {
        self.handle.render()
    }
}
