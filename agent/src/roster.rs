//! Where the nodes of the cluster are: what the configuration lists, and what the cluster has said since.

use std::sync::{Arc, Mutex, PoisonError};

use seawall_host::net::Address;

/// More than so many nodes are not believed.
const MOST_NODES: usize = 100;

/// The nodes that an agent may ask. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Roster {
    listed: Arc<[Address]>,
    /// The members, as the cluster said last; none before it has.
    members: Arc<Mutex<Vec<Address>>>,
}

impl Roster {
    /// The nodes of the configuration.
    pub(crate) fn new(listed: Vec<Address>) -> Self {
        Self { listed: listed.into(), members: Arc::default() }
    }

    /// Whom to ask, in this order: members on the list, other members, and whoever else is on the list.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, others): (Vec<_>, Vec<_>) =
            self.listed.iter().cloned().partition(|listed| members.is_empty() || members.contains(listed));
        let new = members.iter().filter(|member| !self.listed.contains(member)).cloned();
        known.into_iter().chain(new).chain(others).collect()
    }

    /// The cluster says where its members are; nothing where it says nothing.
    pub(crate) fn hear(&self, nodes: &[String]) {
        let said: Vec<Address> = nodes.iter().take(MOST_NODES).filter_map(|node| node.parse().ok()).collect();
        if said.is_empty() {
            return;
        }
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        if *members == said {
            return;
        }
        let shown = |nodes: Vec<&Address>| nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let unlisted = shown(said.iter().filter(|node| !self.listed.contains(node)).collect());
        let gone = shown(self.listed.iter().filter(|node| !said.contains(node)).collect());
        if !unlisted.is_empty() || !gone.is_empty() {
            tracing::info!(
                unlisted,
                gone,
                "the cluster has other nodes than are listed here: they are followed; mend the list before the next start"
            );
        }
        *members = said;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(address: &str) -> Address {
        address.parse().unwrap()
    }

    fn addresses(roster: &Roster) -> Vec<String> {
        roster.addresses().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn members_are_asked_first_and_nobody_is_forgotten() {
        let roster = Roster::new(vec![parse("a:1"), parse("b:1"), parse("c:1")]);
        assert_eq!(addresses(&roster), ["a:1", "b:1", "c:1"]);
        roster.hear(&["b:1".to_owned(), "d:1".to_owned(), "c:1".to_owned(), "nonsense".to_owned()]);
        assert_eq!(addresses(&roster), ["b:1", "c:1", "d:1", "a:1"]);
        roster.clone().hear(&[]);
        assert_eq!(addresses(&roster), ["b:1", "c:1", "d:1", "a:1"]);
        roster.hear(&["d:1".to_owned()]);
        assert_eq!(addresses(&roster), ["d:1", "a:1", "b:1", "c:1"]);
    }
}
