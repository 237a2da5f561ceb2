//! The cluster's time, as agents are told it, and the stamps that come back.

use std::time::Duration;

use seawall_host::time::{self, Instant, UnixMillis};
use seawall_proto::v1::{self, get_cluster_time_response};
use tonic::Status;

use super::Shared;
use super::receipt::not_leader;

/// How long an answer waits for the clocks of a majority.
const CLOCKS_WAIT: Duration = Duration::from_secs(3);
const CLOCKS_LOOK: Duration = Duration::from_millis(50);
/// A stamp that is further ahead of the cluster's time is told of.
const FAR_AHEAD_MS: i64 = 60_000;

/// By how much a stamp is too far ahead of the cluster's time, milliseconds. Pure.
fn too_far_ahead(stamp_ms: i64, cluster_time: Option<UnixMillis>) -> Option<i64> {
    let ahead = stamp_ms.saturating_sub(cluster_time?.0);
    (ahead > FAR_AHEAD_MS).then_some(ahead)
}

impl Shared {
    /// The cluster's time for an answer that does not wait for it: 0, for which agents go on with the last they heard, while
    /// it is not known. An acknowledgement waits for no clock.
    pub(super) fn time_ms(&self) -> i64 {
        self.replica.cluster_time().map_or(0, |time| time.0)
    }

    /// Waits until the clocks of a majority are known. Only claims wait so: an agent that has heard no time yet has none to
    /// go on with, and with this node's clock alone one wrong clock would be in the history for good. It costs nothing that
    /// a claim does not need anyway: the majority that it needs to be committed answers for its clocks, too, once a second.
    ///
    /// # Errors
    /// `Unavailable` if that takes too long; the agent asks again.
    pub(super) async fn wait_for_clocks(&self) -> Result<(), Status> {
        let deadline = Instant::now() + CLOCKS_WAIT;
        while self.replica.cluster_time().is_none() {
            if Instant::now() >= deadline {
                return Err(Status::unavailable(
                    "the clocks of a majority of the nodes are not known yet; claim again",
                ));
            }
            time::sleep(CLOCKS_LOOK).await;
        }
        Ok(())
    }

    pub(super) fn get_cluster_time(&self) -> Result<get_cluster_time_response::Outcome, Status> {
        use get_cluster_time_response::Outcome;
        let leadership = self.replica.leadership();
        if !leadership.is_leader {
            return Ok(Outcome::NotLeader(not_leader(leadership.leader_address)));
        }
        let unknown = || Status::unavailable("the clocks of a majority of the nodes are not known yet; ask again");
        Ok(Outcome::ClusterTimeMs(self.replica.cluster_time().ok_or_else(unknown)?.0))
    }

    /// Looks at the stamp of a segment that is let in, and tells of one that is far ahead of the cluster's time: an agent
    /// that does not keep to what it hears, or clocks of a majority that stepped back. It is no reason to refuse anything:
    /// commit times that never fall must go on from a head that is ahead, and what an agent has captured cannot be stamped
    /// anew, only compared afresh, which makes one transaction of many.
    pub(super) fn look_at_stamp(&self, part: &v1::SegmentPart, database: &str, is_told: &mut bool) {
        if !part.is_last {
            return;
        }
        let Some(ahead_ms) = too_far_ahead(part.commit_time_ms, self.replica.cluster_time()) else {
            *is_told = false;
            return;
        };
        metrics::counter!("seawall_stamps_far_ahead_total").increment(1);
        if !std::mem::replace(is_told, true) {
            let ahead_s = ahead_ms / 1000;
            tracing::warn!(database, ahead_s, "commit times are ahead of the cluster's clocks; do these step back?");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_told_of_that_are_more_than_a_minute_ahead() {
        let now = Some(UnixMillis(1_000_000));
        assert_eq!(too_far_ahead(1_060_000, now), None);
        assert_eq!(too_far_ahead(1_060_001, now), Some(60_001));
        assert_eq!(too_far_ahead(0, now), None);
        assert_eq!(too_far_ahead(i64::MIN, now), None);
        assert_eq!(too_far_ahead(i64::MAX, None), None);
    }
}
