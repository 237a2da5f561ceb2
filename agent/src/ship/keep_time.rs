//! Keeping an agent's idea of the cluster's time from growing old.

use std::time::Duration;

use seawall_host::{random, time};

use super::cluster::Cluster;

/// What was heard longer ago is asked for: by then a monotonic clock may be some milliseconds off, and hours if the machine
/// was suspended. One question serves all databases, and none is needed while any of them ships.
const RENEW: Duration = Duration::from_secs(30);

/// Asks the leader whenever none of its answers came for a while.
pub(crate) async fn keep_time(mut cluster: Cluster) {
    loop {
        time::sleep(random::jitter(RENEW)).await;
        if !cluster.clock().is_heard_within(RENEW)
            && let Err(error) = cluster.ask_time().await
        {
            tracing::debug!(%error, "the cluster's time is not to be had");
        }
    }
}
