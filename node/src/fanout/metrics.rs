//! What the fan-out counts.

use metrics::{Counter, Gauge, counter, gauge};
use seawall_proto::object_name::Level;

use super::status::{LaneState, LaneStatus};

/// What went to a destination of one level.
struct Uploads {
    objects: Counter,
    bytes: Counter,
}

/// The metrics of one lane, labelled `database` and `destination`.
pub(super) struct LaneMetrics {
    uploads: Uploads,
    level_one: Uploads,
    level_two: Uploads,
    snapshots: Uploads,
    errors: Counter,
    watermark: Gauge,
    lag_txids: Gauge,
    lag_seconds: Gauge,
    detached: Gauge,
    backlog_bytes: Gauge,
    last_success: Gauge,
}

impl LaneMetrics {
    pub(super) fn new(database: &str, destination: &str) -> Self {
        let labels = [("database", database.to_owned()), ("destination", destination.to_owned())];
        let uploads = |level: Level| {
            let mut labels = labels.to_vec();
            labels.push(("level", level.as_str().to_owned()));
            Uploads {
                objects: counter!("seawall_destination_uploads_total", &labels),
                bytes: counter!("seawall_destination_upload_bytes_total", &labels),
            }
        };
        Self {
            uploads: uploads(Level::Log),
            level_one: uploads(Level::One),
            level_two: uploads(Level::Two),
            snapshots: uploads(Level::Snapshot),
            errors: counter!("seawall_destination_errors_total", &labels),
            watermark: gauge!("seawall_destination_watermark", &labels),
            lag_txids: gauge!("seawall_destination_lag_txids", &labels),
            lag_seconds: gauge!("seawall_destination_lag_seconds", &labels),
            detached: gauge!("seawall_destination_detached", &labels),
            backlog_bytes: gauge!("seawall_destination_backlog_bytes", &labels),
            last_success: gauge!("seawall_destination_last_success_timestamp_seconds", &labels),
        }
    }

    /// An object of this level is there now; `bytes` were sent for it.
    pub(super) fn uploaded(&self, level: Level, bytes: u64) {
        let uploads = match level {
            Level::Log => &self.uploads,
            Level::One => &self.level_one,
            Level::Two => &self.level_two,
            Level::Snapshot => &self.snapshots,
        };
        uploads.objects.increment(1);
        uploads.bytes.increment(bytes);
    }

    /// An attempt failed.
    pub(super) fn failed(&self) {
        self.errors.increment(1);
    }

    /// Nothing is known any more of how far behind the destination is.
    pub(super) fn ended(&self) {
        self.lag_txids.set(0.0);
        self.lag_seconds.set(0.0);
        self.detached.set(0.0);
        self.backlog_bytes.set(0.0);
    }

    /// How the lane stands.
    #[expect(clippy::cast_precision_loss, reason = "gauges are floating point; txids stay exact up to 2^53")]
    pub(super) fn stands(&self, status: &LaneStatus) {
        self.watermark.set(status.watermark.0 as f64);
        self.lag_txids.set(status.lag_txids as f64);
        self.lag_seconds.set(status.lag_seconds);
        self.detached.set(f64::from(u8::from(status.state == LaneState::Detached)));
        self.backlog_bytes.set(status.backlog_bytes as f64);
        if let Some(at) = status.last_success {
            self.last_success.set(at.0 as f64 / 1000.0);
        }
    }
}
