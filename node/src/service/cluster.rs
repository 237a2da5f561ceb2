//! The service behind `seawall status` and `seawall databases`: the cluster as this node, and whoever it reaches, sees it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use seawall_host::net::{Address, Channel, ChannelOptions};
use seawall_host::time;
use seawall_proto::database_name::DatabaseName;
use seawall_proto::v1;
use seawall_proto::v1::cluster_client::ClusterClient;
use tonic::{Request, Response, Status};

use crate::replica::Replica;

/// How long another node may take to say how it stands.
const PEER_TIMEOUT: Duration = Duration::from_secs(2);

/// What the service asks of the rest of its node.
pub trait NodeState: Send + Sync + 'static {
    /// `leader`, `follower`, `learner` or `candidate`.
    fn role(&self) -> &'static str;
    /// The current term.
    fn term(&self) -> u64;
    /// Index of the last log entry applied.
    fn applied(&self) -> u64;
    /// Whether the agent that claimed a database is connected to this node.
    fn agent_connected(&self, database: &DatabaseName) -> bool;
    /// How a database's destinations stand; empty if this node does not lead.
    fn destinations(&self, database: &DatabaseName) -> Vec<v1::DestinationStatus>;
}

/// The cluster as its configuration describes it, and who of it this node is.
#[derive(Clone, Debug)]
pub struct ClusterLayout {
    /// The cluster's name.
    pub name: String,
    /// This node's id.
    pub own: u64,
    /// Every node with its address.
    pub members: Vec<(u64, Address)>,
}

/// The status service of a node.
pub struct ClusterService {
    layout: ClusterLayout,
    replica: Replica,
    state: Arc<dyn NodeState>,
    peers: Vec<(u64, Channel)>,
}

impl ClusterService {
    /// The service, ready to be added to a server's routes.
    pub fn new(
        layout: ClusterLayout,
        replica: Replica,
        state: Arc<dyn NodeState>,
    ) -> v1::cluster_server::ClusterServer<Self> {
        let others = layout.members.iter().filter(|(id, _)| *id != layout.own);
        let options = ChannelOptions { connect_timeout: PEER_TIMEOUT, ..ChannelOptions::default() };
        let peers = others.map(|(id, address)| (*id, Channel::new(address, options))).collect();
        v1::cluster_server::ClusterServer::new(Self { layout, replica, state, peers })
    }

    /// How this node stands, and what it knows of the rest.
    fn own_view(&self) -> v1::GetStatusResponse {
        let leadership = self.replica.leadership();
        let leader = self.layout.members.iter().find(|(id, address)| {
            if leadership.is_leader {
                *id == self.layout.own
            } else {
                leadership.leader_address.as_deref() == Some(address.to_string().as_str())
            }
        });
        let nodes = self.layout.members.iter().filter(|(id, _)| *id == self.layout.own);
        let nodes = nodes.map(|(id, address)| v1::NodeStatus {
            id: *id,
            address: address.to_string(),
            role: self.state.role().to_owned(),
            term: self.state.term(),
            applied: self.state.applied(),
            reachable: true,
        });
        let databases = self.replica.databases().into_iter().filter_map(|name| {
            let view = self.replica.database(&name)?;
            let mut destinations = self.state.destinations(&name);
            if destinations.is_empty() {
                destinations = view.destinations.values().map(from_progress(&view.head)).collect();
            }
            Some(v1::DatabaseStatus {
                name: name.to_string(),
                head: Some(view.head),
                epoch: view.epoch.0,
                agent: if self.state.agent_connected(&name) { view.agent_label } else { String::new() },
                destinations,
            })
        });
        v1::GetStatusResponse {
            cluster: self.layout.name.clone(),
            leader: leader.map_or(0, |(id, _)| *id),
            nodes: nodes.collect(),
            databases: databases.collect(),
            problem: String::new(),
        }
    }
}

/// What the log alone tells of a destination.
fn from_progress(head: &v1::Head) -> impl Fn(&v1::DestinationProgress) -> v1::DestinationStatus {
    let (lineage, txid) = (head.lineage, head.txid);
    move |progress| {
        let watermark = if progress.lineage == lineage { progress.watermark } else { 0 };
        v1::DestinationStatus {
            name: progress.destination.clone(),
            state: if watermark >= txid { "healthy" } else { "lagging" }.to_owned(),
            watermark,
            lag_txids: txid.saturating_sub(watermark),
            lag_seconds: 0.0,
            last_error: String::new(),
        }
    }
}

/// Puts the answers of the other nodes (`None`: none came) beside this node's own view.
fn merge(
    layout: &ClusterLayout,
    mut own: v1::GetStatusResponse,
    answers: Vec<(u64, Option<v1::GetStatusResponse>)>,
) -> v1::GetStatusResponse {
    let newest = |own: &v1::GetStatusResponse| own.nodes.iter().map(|node| node.term).max().unwrap_or_default();
    for (id, answer) in &answers {
        let found = answer.as_ref().and_then(|answer| answer.nodes.iter().find(|node| node.id == *id));
        let address = layout.members.iter().find(|(member, _)| member == id);
        let address = address.map(|(_, address)| address.to_string()).unwrap_or_default();
        own.nodes.push(match found {
            Some(node) => v1::NodeStatus { address, reachable: true, ..node.clone() },
            None => {
                let role = "unreachable".to_owned();
                v1::NodeStatus { id: *id, address, role, reachable: false, ..Default::default() }
            }
        });
    }
    own.nodes.sort_by_key(|node| node.id);
    // Who leads in the newest term anyone knows; an older leader that was cut off may still think it does.
    let term = newest(&own);
    let leader = own.nodes.iter().find(|node| node.role == "leader" && node.term == term).map(|node| node.id);
    let reachable = own.nodes.iter().filter(|node| node.reachable).count();
    let needed = layout.members.len() / 2 + 1;
    own.leader = leader.unwrap_or_default();
    if let Some(leader) = leader
        && leader != layout.own
        && let Some((_, Some(answer))) = answers.into_iter().find(|(id, _)| *id == leader)
    {
        own.databases = answer.databases;
    }
    let lost: Vec<String> = own.nodes.iter().filter(|node| !node.reachable).map(|node| node.id.to_string()).collect();
    own.problem = if reachable < needed {
        format!(
            "no majority: {reachable} of {} nodes answer and {needed} are needed, so nothing is acknowledged; \
             bring back node {}",
            layout.members.len(),
            lost.join(" or ")
        )
    } else if leader.is_none() {
        "no leader: an election is under way; nothing is acknowledged until it is over".to_owned()
    } else {
        String::new()
    };
    own
}

#[tonic::async_trait]
impl v1::cluster_server::Cluster for ClusterService {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let own = self.own_view();
        if request.into_inner().local_only {
            return Ok(Response::new(own));
        }
        let asked = self.peers.iter().map(|(id, channel)| async move {
            let mut client = ClusterClient::new(channel.clone());
            let request = v1::GetStatusRequest { local_only: true };
            let answer = time::timeout(PEER_TIMEOUT, client.get_status(request)).await;
            (*id, answer.ok().and_then(Result::ok).map(Response::into_inner))
        });
        let answers = join_all(asked).await;
        Ok(Response::new(merge(&self.layout, own, answers)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> ClusterLayout {
        let members = (1..=3).map(|id| (id, format!("127.0.0.1:740{id}").parse().unwrap())).collect();
        ClusterLayout { name: "prod".to_owned(), own: 1, members }
    }

    fn view(id: u64, role: &str, term: u64, database: &str) -> v1::GetStatusResponse {
        let node =
            v1::NodeStatus { id, role: role.to_owned(), term, applied: 9, reachable: true, ..Default::default() };
        let database = v1::DatabaseStatus { name: database.to_owned(), ..Default::default() };
        v1::GetStatusResponse { nodes: vec![node], databases: vec![database], ..Default::default() }
    }

    #[test]
    fn shows_every_node_and_the_leaders_databases() {
        let answers = vec![(3, Some(view(3, "leader", 4, "of leader"))), (2, None)];
        let merged = merge(&layout(), view(1, "follower", 4, "own"), answers);
        assert_eq!((merged.leader, merged.problem.as_str()), (3, ""));
        assert_eq!(merged.databases[0].name, "of leader");
        let nodes: Vec<_> = merged.nodes.iter().map(|node| (node.id, node.role.as_str(), node.reachable)).collect();
        assert_eq!(nodes, [(1, "follower", true), (2, "unreachable", false), (3, "leader", true)]);
        assert_eq!(merged.nodes[1].address, "127.0.0.1:7402");
    }

    #[test]
    fn says_why_nothing_is_acknowledged() {
        let alone = merge(&layout(), view(1, "candidate", 7, "own"), vec![(2, None), (3, None)]);
        assert_eq!(alone.leader, 0);
        assert!(alone.problem.contains("1 of 3 nodes answer and 2 are needed"), "{}", alone.problem);
        assert!(alone.problem.contains("node 2 or 3"), "{}", alone.problem);
        assert_eq!(alone.databases[0].name, "own");
        let electing = vec![(2, Some(view(2, "candidate", 7, "x"))), (3, None)];
        let electing = merge(&layout(), view(1, "follower", 7, "own"), electing);
        assert!(electing.problem.contains("no leader"), "{}", electing.problem);
    }

    #[test]
    fn a_leader_of_an_older_term_does_not_count() {
        let answers = vec![(2, Some(view(2, "leader", 5, "new"))), (3, Some(view(3, "follower", 5, "x")))];
        let merged = merge(&layout(), view(1, "leader", 4, "old"), answers);
        assert_eq!((merged.leader, merged.databases[0].name.as_str()), (2, "new"));
    }
}
