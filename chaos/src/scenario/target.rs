//! Whom a fault strikes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de::Error};

/// Whom a fault strikes; who that is, is seen when it strikes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The node that leads, or any if none does.
    Leader,
    /// A node that does not lead.
    Follower,
    /// One node after the other, in turn.
    NextNode,
    /// Any node.
    AnyNode,
    /// As many nodes as make a majority, the leader among them.
    Majority,
    /// All nodes at once.
    EveryNode,
    /// Any agent.
    AnyAgent,
    /// All of them.
    EveryAgent,
    /// Any application.
    AnyApplication,
    /// Everything on any application's host: agents and applications at once.
    AnyApplicationHost,
    /// Any destination.
    AnyDestination,
    /// All of them.
    EveryDestination,
    /// What has this name: `node-2`, `agent-app`, `s3`.
    Named(String),
}

const WORDS: [(&str, Target); 12] = [
    ("leader", Target::Leader),
    ("follower", Target::Follower),
    ("next-node", Target::NextNode),
    ("any-node", Target::AnyNode),
    ("majority", Target::Majority),
    ("every-node", Target::EveryNode),
    ("any-agent", Target::AnyAgent),
    ("every-agent", Target::EveryAgent),
    ("any-application", Target::AnyApplication),
    ("any-application-host", Target::AnyApplicationHost),
    ("any-destination", Target::AnyDestination),
    ("every-destination", Target::EveryDestination),
];

/// A word that names nobody.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is no target: leader, follower, next-node, any-node, majority, every-node, any-agent, every-agent, any-application, \
         any-application-host, any-destination, every-destination, or a name such as node-2, agent-app, s3, sftp, directory"
)]
pub struct UnknownTarget(String);

impl FromStr for Target {
    type Err = UnknownTarget;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((_, target)) = WORDS.iter().find(|(word, _)| *word == text) {
            return Ok(target.clone());
        }
        let is_name = ["s3", "sftp", "directory"].contains(&text)
            || ["node-", "agent-", "application-"].iter().any(|kind| text.len() > kind.len() && text.starts_with(kind));
        if is_name { Ok(Self::Named(text.to_owned())) } else { Err(UnknownTarget(text.to_owned())) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, WORDS.iter().find(|(_, target)| target == self)) {
            (Self::Named(name), _) => f.write_str(name),
            (_, word) => f.write_str(word.map_or("", |(word, _)| word)),
        }
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
