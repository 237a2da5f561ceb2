//! Changing the membership, one step a call: the leader looks, decides, and carries the step out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use seawall_host::net::Address;
use seawall_host::time::{self, Instant};
use seawall_proto::database_name::DatabaseName;
use seawall_proto::position::{Lineage, Txid};
use seawall_proto::v1;
use seawall_proto::v1::change_membership_request::Goal as Wanted;
use seawall_proto::v1::change_membership_response::{Outcome, Refusal, Waiting};
use seawall_proto::v1::get_membership_response;
use tonic::Status;

use crate::consensus::{Holdings, KnownMembership, StepError};
use crate::membership::{
    DatabaseNeed, Decision, Desk, Goal, Lacks, Listed, Member, MemberView, MembershipView, NewNode, Newcomer, Step,
    decide, differences, lacks, outlook,
};
use crate::replica::{ProposeError, Replica};

/// How long the leader may take to be sure that it still leads.
const READ_LIMIT: Duration = Duration::from_secs(5);
/// How long a member may take to have applied what the leader has, before it counts as behind.
const APPLY_LIMIT: Duration = Duration::from_secs(2);
/// How long a call waits for another one's step.
const TURN_LIMIT: Duration = Duration::from_secs(5);
/// The longest address that is taken in, in bytes.
const MAX_ADDRESS: usize = 300;
/// At most so many reasons of one kind are shown of a member.
const MOST_REASONS: usize = 20;

/// Operations on the membership.
pub(super) struct Operations {
    replica: Replica,
    /// Of the destinations that the configuration names.
    destinations: Vec<String>,
    desk: Mutex<Desk>,
    /// One step at a time.
    turn: tokio::sync::Mutex<()>,
}

/// What the leader sees.
struct Seen {
    known: KnownMembership,
    view: MembershipView,
    needs: BTreeMap<DatabaseName, DatabaseNeed>,
    /// What each member said, by Raft id.
    said: BTreeMap<u64, (Holdings, Lacks)>,
}

impl Operations {
    pub(super) fn new(replica: Replica, destinations: Vec<String>) -> Self {
        Self { replica, destinations, desk: Mutex::default(), turn: tokio::sync::Mutex::new(()) }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one step towards a goal, if there is one to be taken.
    ///
    /// # Errors
    /// A request that makes no sense.
    pub(super) async fn change(
        &self,
        request: v1::ChangeMembershipRequest,
    ) -> Result<v1::ChangeMembershipResponse, Status> {
        let goal = read_goal(request.goal)?;
        let mut risks = Vec::new();
        let outcome = match self.step(request.operation, &goal, request.force, &mut risks).await {
            Ok(outcome) => outcome,
            // Whoever asks looks elsewhere too: a leader that is cut off does not know that it leads no longer.
            Err(ProposeError::NotLeader { leader_address: Some(leader_address) }) => {
                Outcome::NotLeader(v1::NotLeader { leader_address })
            }
            Err(_) => Outcome::NotLeader(v1::NotLeader::default()),
        };
        if matches!(outcome, Outcome::Done(_) | Outcome::Refused(_)) {
            self.desk().leave(request.operation);
        }
        let nodes = self.replica.member_addresses();
        Ok(v1::ChangeMembershipResponse { outcome: Some(outcome), nodes, risks })
    }

    async fn step(
        &self,
        operation: u64,
        goal: &Goal,
        force: bool,
        risks: &mut Vec<String>,
    ) -> Result<Outcome, ProposeError> {
        let leadership = self.replica.leadership();
        if !leadership.is_leader {
            return Err(ProposeError::NotLeader { leader_address: leadership.leader_address });
        }
        if let Err(conflict) = self.desk().enter(operation, goal, leadership.term, Instant::now()) {
            return Ok(Outcome::Refused(Refusal { reason: conflict.to_string(), may_pass: false }));
        }
        let Ok(_turn) = time::timeout(TURN_LIMIT, self.turn.lock()).await else {
            return Ok(waiting("another step is being carried out".to_owned()));
        };
        let hydrates = goal.hydrates();
        let seen = self.look(goal.hydrates().zip(goal.address()), |member| hydrates == Some(member.id)).await?;
        let step = match decide(goal, &seen.view, force) {
            Decision::Done(what) => return Ok(Outcome::Done(what)),
            Decision::Wait(why) => return Ok(waiting(why)),
            Decision::Refuse { reason, may_pass } => return Ok(Outcome::Refused(Refusal { reason, may_pass })),
            Decision::Do(step) => step,
        };
        if force {
            match decide(goal, &seen.view, false) {
                Decision::Refuse { reason, .. } | Decision::Wait(reason) => risks.push(reason),
                Decision::Done(_) | Decision::Do(_) => {}
            }
        }
        let what = describe(&step, &seen.view);
        match self.replica.carry_out(&step, &seen.known).await {
            Ok(()) => {
                tracing::info!(goal = %goal, "{what}");
                Ok(Outcome::Stepped(what))
            }
            Err(StepError::NotLeader { leader_address }) => Err(ProposeError::NotLeader { leader_address }),
            Err(StepError::Later(why)) => {
                Ok(Outcome::Waiting(Waiting { reason: format!("{what}: {why}"), attempted: true }))
            }
        }
    }

    /// Who is a member and holds what.
    pub(super) async fn report(&self) -> get_membership_response::Outcome {
        use get_membership_response::Outcome;
        match self.look(None, |_| true).await {
            Ok(seen) => Outcome::Report(self.describe(&seen).await),
            Err(error) => {
                let leader_address = match error {
                    ProposeError::NotLeader { leader_address } => leader_address.unwrap_or_default(),
                    ProposeError::Unknown(_) => String::new(),
                };
                Outcome::NotLeader(v1::NotLeader { leader_address })
            }
        }
    }

    /// Looks at the members and who answers at the `newcomer`'s address; at what is held of databases where `in_full`.
    async fn look(
        &self,
        newcomer: Option<(u64, &str)>,
        in_full: impl Fn(&Member) -> bool,
    ) -> Result<Seen, ProposeError> {
        let known = self.replica.membership(READ_LIMIT).await?;
        let full: BTreeSet<u64> =
            known.members.iter().filter(|member| in_full(member)).map(|member| member.raft_id).collect();
        let needs = if full.is_empty() { BTreeMap::new() } else { self.needs() };
        let asked = known.members.iter().map(|member| {
            let full = full.contains(&member.raft_id);
            async move { self.replica.holdings(member, known.log_index, full, APPLY_LIMIT).await }
        });
        let greeted = async {
            match newcomer {
                Some((id, address)) => Some(self.replica.newcomer(id, address).await),
                None => None,
            }
        };
        let (answers, newcomer) = futures::future::join(join_all(asked), greeted).await;
        let mut said = BTreeMap::new();
        let members = known.members.iter().zip(answers).map(|(member, answer)| {
            let mut view =
                MemberView { member: member.clone(), reachable: false, missing: Vec::new(), gaps: Vec::new() };
            if let Ok(held) = answer {
                view.reachable = true;
                if held.applied < known.log_index {
                    view.missing.push(format!("it has {} of {} entries of the log", held.applied, known.log_index));
                }
                let full = full.contains(&member.raft_id);
                let lacking = if full { lacks(&needs, &held.databases) } else { Lacks::default() };
                view.missing.extend(lacking.missing.iter().cloned());
                view.gaps.clone_from(&lacking.gaps);
                said.insert(member.raft_id, (held, lacking));
            }
            view
        });
        let members = members.collect();
        let view = MembershipView {
            leader: known.leader,
            members,
            voters: known.voters.clone(),
            incoming: known.incoming.clone(),
            newcomer,
            exposed: self.exposed(),
        };
        Ok(Seen { known, view, needs, said })
    }

    /// What a node must hold to take the leader's place.
    fn needs(&self) -> BTreeMap<DatabaseName, DatabaseNeed> {
        let need = |name: DatabaseName| {
            let view = self.replica.database(&name)?;
            let lineage = Lineage(view.head.lineage);
            // One that has nothing of this history yet needs all of it.
            let watermark = |name: &String| {
                let progress = view.destinations.get(name).filter(|progress| progress.lineage == lineage.0);
                let needs = progress.is_none_or(|progress| !progress.detached);
                needs.then(|| (name.clone(), Txid(progress.map_or(0, |progress| progress.watermark))))
            };
            let watermarks = self.destinations.iter().filter_map(watermark).collect();
            let held_after = self.replica.held_after(&name, lineage);
            Some((name, DatabaseNeed { lineage, head: Txid(view.head.txid), held_after, watermarks }))
        };
        self.replica.databases().into_iter().filter_map(need).collect()
    }

    /// What is at no destination, by database, in words.
    fn exposed(&self) -> Vec<String> {
        let one = |name: DatabaseName| {
            let view = self.replica.database(&name)?;
            let there = view.destinations.values();
            let there =
                there.filter(|one| one.lineage == view.head.lineage && self.destinations.contains(&one.destination));
            let furthest = there.map(|one| one.watermark).max().unwrap_or_default();
            let head = view.head.txid;
            (head > furthest).then(|| format!("{name}: txid {} to {head}", furthest + 1))
        };
        self.replica.databases().into_iter().filter_map(one).collect()
    }

    async fn describe(&self, seen: &Seen) -> v1::MembershipReport {
        let Seen { known, view, needs, said } = seen;
        let members = view.members.iter().map(|one| {
            let (held, lacking) = said.get(&one.member.raft_id).cloned().unwrap_or_default();
            let role = match () {
                () if one.member.raft_id == view.leader => "leader",
                () if view.is_voter(one) => "voter",
                () => "learner",
            };
            v1::MemberReport {
                id: one.member.id,
                raft_id: one.member.raft_id,
                address: one.member.address.clone(),
                role: role.to_owned(),
                reachable: one.reachable,
                applied: held.applied,
                databases_held: lacking.held as u64,
                databases: needs.len() as u64,
                missing: some_of(&one.missing),
                gaps: some_of(&one.gaps),
            }
        });
        let bytes = self.replica.databases().into_iter().filter_map(|name| self.replica.database(&name));
        let bytes = bytes.map(|view| u64::from(view.head.page_size) * u64::from(view.head.page_count)).sum();
        v1::MembershipReport {
            cluster: self.replica.cluster().name,
            log_index: known.log_index,
            members: members.collect(),
            changing: view.incoming.is_some(),
            exposed: some_of(&view.exposed),
            warnings: self.warnings(seen).await,
            outlook: outlook(view, bytes),
        }
    }

    /// What does not fit between the members and what nodes are told of them.
    async fn warnings(&self, seen: &Seen) -> Vec<String> {
        let members = &seen.known.members;
        let mut warnings = Vec::new();
        let silent = seen.view.members.iter().filter(|view| !view.reachable);
        warnings.extend(silent.map(|view| format!("{} does not answer", view.member)));
        let listed: BTreeMap<u64, String> = seen
            .said
            .values()
            .flat_map(|(held, _)| &held.listed)
            .filter(|one| members.iter().all(|member| member.id != one.id))
            .map(|one| (one.id, one.address.clone()))
            .collect();
        let asked = listed.iter().map(|(id, address)| async move { (*id, self.replica.newcomer(*id, address).await) });
        let mut joining = Vec::new();
        for (id, newcomer) in join_all(asked).await {
            if matches!(newcomer, Newcomer::Answers { id: answers, fit: Ok(()), .. } if answers == id) {
                joining.push(id);
            }
        }
        for member in members {
            let listed: &[Listed] = seen.said.get(&member.raft_id).map_or(&[], |(held, _)| &held.listed);
            if !listed.is_empty() {
                warnings.extend(differences(member.id, listed, members, &joining));
            }
        }
        warnings
    }
}

fn waiting(reason: String) -> Outcome {
    Outcome::Waiting(Waiting { reason, attempted: false })
}

fn some_of(reasons: &[String]) -> Vec<String> {
    reasons.iter().take(MOST_REASONS).cloned().collect()
}

/// A step in words.
fn describe(step: &Step, view: &MembershipView) -> String {
    let name = |raft_id: &u64| view.by_raft_id(*raft_id).map_or(0, |member| member.member.id);
    let names = |ids: &BTreeSet<u64>| ids.iter().map(|id| name(id).to_string()).collect::<Vec<_>>().join(", ");
    match step {
        Step::AddLearner(member) => format!("{member} becomes a member without a vote"),
        Step::ChangeVoters { add, remove } if remove.is_empty() => format!("node {} gets a vote", names(add)),
        Step::ChangeVoters { add, remove } if add.is_empty() => format!("node {} gives up its vote", names(remove)),
        Step::ChangeVoters { add, remove } => format!("node {} gets the vote of node {}", names(add), names(remove)),
        Step::Settle => "a change of voters that was begun is completed".to_owned(),
        Step::RemoveLearner(raft_id) => format!("node {} is no member any more", name(raft_id)),
        Step::HandOver { to } => format!("leadership goes to node {}", name(to)),
    }
}

fn read_goal(goal: Option<Wanted>) -> Result<Goal, Status> {
    let id = |id: u64| match id {
        0 => Err(Status::invalid_argument("the id of a node is a number from 1")),
        id => Ok(id),
    };
    let node = |node: u64, address: String| {
        let parsed = address.parse::<Address>().ok().filter(|_| address.len() <= MAX_ADDRESS);
        if !matches!(parsed, Some(Address::Tcp(_))) {
            return Err(Status::invalid_argument("the address of a node is HOST:PORT"));
        }
        Ok(NewNode { id: id(node)?, address })
    };
    Ok(match goal {
        Some(Wanted::Add(add)) => Goal::Add { node: node(add.id, add.address)?, hydrated: add.hydrated },
        Some(Wanted::Promote(promote)) => Goal::Promote { id: id(promote.id)? },
        Some(Wanted::Remove(remove)) => Goal::Remove { id: id(remove.id)? },
        Some(Wanted::Replace(replace)) => {
            Goal::Replace { old: id(replace.old)?, new: node(replace.id, replace.address)? }
        }
        Some(Wanted::Transfer(transfer)) => {
            Goal::Transfer { from: transfer.from, to: (transfer.to != 0).then_some(transfer.to) }
        }
        None => {
            return Err(Status::invalid_argument("the request has no goal, or one that this version does not know"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_that_make_no_sense_are_refused() {
        let add = |id, address: &str| {
            read_goal(Some(Wanted::Add(v1::AddNodeGoal { id, address: address.to_owned(), hydrated: true })))
        };
        assert!(add(4, "host:7400").is_ok());
        for (id, address) in [(0, "host:7400"), (4, "host"), (4, ""), (4, &format!("{}:1", "h".repeat(400)))] {
            assert!(add(id, address).is_err(), "{id} {address}");
        }
        assert!(read_goal(None).is_err());
        assert!(read_goal(Some(Wanted::Remove(v1::RemoveNodeGoal { id: 0 }))).is_err());
    }
}
