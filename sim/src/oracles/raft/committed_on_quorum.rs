//! What is committed is in the durable logs of a majority of the voters.
//!
//! Source: Raft paper, §5.3 ("committed once the leader that created the entry has replicated it on a majority of the
//! servers"), and figure 2: a server answers once its log is on stable storage.

use std::collections::BTreeSet;

use seawall_node::consensus::RaftInspection;
use seawall_node::store::log::LogId;

use super::Breach;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct CommittedOnQuorum {
    /// The newest entry that is known to be committed, and who voted then.
    newest: Option<(LogId, Vec<BTreeSet<u64>>)>,
}

impl CommittedOnQuorum {
    /// Takes in a look at a node. `holds` tells whether a voter has an entry durably; `None` if that is not known as of
    /// now: it may have it, and only those that certainly lack it count.
    pub(super) fn check(
        &mut self,
        inspection: &RaftInspection,
        holds: impl Fn(u64, LogId) -> Option<bool>,
    ) -> Result<(), Breach> {
        // The membership is the applied one: where all that is committed is applied, it is that of the entry.
        if let Some(committed) = inspection.committed.filter(|_| inspection.committed == inspection.applied)
            && self.newest.as_ref().is_none_or(|(newest, _)| newest.index < committed.index)
        {
            self.newest = Some((committed, inspection.membership.voters.clone()));
        }
        let Some((newest, voters)) = &self.newest else { return Ok(()) };
        for voters in voters.iter().filter(|voters| !voters.is_empty()) {
            let lacking: Vec<u64> =
                voters.iter().copied().filter(|voter| holds(*voter, *newest) == Some(false)).collect();
            let majority = voters.len() / 2 + 1;
            if voters.len() - lacking.len() < majority {
                let lacking: Vec<String> = lacking.iter().map(|voter| format!("{voter:x}")).collect();
                let text = format!(
                    "{newest} is committed, and {} of {} voters do not have it on disk: {}",
                    lacking.len(),
                    voters.len(),
                    lacking.join(", ")
                );
                return Err(Breach { property: "committed on a quorum", text });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn check(holding: &[(u64, Option<bool>)]) -> Result<(), Breach> {
        CommittedOnQuorum::default().check(&node_at(1, 1, 5), |voter, entry| {
            assert_eq!(entry, id(1, 1, 5));
            holding.iter().find(|(id, _)| *id == voter).and_then(|(_, holds)| *holds)
        })
    }

    #[test]
    fn a_majority_must_have_it_as_far_as_is_known() {
        check(&[(1, Some(true)), (2, Some(true)), (3, Some(false))]).unwrap();
        check(&[(1, Some(true)), (2, None), (3, Some(false))]).unwrap();
        check(&[]).unwrap();
        assert!(check(&[(1, Some(true)), (2, Some(false)), (3, Some(false))]).is_err());
    }

    #[test]
    fn each_of_two_sets_of_voters_needs_a_majority() {
        let mut joint = node_at(1, 1, 5);
        joint.membership.voters.push(BTreeSet::from([3, 4, 5]));
        let with =
            |holding: &[u64]| CommittedOnQuorum::default().check(&joint, |voter, _| Some(holding.contains(&voter)));
        with(&[1, 3, 4]).unwrap();
        assert!(with(&[1, 2, 3]).is_err());
    }

    #[test]
    fn what_is_not_applied_yet_is_not_looked_at() {
        let ahead = RaftInspection { applied: Some(id(1, 1, 4)), ..node_at(1, 1, 5) };
        CommittedOnQuorum::default().check(&ahead, |_, _| Some(false)).unwrap();
    }
}
