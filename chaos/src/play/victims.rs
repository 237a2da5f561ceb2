//! Whom a fault strikes, at the moment when it does.

use rand::RngExt;
use rand::seq::IndexedRandom;

use super::Player;
use crate::scenario::Target;
use crate::service::Service;
use crate::stage::{Agent, Destination, Node};

/// Who is struck.
#[derive(Clone, Copy)]
pub(super) enum Victim<'a> {
    /// A node.
    Node(&'a Node),
    /// An agent, and the one that nobody needs.
    Agent(&'a Agent, &'a Agent),
    /// An application.
    Application(&'a Service),
    /// A destination.
    Destination(&'a Destination),
}

impl<'a> Victim<'a> {
    /// Its name in the history.
    pub(super) fn name(&self) -> &'a str {
        match self {
            Self::Destination(destination) => destination.name(),
            _ => self.service().map_or("", Service::name),
        }
    }

    /// Its program, if that is looked after.
    pub(super) fn service(&self) -> Option<&'a Service> {
        match self {
            Self::Node(node) => Some(&node.service),
            Self::Agent(agent, _) => Some(&agent.service),
            Self::Application(service) => Some(service),
            Self::Destination(_) => None,
        }
    }

    /// The name of its host.
    pub(super) fn host(&self) -> &'a str {
        match self {
            Self::Destination(destination) => destination.name(),
            _ => self.service().map_or("", |service| service.host().name()),
        }
    }

    /// Whether it is an agent beside which the other one runs.
    fn has_company(&self) -> bool {
        matches!(self, Self::Agent(_, second) if second.service.pid().is_some())
    }

    /// Whether no fault holds it.
    fn is_free(&self) -> bool {
        self.service().is_none_or(Service::is_free)
    }
}

impl<'a> Player<'a> {
    /// Who that is now. Nobody, if all that it could strike is held by other faults.
    pub(super) fn choose(&mut self, target: &Target) -> Vec<Victim<'a>> {
        let stage = self.stage;
        let nodes: Vec<_> = stage.nodes().iter().map(Victim::Node).collect();
        let agents: Vec<_> = stage
            .agents()
            .iter()
            .zip(stage.second_agents())
            .map(|(agent, second)| Victim::Agent(agent, second))
            .collect();
        let applications: Vec<_> = stage.applications().iter().map(Victim::Application).collect();
        let destinations: Vec<_> = stage.destinations().iter().map(Victim::Destination).collect();
        let free = |victims: Vec<Victim<'a>>| victims.into_iter().filter(Victim::is_free).collect::<Vec<_>>();
        match target {
            Target::Leader => self.leader_first(free(nodes)).into_iter().take(1).collect(),
            Target::Follower => {
                let followers = self.leader_first(nodes).into_iter().skip(1).collect();
                self.any(&free(followers))
            }
            Target::NextNode => {
                let next = nodes[self.next_node % nodes.len()];
                self.next_node += 1;
                free(vec![next])
            }
            Target::AnyNode => self.any(&free(nodes)),
            Target::Majority => {
                let majority = nodes.len() / 2 + 1;
                free(self.leader_first(nodes).into_iter().take(majority).collect())
            }
            Target::EveryNode => free(nodes),
            Target::AnyAgent => self.any(&free(agents)),
            Target::EveryAgent => free(agents),
            Target::AnyApplication => self.any(&free(applications)),
            Target::AnyApplicationHost => {
                let host = self.any(&agents).first().map_or("", Victim::host);
                let there = || agents.iter().chain(&applications).copied().filter(|victim| victim.host() == host);
                // What happens to a machine happens to all on it.
                if there().all(|victim| victim.is_free() && !victim.has_company()) {
                    there().collect()
                } else {
                    Vec::new()
                }
            }
            Target::AnyDestination => self.any(&destinations),
            Target::EveryDestination => destinations,
            Target::Named(name) => {
                let all = nodes.into_iter().chain(agents).chain(applications).chain(destinations);
                free(all.filter(|victim| victim.name() == name).collect())
            }
        }
    }

    fn any(&mut self, victims: &[Victim<'a>]) -> Vec<Victim<'a>> {
        victims.choose(&mut self.rng).copied().into_iter().collect()
    }

    /// The nodes, the one that leads before the others; those in an order of chance. Any comes first if nobody leads.
    fn leader_first(&mut self, mut nodes: Vec<Victim<'a>>) -> Vec<Victim<'a>> {
        let leader = self.stage.leader();
        let leads = |victim: &Victim<'_>| matches!(victim, Victim::Node(node) if leader == Some(u64::from(node.id())));
        if !nodes.is_empty() {
            let turn = self.rng.random_range(0..nodes.len());
            nodes.rotate_left(turn);
        }
        // Stable: false before true.
        nodes.sort_by_key(|victim| !leads(victim));
        nodes
    }
}
