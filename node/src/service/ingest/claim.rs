//! Who may claim a database. Pure.

use std::time::Duration;

use seawall_proto::position::Epoch;

/// For this long after this node began to lead, agents of the leader before may come back to it; and for this long
/// after a claim was granted, its agent may open its stream.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// An agent and the epoch that it claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) agent_id: u64,
    pub(super) label: String,
    pub(super) epoch: Epoch,
}

/// What bears on a claim.
#[derive(Clone, Debug)]
pub(super) struct Situation {
    pub(super) agent_id: u64,
    pub(super) take_over: bool,
    /// Whose append stream lives on this node.
    pub(super) streaming: Option<Holder>,
    /// Who claimed the database last.
    pub(super) recorded: Option<Holder>,
    /// How long this node has led.
    pub(super) leading_for: Duration,
    /// How long ago this node granted a claim whose stream has not been seen yet.
    pub(super) granted_ago: Option<Duration>,
}

/// Whom the claim has to give way to; nobody if it may be proposed.
pub(super) fn held_by(situation: &Situation) -> Option<&Holder> {
    let Situation { agent_id, take_over, streaming, recorded, leading_for, granted_ago } = situation;
    if *take_over {
        return None;
    }
    let may_come_back = *leading_for < GRACE || granted_ago.is_some_and(|ago| ago < GRACE);
    let recorded = recorded.as_ref().filter(|_| may_come_back);
    streaming.as_ref().or(recorded).filter(|holder| holder.agent_id != *agent_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(agent_id: u64) -> Holder {
        Holder { agent_id, label: format!("agent {agent_id}"), epoch: Epoch(agent_id) }
    }

    fn situation() -> Situation {
        Situation {
            agent_id: 1,
            take_over: false,
            streaming: None,
            recorded: Some(holder(2)),
            leading_for: GRACE,
            granted_ago: None,
        }
    }

    #[test]
    fn a_live_stream_of_another_agent_holds_the_database() {
        let held = Situation { streaming: Some(holder(2)), ..situation() };
        assert_eq!(held_by(&held), Some(&holder(2)));
        assert_eq!(held_by(&Situation { take_over: true, ..held.clone() }), None);
        assert_eq!(held_by(&Situation { agent_id: 2, ..held }), None);
    }

    #[test]
    fn without_a_stream_a_claim_passes() {
        assert_eq!(held_by(&situation()), None);
        assert_eq!(held_by(&Situation { recorded: None, leading_for: Duration::ZERO, ..situation() }), None);
    }

    #[test]
    fn a_new_leader_gives_the_holder_time_to_come_back() {
        let fresh = Situation { leading_for: GRACE - Duration::from_millis(1), ..situation() };
        assert_eq!(held_by(&fresh), Some(&holder(2)));
        assert_eq!(held_by(&Situation { agent_id: 2, ..fresh.clone() }), None);
        assert_eq!(held_by(&Situation { take_over: true, ..fresh }), None);
    }

    #[test]
    fn a_claim_just_granted_holds_until_its_stream_may_have_opened() {
        let granted = Situation { granted_ago: Some(Duration::from_secs(1)), ..situation() };
        assert_eq!(held_by(&granted), Some(&holder(2)));
        assert_eq!(held_by(&Situation { granted_ago: Some(GRACE), ..granted }), None);
    }
}
