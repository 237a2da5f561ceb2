//! Memory and disk of a node are bounded.
//!
//! Source: Seawall's design, "memory stays bounded on every hop" and "snapshot and purge are driven by bytes".

use seawall_node::consensus::RaftInspection;

use super::{Breach, Observed};

/// How much a node may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the log file.
    pub log_bytes: u64,
    /// Bytes that wait to be written to it.
    pub queued_bytes: u64,
    /// Entries that are not purged; their heads are in memory.
    pub unpurged_entries: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Bounded {
    limits: Limits,
}

impl Bounded {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits }
    }

    pub(super) fn check(&self, observed: Observed, inspection: &RaftInspection) -> Result<(), Breach> {
        let index = |id: Option<seawall_node::store::log::LogId>| id.map_or(0, |id| id.index);
        let Limits { log_bytes, queued_bytes, unpurged_entries } = self.limits;
        let unpurged = index(inspection.last).saturating_sub(index(inspection.purged));
        let used = [
            (inspection.log_bytes, log_bytes, "bytes of log"),
            (inspection.queued_bytes, queued_bytes, "bytes waiting to be written to the log"),
            (unpurged, unpurged_entries, "entries that are not purged"),
        ];
        match used.into_iter().find(|(used, limit, _)| used > limit) {
            None => Ok(()),
            Some((used, limit, what)) => Err(Breach {
                property: "memory and disk bounded",
                text: format!("{} has {used} {what}, {limit} are allowed", observed.machine),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn every_limit_is_kept() {
        let check = |inspection: RaftInspection| Bounded::new(LIMITS).check(observed(1, 1), &inspection);
        let full = RaftInspection { log_bytes: 1000, queued_bytes: 100, ..node_at(1, 1, 100) };
        assert_eq!(check(full.clone()), Ok(()));
        assert!(check(RaftInspection { log_bytes: 1001, ..full.clone() }).unwrap_err().text.contains("bytes of log"));
        assert!(check(RaftInspection { queued_bytes: 101, ..full }).is_err());
        assert!(check(node_at(1, 1, 101)).is_err());
        assert!(check(RaftInspection { purged: Some(id(1, 1, 50)), ..node_at(1, 1, 150) }).is_ok());
    }
}
