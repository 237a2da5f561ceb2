//! The replicated state of the whole cluster.

use std::collections::{BTreeMap, BTreeSet};

use seawall_proto::database_name::DatabaseName;
use seawall_proto::v1;
use seawall_proto::v1::append_response::Reason;
use seawall_proto::v1::command::Command;

use super::database::DatabaseState;
use crate::replica::{Applied, SegmentRecord};

/// Everything the applied log has left, but for the position log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterState {
    pub(super) databases: BTreeMap<DatabaseName, DatabaseState>,
    retired: BTreeSet<u64>,
}

/// What a command did.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// The answer to whoever proposed it.
    pub applied: Applied,
    /// What the position log gets.
    pub record: Option<(DatabaseName, SegmentRecord)>,
}

impl From<Applied> for Effect {
    fn from(applied: Applied) -> Self {
        Self { applied, record: None }
    }
}

impl ClusterState {
    /// Every database, in the order of names.
    pub fn databases(&self) -> &BTreeMap<DatabaseName, DatabaseState> {
        &self.databases
    }

    /// Raft ids of nodes that were members once, and are none any more.
    pub fn retired(&self) -> &BTreeSet<u64> {
        &self.retired
    }

    /// These nodes are no members any more.
    pub fn retire(&mut self, nodes: impl IntoIterator<Item = u64>) {
        self.retired.extend(nodes);
    }

    /// Carries out the command of the log's entry `index`, which has a payload of `payload_len` bytes.
    ///
    /// A command that makes no sense is refused and changes nothing: it is in the log, so every node must get past it.
    pub fn apply(&mut self, command: &v1::Command, index: u64, payload_len: u32) -> Effect {
        match &command.command {
            Some(Command::Claim(claim)) => match claim.database.parse::<DatabaseName>() {
                Ok(name) => self.databases.entry(name).or_insert_with(DatabaseState::begin).claim(claim, index).into(),
                Err(error) => refuse(error.to_string()),
            },
            Some(Command::Append(append)) => self.append(append, index, payload_len),
            Some(Command::Progress(progress)) => {
                for news in &progress.destinations {
                    let known = news.database.parse::<DatabaseName>().ok();
                    if let Some(database) = known.and_then(|name| self.databases.get_mut(&name)) {
                        database.progress(news);
                    }
                }
                for decree in &progress.retention {
                    let known = decree.database.parse::<DatabaseName>().ok();
                    if let Some(database) = known.and_then(|name| self.databases.get_mut(&name)) {
                        database.decree_retention(decree);
                    }
                }
                for news in &progress.verifications {
                    let known = news.database.parse::<DatabaseName>().ok();
                    if let Some(database) = known.and_then(|name| self.databases.get_mut(&name)) {
                        database.verified(news);
                    }
                }
                Applied::Done.into()
            }
            Some(Command::Abandon(abandon)) => {
                let known = abandon.database.parse::<DatabaseName>().ok();
                if let Some(database) = known.and_then(|name| self.databases.get_mut(&name)) {
                    database.open.take_if(|open| open.stream == abandon.stream);
                }
                Applied::Done.into()
            }
            None => refuse("a command of an unknown kind: this node is older than the one that proposed it".to_owned()),
        }
    }

    fn append(&mut self, append: &v1::AppendCommand, index: u64, payload_len: u32) -> Effect {
        let name = match append.database.parse::<DatabaseName>() {
            Ok(name) => name,
            Err(error) => return refuse(error.to_string()),
        };
        let Some(database) = self.databases.get_mut(&name) else {
            return refuse(format!("no database {name} was ever claimed"));
        };
        let (applied, record) = database.append(append, index, payload_len);
        Effect { applied, record: record.map(|record| (name, record)) }
    }
}

fn refuse(message: String) -> Effect {
    Applied::Refused { reason: Reason::Invalid, message, head: v1::Head::default() }.into()
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
