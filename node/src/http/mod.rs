//! Metrics, health.
