//! The next step towards a goal.
//!
//! Every step is decided anew from what the leader sees, so an operation may stop anywhere and be taken up again by
//! anybody. No set of voters is ever begun of which no majority answers: it could not be agreed on, and until it was,
//! nothing would be.

use std::collections::BTreeSet;

use super::goal::{Goal, NewNode};
use super::view::{Member, MemberView, MembershipView, Newcomer, majority};

/// One change, after which the cluster is as safe as before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A node becomes a member without a vote.
    AddLearner(Member),
    /// These begin to vote, and those stop, at once; who stops stays a member without a vote.
    ChangeVoters {
        /// Raft ids.
        add: BTreeSet<u64>,
        /// Raft ids.
        remove: BTreeSet<u64>,
    },
    /// A change of voters that was begun is completed.
    Settle,
    /// A member without a vote is one no longer.
    RemoveLearner(u64),
    /// Another voter leads.
    HandOver {
        /// Its Raft id.
        to: u64,
    },
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: it is as it should be.
    Done(String),
    /// This.
    Do(Step),
    /// Nothing yet; what is waited for.
    Wait(String),
    /// Nothing, ever; or not before something else is done.
    Refuse {
        /// Why, and what to do.
        reason: String,
        /// Whether it rests on what may be different in a moment.
        may_pass: bool,
    },
}

impl Decision {
    fn refuse(reason: String) -> Self {
        Self::Refuse { reason, may_pass: false }
    }
}

/// Decides. With `force` what is at no destination may come to be on fewer nodes than a majority, and destinations may
/// get gaps; a majority of every set of voters answers in any case.
pub fn decide(goal: &Goal, view: &MembershipView, force: bool) -> Decision {
    if let Some(incoming) = &view.incoming {
        return match view.can_agree(incoming) && view.can_agree(&view.voters) {
            true => Decision::Do(Step::Settle),
            false => {
                let both = view.voters.union(incoming).copied().collect();
                let silent = view.silent(&both);
                Decision::Wait(format!("a change of voters that was begun cannot be completed without {silent}"))
            }
        };
    }
    match goal {
        Goal::Add { node, hydrated } => add(view, node, *hydrated),
        Goal::Promote { id } => promote(view, *id, force),
        Goal::Remove { id } => match view.by_id(*id) {
            None => Decision::Done(format!("node {id} is no member")),
            Some(old) => remove(view, old, force),
        },
        Goal::Replace { old, new } if *old == new.id => replace_directory(view, new, force),
        Goal::Replace { old, new } => replace(view, *old, new, force),
        Goal::Transfer { from, to } => transfer(view, *from, *to),
    }
}

fn add(view: &MembershipView, node: &NewNode, hydrated: bool) -> Decision {
    let Some(member) = view.by_id(node.id) else { return admit(view, node) };
    if let Err(reason) = is_same(view, &member.member, node) {
        return Decision::refuse(reason);
    }
    if hydrated && let Err(wait) = holds_everything(member) {
        return Decision::Wait(wait);
    }
    let role = if view.is_voter(member) { "a voter" } else { "a member without a vote" };
    Decision::Done(format!("{} is {role}", member.member))
}

fn promote(view: &MembershipView, id: u64, force: bool) -> Decision {
    match view.by_id(id) {
        None => {
            Decision::refuse(format!("node {id} is no member: add it first (`seawall cluster add-node {id} ADDRESS`)"))
        }
        Some(member) if view.is_voter(member) => Decision::Done(format!("{} is a voter", member.member)),
        Some(member) => give_vote(view, member, BTreeSet::new(), force),
    }
}

/// A member that is to go.
fn remove(view: &MembershipView, old: &MemberView, force: bool) -> Decision {
    let old = old.member.raft_id;
    if view.voters.contains(&old) {
        return change_voters(view, BTreeSet::new(), BTreeSet::from([old]), force);
    }
    // One that lost its vote while it came to lead.
    if old == view.leader { hand_over(view, &view.voters) } else { Decision::Do(Step::RemoveLearner(old)) }
}

fn replace(view: &MembershipView, old: u64, new: &NewNode, force: bool) -> Decision {
    let leaves = view.by_id(old);
    let Some(comes) = view.by_id(new.id) else {
        return match leaves {
            Some(_) => admit(view, new),
            None => Decision::refuse(format!(
                "neither node {old} nor node {} is a member: to add one, `seawall cluster add-node {} {}`",
                new.id, new.id, new.address
            )),
        };
    };
    if let Err(reason) = is_same(view, &comes.member, new) {
        return Decision::refuse(reason);
    }
    match leaves {
        Some(leaves) if view.is_voter(comes) => remove(view, leaves, force),
        Some(leaves) => {
            let leaves = Some(leaves).filter(|leaves| view.is_voter(leaves)).map(|leaves| leaves.member.raft_id);
            give_vote(view, comes, leaves.into_iter().collect(), force)
        }
        None if view.is_voter(comes) => {
            Decision::Done(format!("{} is a voter, and node {old} is no member", comes.member))
        }
        // Another vote without one that goes makes a cluster weaker, not stronger, while a voter is dead.
        None => Decision::refuse(format!(
            "node {old} is no member: to give node {new} a vote beside the others, `seawall cluster promote {new}`",
            new = new.id
        )),
    }
}

/// A node comes back with another data directory: the old one goes first, because ids are those of nodes.
fn replace_directory(view: &MembershipView, new: &NewNode, force: bool) -> Decision {
    let Some(member) = view.by_id(new.id) else { return admit(view, new) };
    match &view.newcomer {
        None | Some(Newcomer::Silent(_)) => Decision::Wait(silent(view, new)),
        Some(Newcomer::Answers { raft_id, .. }) if *raft_id == member.member.raft_id => {
            if member.member.address != new.address {
                return Decision::refuse(elsewhere(&member.member));
            }
            if view.is_voter(member) {
                Decision::Done(format!("{} is a voter", member.member))
            } else {
                give_vote(view, member, BTreeSet::new(), force)
            }
        }
        Some(Newcomer::Answers { fit: Err(reason), .. }) => Decision::refuse(reason.clone()),
        Some(Newcomer::Answers { id, .. }) if *id != new.id => Decision::refuse(other_node(new, *id)),
        Some(Newcomer::Answers { .. }) if member.reachable => Decision::refuse(format!(
            "{} answers with the data directory that it has as a member: stop it first, or replace it by a node with another id",
            member.member
        )),
        Some(Newcomer::Answers { .. }) => remove(view, member, force),
    }
}

fn transfer(view: &MembershipView, from: u64, to: Option<u64>) -> Decision {
    let leads = view.by_raft_id(view.leader).map_or(0, |leader| leader.member.id);
    let Some(to) = to else {
        if leads != from {
            return Decision::Done(format!("node {leads} leads"));
        }
        return match heir(view, &view.voters) {
            Some(heir) => Decision::Do(Step::HandOver { to: heir }),
            None if view.voters.len() == 1 => Decision::refuse("there is no other voter".to_owned()),
            None => Decision::Wait("no other voter answers and holds the whole log".to_owned()),
        };
    };
    match view.by_id(to) {
        None => Decision::refuse(format!("node {to} is no member")),
        Some(_) if leads == to => Decision::Done(format!("node {to} leads")),
        Some(member) if !view.is_voter(member) => {
            Decision::refuse(format!("node {to} has no vote: promote it first (`seawall cluster promote {to}`)"))
        }
        Some(member) => match holds_everything(member) {
            Ok(()) => Decision::Do(Step::HandOver { to: member.member.raft_id }),
            Err(wait) => Decision::Wait(wait),
        },
    }
}

/// A node that is no member becomes one.
fn admit(view: &MembershipView, node: &NewNode) -> Decision {
    if let Some(other) = view.members.iter().find(|view| view.member.address == node.address) {
        return Decision::refuse(format!("{} is the address of node {} already", node.address, other.member.id));
    }
    match &view.newcomer {
        None | Some(Newcomer::Silent(_)) => Decision::Wait(silent(view, node)),
        Some(Newcomer::Answers { fit: Err(reason), .. }) => Decision::refuse(reason.clone()),
        Some(Newcomer::Answers { id, .. }) if *id != node.id => Decision::refuse(other_node(node, *id)),
        Some(Newcomer::Answers { raft_id, .. }) => match view.by_raft_id(*raft_id) {
            Some(other) => {
                Decision::refuse(format!("the data directory of node {} is that of {}", node.id, other.member))
            }
            None => {
                Decision::Do(Step::AddLearner(Member { raft_id: *raft_id, id: node.id, address: node.address.clone() }))
            }
        },
    }
}

/// Whether a member is the node that was meant.
fn is_same(view: &MembershipView, member: &Member, node: &NewNode) -> Result<(), String> {
    if member.address != node.address {
        return Err(elsewhere(member));
    }
    match &view.newcomer {
        Some(Newcomer::Answers { fit: Err(reason), .. }) => Err(reason.clone()),
        Some(Newcomer::Answers { raft_id, .. }) if *raft_id != member.raft_id => Err(format!(
            "node {id} is a member with another data directory than it has now: \
             `seawall cluster replace-node {id} --with {id} {address}`",
            id = member.id,
            address = member.address
        )),
        _ => Ok(()),
    }
}

fn elsewhere(member: &Member) -> String {
    format!("node {} is a member at {}: to move it, replace it by a node with another id", member.id, member.address)
}

fn other_node(node: &NewNode, answers: u64) -> String {
    format!("at {} answers node {answers}: mend the id, or its node.yml", node.address)
}

fn silent(view: &MembershipView, node: &NewNode) -> String {
    let cause = match &view.newcomer {
        Some(Newcomer::Silent(cause)) => format!(" ({cause})"),
        _ => String::new(),
    };
    format!("node {} does not answer at {}{cause}: start it there with an empty data directory", node.id, node.address)
}

fn holds_everything(member: &MemberView) -> Result<(), String> {
    let node = member.member.id;
    if !member.reachable {
        return Err(format!("{} does not answer", member.member));
    }
    match member.missing.as_slice() {
        [] => Ok(()),
        [only] => Err(format!("node {node} does not hold everything yet: {only}")),
        [first, rest @ ..] => {
            Err(format!("node {node} does not hold everything yet: {first}, and {} more", rest.len()))
        }
    }
}

/// A member begins to vote, and others stop, once it holds what it needs for that.
fn give_vote(view: &MembershipView, member: &MemberView, remove: BTreeSet<u64>, force: bool) -> Decision {
    if let Err(wait) = holds_everything(member) {
        return Decision::Wait(wait);
    }
    if let Some(gap) = member.gaps.first().filter(|_| !force) {
        return Decision::Wait(format!(
            "if node {} came to lead now, a destination would get a gap: {gap} (it passes when the destination gets on; \
             --force does not wait)",
            member.member.id
        ));
    }
    change_voters(view, BTreeSet::from([member.member.raft_id]), remove, force)
}

fn change_voters(view: &MembershipView, add: BTreeSet<u64>, remove: BTreeSet<u64>, force: bool) -> Decision {
    let after: BTreeSet<u64> = view.voters.union(&add).copied().filter(|id| !remove.contains(id)).collect();
    if after.is_empty() {
        return Decision::refuse("it is the last voter: without it there is no cluster".to_owned());
    }
    if !view.can_agree(&view.voters) {
        let (now, all) = (view.reachable(&view.voters), view.voters.len());
        return Decision::Wait(format!("{now} of {all} voters answer, which is no majority"));
    }
    if !view.can_agree(&after) {
        let (left, all) = (view.reachable(&after), after.len());
        let silent = view.silent(&after);
        return Decision::Refuse {
            reason: format!(
                "of the {all} voters that would remain {left} answer, and {} are needed: nothing could be agreed on any \
                 more, not even this (so --force is of no use). First bring back, replace or remove {silent}",
                majority(all)
            ),
            may_pass: true,
        };
    }
    let (holders, needed) = (view.current(&after), majority(view.voters.len()));
    if let Some(exposed) = view.exposed.first().filter(|_| !remove.is_empty() && holders < needed && !force) {
        let more = if view.exposed.len() > 1 {
            format!(" (and {} more databases)", view.exposed.len() - 1)
        } else {
            String::new()
        };
        return Decision::Refuse {
            reason: format!(
                "what is at no destination yet would be held by {holders} of the {} nodes that vote now, fewer than a \
                 majority: {exposed}{more}. Wait until a destination has it (`seawall sync --receipt all`), replace the \
                 node instead, or use --force: it is lost if those nodes are",
                view.voters.len()
            ),
            may_pass: true,
        };
    }
    if !remove.contains(&view.leader) {
        return Decision::Do(Step::ChangeVoters { add, remove });
    }
    // A leader does not remove itself: it could not see to it that it is done.
    let others: BTreeSet<u64> = after.intersection(&view.voters).copied().collect();
    if others.is_empty() { change_voters(view, add, BTreeSet::new(), force) } else { hand_over(view, &others) }
}

/// The leader is to go.
fn hand_over(view: &MembershipView, voters: &BTreeSet<u64>) -> Decision {
    match heir(view, voters) {
        Some(heir) => Decision::Do(Step::HandOver { to: heir }),
        None => Decision::Wait("the leader is to go, and no other voter answers and holds the whole log".to_owned()),
    }
}

/// Who of `voters` is to lead in the leader's place: the first, so that two who ask come to the same.
fn heir(view: &MembershipView, voters: &BTreeSet<u64>) -> Option<u64> {
    let mut heirs = view.members.iter().filter(|heir| {
        let raft_id = heir.member.raft_id;
        raft_id != view.leader && voters.contains(&raft_id) && heir.is_current()
    });
    heirs.next().map(|heir| heir.member.raft_id)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
