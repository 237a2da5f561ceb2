//! The names that certificates carry: `seawall://CLUSTER/node/ID` for nodes, `seawall://CLUSTER/agent/NAME` and
//! `seawall://CLUSTER/client/NAME` for the others, which give no rights by themselves.

use std::fmt::Write;

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A node of the cluster.
    Node,
    /// An agent.
    Agent,
    /// People and their tools.
    Client,
}

impl Role {
    /// As it stands in the name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Agent => "agent",
            Self::Client => "client",
        }
    }
}

/// The name of somebody of a cluster, as a URI.
pub fn uri(cluster: &str, role: Role, name: &str) -> String {
    format!("{}{}", prefix(cluster, role), encode(name))
}

fn prefix(cluster: &str, role: Role) -> String {
    format!("seawall://{}/{}/", encode(cluster), role.as_str())
}

/// Whatever is no letter, digit, `-`, `.`, `_` or `~` as `%` and its number.
fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// Tells the names of a cluster's nodes.
#[derive(Clone, Debug)]
pub(super) struct NodeNames {
    prefix: String,
}

impl NodeNames {
    pub(super) fn new(cluster: &str) -> Self {
        Self { prefix: prefix(cluster, Role::Node) }
    }

    /// Whether `uri` is the name of one.
    pub(super) fn has(&self, uri: &str) -> bool {
        uri.strip_prefix(&self.prefix).is_some_and(|id| !id.is_empty() && !id.contains('/'))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_nodes_of_the_cluster_are_nodes() {
        let nodes = NodeNames::new("prod");
        assert!(nodes.has("seawall://prod/node/1"));
        for uri in [
            "seawall://prod/node/",
            "seawall://prod/node/1/2",
            "seawall://prod/agent/1",
            "seawall://prod/client/node/1",
            "seawall://PROD/node/1",
            "seawall://prod2/node/1",
            "http://prod/node/1",
            "",
        ] {
            assert!(!nodes.has(uri), "{uri}");
        }
    }

    #[test]
    fn odd_names_are_encoded() {
        assert_eq!(uri("a b/ä", Role::Agent, "tenants/*"), "seawall://a%20b%2F%C3%A4/agent/tenants%2F%2A");
    }

    proptest! {
        #[test]
        fn no_cluster_takes_anothers_nodes_for_its_own(a in "\\PC{1,20}", b in "\\PC{1,20}", id in 1_u64..100) {
            let node = uri(&a, Role::Node, &id.to_string());
            prop_assert!(node.is_ascii());
            prop_assert_eq!(NodeNames::new(&b).has(&node), a == b);
            prop_assert!(!NodeNames::new(&a).has(&uri(&a, Role::Agent, &b)));
            prop_assert!(!NodeNames::new(&a).has(&uri(&a, Role::Client, &b)));
        }
    }
}
