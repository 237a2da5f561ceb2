//! Shipping: one task a database, from its capture to the leader's acknowledgement.

mod cluster;
mod driver;
mod keep_time;
mod outbox;
mod session;
mod shared;
mod source;
mod waiting;

pub(crate) use cluster::Cluster;
pub(crate) use driver::{Driver, DriverConfig};
pub(crate) use keep_time::keep_time;
pub(crate) use shared::Shared;
