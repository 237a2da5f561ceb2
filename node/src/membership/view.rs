//! The cluster as its leader sees it, when it decides.

use std::collections::BTreeSet;
use std::fmt;

/// How many of so many voters are a majority.
pub const fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The random id of its data directory.
    pub raft_id: u64,
    /// Its configured id: a label.
    pub id: u64,
    /// Where the others reach it.
    pub address: String,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} at {}", self.id, self.address)
    }
}

/// A member, and what is known of it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Who it is.
    pub member: Member,
    /// Whether it has just answered.
    pub reachable: bool,
    /// What it lacks to rebuild the newest state of everything, in words; nothing where it does not answer.
    pub missing: Vec<String>,
    /// What destinations still need and its log does not hold, in words: if it led, they would have a gap there.
    pub gaps: Vec<String>,
}

impl MemberView {
    /// Whether it answers, and holds everything.
    pub fn is_current(&self) -> bool {
        self.reachable && self.missing.is_empty()
    }
}

/// Who answers at the address of a node that is to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Newcomer {
    /// Nobody; why, in words.
    Silent(String),
    /// A node.
    Answers {
        /// The random id of its data directory.
        raft_id: u64,
        /// The id that its configuration gives it.
        id: u64,
        /// Whether it may become a member; why not, in words.
        fit: Result<(), String>,
    },
}

/// Everything that a decision rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipView {
    /// The Raft id of the leader, who looks.
    pub leader: u64,
    /// Every member, by configured id.
    pub members: Vec<MemberView>,
    /// The Raft ids of those that vote.
    pub voters: BTreeSet<u64>,
    /// Who is to vote instead, while that is being changed: both majorities count.
    pub incoming: Option<BTreeSet<u64>>,
    /// Who answers where a node is to be added; nothing where none is.
    pub newcomer: Option<Newcomer>,
    /// What is at no destination yet, in words.
    pub exposed: Vec<String>,
}

impl MembershipView {
    /// The member with a configured id.
    pub fn by_id(&self, id: u64) -> Option<&MemberView> {
        self.members.iter().find(|view| view.member.id == id)
    }

    /// The member with a Raft id.
    pub fn by_raft_id(&self, raft_id: u64) -> Option<&MemberView> {
        self.members.iter().find(|view| view.member.raft_id == raft_id)
    }

    /// Whether a member votes.
    pub fn is_voter(&self, view: &MemberView) -> bool {
        self.voters.contains(&view.member.raft_id)
    }

    /// How many of `nodes` answer.
    pub fn reachable(&self, nodes: &BTreeSet<u64>) -> usize {
        self.count(nodes, |view| view.reachable)
    }

    /// How many of `nodes` hold everything.
    pub fn current(&self, nodes: &BTreeSet<u64>) -> usize {
        self.count(nodes, MemberView::is_current)
    }

    /// Whether a majority of `nodes` answers.
    pub fn can_agree(&self, nodes: &BTreeSet<u64>) -> bool {
        self.reachable(nodes) >= majority(nodes.len())
    }

    /// Those of `nodes` that do not answer, as people name them.
    pub fn silent(&self, nodes: &BTreeSet<u64>) -> String {
        let silent = self.members.iter().filter(|view| nodes.contains(&view.member.raft_id) && !view.reachable);
        silent.map(|view| format!("node {}", view.member.id)).collect::<Vec<_>>().join(" and ")
    }

    fn count(&self, nodes: &BTreeSet<u64>, counts: impl Fn(&MemberView) -> bool) -> usize {
        self.members.iter().filter(|view| nodes.contains(&view.member.raft_id) && counts(view)).count()
    }
}
