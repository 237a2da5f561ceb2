//! How long commits took to be acknowledged.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use seawall_agent::DatabaseHandle;
use seawall_host::task::{self, OwnedTask};
use seawall_host::time::{self, Instant};

/// One probe: everything committed before `asked` was on a majority's disks at `answered`.
#[derive(Clone, Copy, Debug)]
struct Probe {
    asked: Instant,
    answered: Instant,
}

/// Asks again and again for a receipt, and keeps how long each took.
pub(super) struct Measurements {
    probes: Arc<Mutex<Vec<Probe>>>,
    _task: OwnedTask,
}

/// Between two probes, so that measuring is not the load.
const PAUSE: Duration = Duration::from_millis(5);

impl Measurements {
    /// Starts probing.
    pub(super) fn start(database: DatabaseHandle) -> Self {
        let probes = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&probes);
        let task = task::spawn_owned(async move {
            loop {
                let asked = Instant::now();
                if database.sync().await.is_err() {
                    return;
                }
                let probe = Probe { asked, answered: Instant::now() };
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(probe);
                time::sleep(PAUSE).await;
            }
        });
        Self { probes, _task: task }
    }

    /// Ends probing. The probe that was under way at `killed` is the failover; the others give the latencies.
    pub(super) fn finish(self, killed: Instant) -> Latencies {
        let probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut ordinary, mut failover) = (Vec::new(), None);
        for probe in probes.iter() {
            if failover.is_none() && probe.answered >= killed && probe.answered - probe.asked > PAUSE * 20 {
                failover = Some(probe.answered - killed);
            } else {
                ordinary.push(probe.answered - probe.asked);
            }
        }
        ordinary.sort_unstable();
        Latencies { ordinary, failover }
    }
}

/// What was measured.
pub(super) struct Latencies {
    ordinary: Vec<Duration>,
    /// From the leader's death to the next acknowledgement.
    pub(super) failover: Option<Duration>,
}

impl Latencies {
    /// How many probes there were, the failover left out.
    pub(super) fn count(&self) -> usize {
        self.ordinary.len()
    }

    /// The latency that `percent` of the probes did not exceed.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.ordinary.len() * percent).div_ceil(100).max(1) - 1;
        self.ordinary.get(rank).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let ordinary = (1..=200).map(Duration::from_millis).collect();
        let latencies = Latencies { ordinary, failover: None };
        assert_eq!(latencies.percentile(50), Duration::from_millis(100));
        assert_eq!(latencies.percentile(99), Duration::from_millis(198));
        assert_eq!(latencies.percentile(100), Duration::from_millis(200));
        let none = Latencies { ordinary: Vec::new(), failover: None };
        assert_eq!(none.percentile(99), Duration::ZERO);
    }
}
