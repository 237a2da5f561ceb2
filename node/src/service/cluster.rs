//! The service behind `seawall status`, `seawall databases` and `seawall cluster`: the cluster as this node, and whoever it
//! reaches, sees it; and changes of its membership.

mod operations;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use seawall_host::net::{Channel, ChannelOptions};
use seawall_host::time;
use seawall_proto::v1::cluster_client::ClusterClient;
use seawall_proto::{MAX_MESSAGE_BYTES, v1};
use tonic::{Request, Response, Status};

use self::operations::Operations;
use crate::fanout::{FanoutHandle, LaneState, LaneStatus};
use crate::membership::majority;
use crate::replica::{ClusterView, Replica, Role};
use crate::service::admission::Admission;
use crate::service::ingest::Receipts;

/// How long another node may take to say how it stands.
const PEER_TIMEOUT: Duration = Duration::from_secs(2);

/// Every node of the cluster with its address, who of them votes, and which of them this is.
#[derive(Clone, Debug)]
struct Layout {
    own: u64,
    members: Vec<(u64, String)>,
    voters: Vec<u64>,
}

impl Layout {
    fn of(cluster: &ClusterView) -> Self {
        let members = cluster.members.iter().map(|member| (member.id, member.address.clone())).collect();
        let mut voters: Vec<u64> =
            cluster.members.iter().filter(|member| member.is_voter).map(|member| member.id).collect();
        if voters.is_empty() {
            // The cluster has not begun: all that are listed will vote.
            voters = cluster.members.iter().map(|member| member.id).collect();
        }
        Self { own: cluster.id, members, voters }
    }
}

/// The status service of a node.
pub struct ClusterService {
    replica: Replica,
    fanout: FanoutHandle,
    admission: Arc<Admission>,
    operations: Operations,
    /// Channels to other nodes by address.
    channels: Mutex<BTreeMap<String, Channel>>,
}

impl ClusterService {
    /// The service, ready to be added to a server's routes.
    pub fn new(
        replica: Replica,
        fanout: FanoutHandle,
        admission: Arc<Admission>,
    ) -> v1::cluster_server::ClusterServer<Self> {
        let operations = Operations::new(replica.clone(), fanout.destinations());
        let service = Self { replica, fanout, admission, operations, channels: Mutex::default() };
        v1::cluster_server::ClusterServer::new(service).max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn channel(&self, address: &str) -> Option<Channel> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Some(channel.clone());
        }
        let options = ChannelOptions { connect_timeout: PEER_TIMEOUT, ..ChannelOptions::default() };
        let channel = Channel::new(&address.parse().ok()?, options);
        channels.insert(address.to_owned(), channel.clone());
        Some(channel)
    }

    /// How this node stands, and what it knows of the rest.
    fn own_view(&self, cluster: &ClusterView) -> v1::GetStatusResponse {
        let own = cluster.members.iter().find(|member| member.is_self);
        let space = self.replica.space().own.said;
        let node = v1::NodeStatus {
            id: cluster.id,
            address: own.map(|member| member.address.clone()).unwrap_or_default(),
            role: cluster.role.as_str().to_owned(),
            term: cluster.term,
            applied: cluster.applied,
            reachable: true,
            disk_free: space.free,
            disk_reserve: space.reserve,
        };
        let refused = self.admission.refuses().filter(|_| cluster.role == Role::Leader);
        let refused = refused.map(|refused| format!("appends are refused: {refused}"));
        let configured = self.fanout.destinations();
        let lanes = self.fanout.status();
        let databases = self.replica.databases().into_iter().filter_map(|name| {
            let view = self.replica.database(&name)?;
            let mut destinations: Vec<v1::DestinationStatus> =
                lanes.iter().filter(|lane| lane.database == name).map(from_lane).collect();
            if destinations.is_empty() {
                let known = view.destinations.values().filter(|known| configured.contains(&known.destination));
                destinations = known.map(from_progress(&view.head)).collect();
            }
            for destination in &mut destinations {
                destination.verification = view.verifications.get(&destination.name).cloned();
            }
            Some(v1::DatabaseStatus {
                name: name.to_string(),
                head: Some(view.head),
                epoch: view.epoch.0,
                agent: view.agent_label,
                destinations,
            })
        });
        v1::GetStatusResponse {
            cluster: cluster.name.clone(),
            leader: cluster.leader.unwrap_or_default(),
            nodes: vec![node],
            databases: databases.collect(),
            problem: cluster.problem.clone().or(refused).unwrap_or_default(),
        }
    }
}

/// What the leader knows of a destination.
fn from_lane(lane: &LaneStatus) -> v1::DestinationStatus {
    v1::DestinationStatus {
        name: lane.destination.clone(),
        state: lane.state.as_str().to_owned(),
        watermark: lane.watermark.0,
        lag_txids: lane.lag_txids,
        lag_seconds: lane.lag_seconds,
        last_error: lane.last_error.clone().unwrap_or_default(),
        last_success_ms: lane.last_success.map_or(0, |at| at.0),
        backlog_bytes: lane.backlog_bytes,
        verification: None,
    }
}

/// What the log alone tells of a destination.
fn from_progress(head: &v1::Head) -> impl Fn(&v1::DestinationProgress) -> v1::DestinationStatus {
    let (lineage, txid) = (head.lineage, head.txid);
    move |progress| {
        let is_current = progress.lineage == lineage;
        let watermark = if is_current { progress.watermark } else { 0 };
        let state = match () {
            () if is_current && progress.detached => LaneState::Detached,
            () if watermark >= txid => LaneState::Healthy,
            () => LaneState::Lagging,
        };
        v1::DestinationStatus {
            name: progress.destination.clone(),
            state: state.as_str().to_owned(),
            watermark,
            lag_txids: txid.saturating_sub(watermark),
            ..Default::default()
        }
    }
}

/// Puts the answers of the other nodes (`None`: none came) beside this node's own view.
fn merge(
    layout: &Layout,
    mut own: v1::GetStatusResponse,
    answers: Vec<(u64, Option<v1::GetStatusResponse>)>,
) -> v1::GetStatusResponse {
    let newest = |own: &v1::GetStatusResponse| own.nodes.iter().map(|node| node.term).max().unwrap_or_default();
    for (id, answer) in &answers {
        let found = answer.as_ref().and_then(|answer| answer.nodes.iter().find(|node| node.id == *id));
        let address = layout.members.iter().find(|(member, _)| member == id);
        let address = address.map(|(_, address)| address.clone()).unwrap_or_default();
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
    let votes = |node: &&v1::NodeStatus| layout.voters.contains(&node.id);
    let reachable = own.nodes.iter().filter(votes).filter(|node| node.reachable).count();
    let needed = majority(layout.voters.len());
    // One that was left alone does not lead, whatever it takes itself for.
    let leader = leader.filter(|_| reachable >= needed);
    own.leader = leader.unwrap_or_default();
    // What a leader says of itself: it takes nothing in for want of room.
    let mut refused = std::mem::take(&mut own.problem);
    let unformed = if leader.is_none() { std::mem::take(&mut refused) } else { String::new() };
    if let Some(leader) = leader
        && leader != layout.own
        && let Some((_, Some(answer))) = answers.into_iter().find(|(id, _)| *id == leader)
    {
        own.databases = answer.databases;
        refused = answer.problem;
    }
    let lost = own.nodes.iter().filter(votes).filter(|node| !node.reachable);
    let lost: Vec<String> = lost.map(|node| node.id.to_string()).collect();
    own.problem = if reachable < needed {
        format!(
            "no majority: {reachable} of {} nodes answer and {needed} are needed, so nothing is acknowledged; \
             bring back node {}",
            layout.voters.len(),
            lost.join(" or ")
        )
    } else if !unformed.is_empty() {
        unformed
    } else if leader.is_none() {
        "no leader: an election is under way; nothing is acknowledged until it is over".to_owned()
    } else {
        refused
    };
    own
}

#[tonic::async_trait]
impl v1::cluster_server::Cluster for ClusterService {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let cluster = self.replica.cluster();
        let own = self.own_view(&cluster);
        if request.into_inner().local_only {
            return Ok(Response::new(own));
        }
        let others = cluster.members.iter().filter(|member| !member.is_self);
        let asked = others.map(|member| async move {
            let Some(channel) = self.channel(&member.address) else { return (member.id, None) };
            let mut client = ClusterClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
            let request = v1::GetStatusRequest { local_only: true };
            let answer = time::timeout(PEER_TIMEOUT, client.get_status(request)).await;
            (member.id, answer.ok().and_then(Result::ok).map(Response::into_inner))
        });
        let answers = join_all(asked).await;
        let mut status = merge(&Layout::of(&cluster), own, answers);
        // Who is no member sees the cluster as it was, or as it is listed.
        if let Some(problem) = cluster.problem.filter(|_| status.problem.is_empty()) {
            status.problem = problem;
        }
        Ok(Response::new(status))
    }

    async fn get_membership(
        &self,
        _request: Request<v1::GetMembershipRequest>,
    ) -> Result<Response<v1::GetMembershipResponse>, Status> {
        let outcome = self.operations.report().await;
        Ok(Response::new(v1::GetMembershipResponse { outcome: Some(outcome) }))
    }

    async fn change_membership(
        &self,
        request: Request<v1::ChangeMembershipRequest>,
    ) -> Result<Response<v1::ChangeMembershipResponse>, Status> {
        self.operations.change(request.into_inner()).await.map(Response::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        let members = (1..=3).map(|id| (id, format!("127.0.0.1:740{id}"))).collect();
        Layout { own: 1, members, voters: vec![1, 2, 3] }
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
        let left = merge(&layout(), view(1, "leader", 7, "own"), vec![(2, None), (3, None)]);
        assert_eq!((left.leader, left.problem), (0, alone.problem.clone()));
        assert!(alone.problem.contains("1 of 3 nodes answer and 2 are needed"), "{}", alone.problem);
        assert!(alone.problem.contains("node 2 or 3"), "{}", alone.problem);
        assert_eq!(alone.databases[0].name, "own");
        let electing = vec![(2, Some(view(2, "candidate", 7, "x"))), (3, None)];
        let electing = merge(&layout(), view(1, "follower", 7, "own"), electing);
        assert!(electing.problem.contains("no leader"), "{}", electing.problem);
    }

    #[test]
    fn nodes_without_a_vote_do_not_count_for_a_majority() {
        let mut layout = layout();
        layout.members.extend([(4, "127.0.0.1:7404".to_owned()), (5, "127.0.0.1:7405".to_owned())]);
        let merged = merge(
            &layout,
            view(1, "leader", 4, "own"),
            vec![(2, Some(view(2, "follower", 4, "x"))), (3, None), (4, None), (5, None)],
        );
        assert_eq!((merged.leader, merged.problem.as_str()), (1, ""));
        let learner = vec![(2, None), (3, None), (4, Some(view(4, "learner", 4, "x"))), (5, None)];
        let lost = merge(&layout, view(1, "leader", 4, "own"), learner);
        assert_eq!(lost.leader, 0);
        assert!(
            lost.problem.contains("1 of 3 nodes answer") && lost.problem.contains("node 2 or 3"),
            "{}",
            lost.problem
        );
    }

    #[test]
    fn says_that_the_leader_refuses_appends() {
        let full =
            |id| v1::GetStatusResponse { problem: "appends are refused".to_owned(), ..view(id, "leader", 4, "x") };
        let follower = view(2, "follower", 4, "x");
        let own = merge(&layout(), full(1), vec![(2, Some(follower.clone())), (3, None)]);
        assert_eq!(own.problem, "appends are refused");
        let other = merge(&layout(), view(1, "follower", 4, "x"), vec![(2, Some(follower)), (3, Some(full(3)))]);
        assert_eq!(other.problem, "appends are refused");
    }

    #[test]
    fn a_destination_that_is_detached_is_shown_so_by_every_node() {
        let head = v1::Head { lineage: 2, txid: 9, ..Default::default() };
        let known = v1::DestinationProgress { lineage: 2, watermark: 4, detached: true, ..Default::default() };
        let shown = from_progress(&head)(&known);
        assert_eq!((shown.state.as_str(), shown.watermark, shown.lag_txids), ("detached", 4, 5));
        let of_before = from_progress(&head)(&v1::DestinationProgress { lineage: 1, ..known.clone() });
        assert_eq!((of_before.state.as_str(), of_before.watermark), ("lagging", 0));
        let healthy = from_progress(&head)(&v1::DestinationProgress { watermark: 9, detached: false, ..known });
        assert_eq!(healthy.state, "healthy");
    }

    #[test]
    fn a_leader_of_an_older_term_does_not_count() {
        let answers = vec![(2, Some(view(2, "leader", 5, "new"))), (3, Some(view(3, "follower", 5, "x")))];
        let merged = merge(&layout(), view(1, "leader", 4, "old"), answers);
        assert_eq!((merged.leader, merged.databases[0].name.as_str()), (2, "new"));
    }
}
