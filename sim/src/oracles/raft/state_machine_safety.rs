//! Nodes that applied the log up to the same entry are in the same state.
//!
//! Source: Raft paper, figure 3, "State Machine Safety"; §5.4.3.

use std::collections::BTreeMap;

use seawall_node::consensus::RaftInspection;
use seawall_node::store::log::LogId;

use super::{Breach, Observed};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct StateMachineSafety {
    states: BTreeMap<u64, (LogId, u64, Observed)>,
}

impl StateMachineSafety {
    pub(super) fn check(&mut self, observed: Observed, inspection: &RaftInspection) -> Result<(), Breach> {
        let Some(applied) = inspection.applied else { return Ok(()) };
        let digest = inspection.digest;
        let (id, known, by) = *self.states.entry(applied.index).or_insert((applied, digest, observed));
        if (id, known) == (applied, digest) {
            return Ok(());
        }
        let text = format!(
            "after {applied} the state is {digest:016x} on {} (life {}), after {id} it was {known:016x} on {} (life {})",
            observed.machine, observed.life, by.machine, by.life
        );
        Err(Breach { property: "state machine safety", text })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn equal_states_pass_and_others_do_not() {
        let mut oracle = StateMachineSafety::default();
        oracle.check(observed(1, 1), &empty(1)).unwrap();
        oracle.check(observed(1, 1), &node_at(1, 1, 3)).unwrap();
        oracle.check(observed(2, 1), &node_at(2, 1, 3)).unwrap();
        oracle.check(observed(3, 1), &RaftInspection { digest: 77, ..node_at(3, 1, 4) }).unwrap();
        assert!(oracle.check(observed(2, 1), &node_at(2, 1, 4)).is_err());
        assert!(oracle.check(observed(2, 2), &node_at(2, 2, 3)).is_err());
    }
}
