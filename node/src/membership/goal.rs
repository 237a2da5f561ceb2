//! What an operator wants of the cluster.

use std::fmt;

/// A node that is to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNode {
    /// Its configured id.
    pub id: u64,
    /// Where the others reach it.
    pub address: String,
}

/// What the membership is to come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// A node is a member, without a vote unless it has one.
    Add {
        /// Which.
        node: NewNode,
        /// It also holds the log and every image.
        hydrated: bool,
    },
    /// A member votes.
    Promote {
        /// Its configured id.
        id: u64,
    },
    /// A node is no member.
    Remove {
        /// Its configured id.
        id: u64,
    },
    /// One node has taken another's place, and votes.
    Replace {
        /// The configured id of the one that goes.
        old: u64,
        /// The one that comes; with the same id, if its data directory is another.
        new: NewNode,
    },
    /// Another node leads.
    Transfer {
        /// Whose turn it is not any more.
        from: u64,
        /// Whose it is, if that matters.
        to: Option<u64>,
    },
}

impl Goal {
    /// Where a node is to be added.
    pub fn address(&self) -> Option<&str> {
        match self {
            Self::Add { node, .. } | Self::Replace { new: node, .. } => Some(&node.address),
            Self::Promote { .. } | Self::Remove { .. } | Self::Transfer { .. } => None,
        }
    }

    /// The node of which it must be known what it holds of every database.
    pub fn hydrates(&self) -> Option<u64> {
        match self {
            Self::Add { node, .. } | Self::Replace { new: node, .. } => Some(node.id),
            Self::Promote { id } => Some(*id),
            Self::Remove { .. } | Self::Transfer { .. } => None,
        }
    }
}

/// As the command is called.
impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add { node, .. } => write!(f, "add-node {} {}", node.id, node.address),
            Self::Promote { id } => write!(f, "promote {id}"),
            Self::Remove { id } => write!(f, "remove-node {id}"),
            Self::Replace { old, new } => write!(f, "replace-node {old} --with {} {}", new.id, new.address),
            Self::Transfer { to: Some(to), .. } => write!(f, "transfer-leader --to {to}"),
            Self::Transfer { to: None, .. } => write!(f, "transfer-leader"),
        }
    }
}
