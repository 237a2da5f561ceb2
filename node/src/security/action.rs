//! What callers may be allowed to do, and what every call needs.

use std::fmt;
use std::str::FromStr;

/// What a token may allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Ship a database: what an agent does.
    Write,
    /// Read a database back.
    Restore,
    /// See to the cluster itself, whatever databases the token is for.
    Admin,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Write, Self::Restore, Self::Admin];

    /// As configuration files spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Restore => "restore",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no action.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of write, restore, admin")]
pub struct InvalidAction(String);

impl FromStr for Action {
    type Err = InvalidAction;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|action| action.as_str() == text).ok_or_else(|| InvalidAction(text.to_owned()))
    }
}

/// Who may make a call. A node of the cluster may make all of them but those of [`Need::Elsewhere`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Whose token allows this.
    Action(Action),
    /// Whoever has a token.
    Token,
    /// A node of the cluster, shown by its certificate; no token stands in for that.
    Node,
    /// Nobody here: nodes do not answer it.
    Elsewhere,
}

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// One database, named in the request: the caller's patterns must match it.
    Database,
    /// A list of databases: those that the caller's patterns match are shown.
    Databases,
    /// No database.
    Nothing,
}

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The path of its requests.
    pub path: &'static str,
    /// Who may make it.
    pub need: Need,
    /// What it is about.
    pub about: About,
}

const fn rule(path: &'static str, need: Need, about: About) -> Rule {
    Rule { path, need, about }
}

/// What every call needs. One that is not listed is refused.
pub const RULES: &[Rule] = &[
    rule("/seawall.v1.Ingest/Claim", Need::Action(Action::Write), About::Database),
    rule("/seawall.v1.Ingest/PageHashes", Need::Action(Action::Write), About::Database),
    rule("/seawall.v1.Ingest/Append", Need::Action(Action::Write), About::Database),
    rule("/seawall.v1.Ingest/GetHead", Need::Action(Action::Write), About::Database),
    rule("/seawall.v1.Ingest/AwaitReceipt", Need::Action(Action::Write), About::Database),
    rule("/seawall.v1.Ingest/GetClusterTime", Need::Token, About::Nothing),
    rule("/seawall.v1.Restore/Describe", Need::Action(Action::Restore), About::Database),
    rule("/seawall.v1.Restore/ReadObject", Need::Action(Action::Restore), About::Database),
    rule("/seawall.v1.Cluster/GetStatus", Need::Token, About::Databases),
    rule("/seawall.v1.Cluster/GetMembership", Need::Action(Action::Admin), About::Nothing),
    rule("/seawall.v1.Cluster/ChangeMembership", Need::Action(Action::Admin), About::Nothing),
    rule("/seawall.v1.Agent/Sync", Need::Elsewhere, About::Database),
    rule("/seawall.v1.Peer/Identify", Need::Node, About::Nothing),
    rule("/seawall.v1.Peer/Adopt", Need::Node, About::Nothing),
    rule("/seawall.v1.Peer/Vote", Need::Node, About::Nothing),
    rule("/seawall.v1.Peer/Append", Need::Node, About::Nothing),
    rule("/seawall.v1.Peer/InstallSnapshot", Need::Node, About::Nothing),
    rule("/seawall.v1.Peer/TransferLeader", Need::Node, About::Nothing),
    rule("/seawall.v1.Peer/ReadIndex", Need::Node, About::Nothing),
    rule("/seawall.v1.Peer/ListBlobs", Need::Node, About::Nothing),
    rule("/seawall.v1.Peer/ReadBlob", Need::Node, About::Nothing),
    rule("/seawall.v1.Peer/ReportSpace", Need::Node, About::Nothing),
    rule("/seawall.v1.Peer/ReportHoldings", Need::Node, About::Nothing),
];

/// What the call at `path` needs; nothing if there is no such call.
pub fn rule_of(path: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.path == path)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use prost::Message;
    use prost_types::{DescriptorProto, FileDescriptorSet};

    use super::*;

    struct Protocol {
        messages: BTreeMap<String, DescriptorProto>,
        /// By path: the types of request and answer.
        calls: BTreeMap<String, (String, String)>,
    }

    impl Protocol {
        fn read() -> Self {
            let files = FileDescriptorSet::decode(seawall_proto::DESCRIPTORS).unwrap();
            let mut protocol = Self { messages: BTreeMap::new(), calls: BTreeMap::new() };
            for file in &files.file {
                let package = format!(".{}", file.package());
                file.message_type.iter().for_each(|message| protocol.add(&package, message));
                for service in &file.service {
                    for method in &service.method {
                        let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                        let types = (method.input_type().to_owned(), method.output_type().to_owned());
                        protocol.calls.insert(path, types);
                    }
                }
            }
            protocol
        }

        fn add(&mut self, scope: &str, message: &DescriptorProto) {
            let name = format!("{scope}.{}", message.name());
            message.nested_type.iter().for_each(|nested| self.add(&name, nested));
            self.messages.insert(name, message.clone());
        }

        /// All messages inside of one, itself included.
        fn inside(&self, name: &str, seen: &mut BTreeSet<String>) {
            let Some(message) = self.messages.get(name) else { return };
            if seen.insert(name.to_owned()) {
                message.field.iter().for_each(|field| self.inside(field.type_name(), seen));
            }
        }

        fn has_field(&self, name: &str, field: &str) -> bool {
            let mut inside = BTreeSet::new();
            self.inside(name, &mut inside);
            inside.iter().any(|name| self.messages[name].field.iter().any(|it| it.name() == field))
        }
    }

    #[test]
    fn every_call_has_one_rule_and_every_rule_a_call() {
        let calls = Protocol::read().calls;
        assert!(calls.len() >= 20, "{calls:?}");
        let paths: BTreeSet<&str> = RULES.iter().map(|rule| rule.path).collect();
        assert_eq!(paths.len(), RULES.len(), "a call has two rules");
        let without: Vec<&String> = calls.keys().filter(|path| !paths.contains(path.as_str())).collect();
        assert!(without.is_empty(), "add rules to RULES for {without:?}");
        let gone: Vec<&&str> = paths.iter().filter(|path| !calls.contains_key(**path)).collect();
        assert!(gone.is_empty(), "there are no calls {gone:?}");
    }

    #[test]
    fn what_names_a_database_is_about_one() {
        let protocol = Protocol::read();
        for (path, (request, answer)) in &protocol.calls {
            let rule = rule_of(path).unwrap();
            if rule.need == Need::Node {
                assert_eq!(rule.about, About::Nothing, "{path}: nodes hold all of them");
                continue;
            }
            assert_eq!(rule.about == About::Database, protocol.has_field(request, "database"), "{path}");
            let mut inside = BTreeSet::new();
            protocol.inside(answer, &mut inside);
            let lists = inside.contains(".seawall.v1.DatabaseStatus");
            assert_eq!(rule.about == About::Databases, lists, "{path}");
        }
    }

    #[test]
    fn only_nodes_call_what_is_for_nodes() {
        for rule in RULES {
            assert_eq!(rule.path.starts_with("/seawall.v1.Peer/"), rule.need == Need::Node, "{}", rule.path);
        }
    }

    #[test]
    fn actions_are_read_as_they_are_written() {
        for action in Action::ALL {
            assert_eq!(action.to_string().parse(), Ok(action));
        }
        for text in ["", "Write", "read", "write "] {
            assert!(text.parse::<Action>().is_err(), "{text}");
        }
    }
}
