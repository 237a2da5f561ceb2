//! How a cluster begins: nodes with empty directories and the same list form it once all of them answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use seawall_host::{random, time};
use seawall_proto::v1;

use super::identity::Identity;
use super::live_state::LiveState;
use super::network::{Network, Purpose};
use super::types::Member;
use super::{ConfiguredNode, Raft};

const ASK_EVERY: Duration = Duration::from_millis(400);
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// What an empty node does next.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// Begin the cluster with these members.
    Begin(BTreeMap<u64, Member>),
    /// Nothing yet; why, in words.
    Wait(String),
}

/// Brings an empty node into its cluster, and returns once it is a member.
pub(super) async fn run(
    raft: Raft,
    identity: Arc<Identity>,
    live: Arc<LiveState>,
    network: Network,
    nodes: Vec<ConfiguredNode>,
) {
    while is_empty(&live) {
        let answers = ask_all(&identity, &network, &nodes).await;
        match decide(&identity, &nodes, &answers) {
            Decision::Wait(problem) => live.set_problem(Some(problem)),
            Decision::Begin(members) => {
                live.set_problem(begin(&raft, &identity, &live, &network, members).await.err());
            }
        }
        time::sleep(random::jitter(ASK_EVERY)).await;
    }
    live.set_problem(None);
}

/// Whether nothing was ever voted or logged here.
pub(super) fn is_empty(live: &LiveState) -> bool {
    let state = live.log.state();
    state.vote.is_none() && state.last.is_none()
}

async fn ask_all(
    identity: &Identity,
    network: &Network,
    nodes: &[ConfiguredNode],
) -> BTreeMap<u64, Result<v1::IdentifyResponse, String>> {
    let others = nodes.iter().filter(|node| node.id != identity.configured_id());
    let answers = others.map(|node| async move {
        let mut peer = network.peer(&node.address, Purpose::Control);
        let asking = peer.identify(v1::IdentifyRequest { cluster: identity.name().to_owned() });
        let answer = match time::timeout(ANSWER_LIMIT, asking).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(status.message().to_owned()),
            Err(_elapsed) => Err("no answer".to_owned()),
        };
        (node.id, answer)
    });
    futures::future::join_all(answers).await.into_iter().collect()
}

fn decide(
    identity: &Identity,
    nodes: &[ConfiguredNode],
    answers: &BTreeMap<u64, Result<v1::IdentifyResponse, String>>,
) -> Decision {
    let own = identity.configured_id();
    let listed: BTreeMap<u64, &str> = nodes.iter().map(|node| (node.id, node.address.as_str())).collect();
    let member = |raft_id: u64, id: u64| {
        let address = listed.get(&id).map(|address| (*address).to_owned()).unwrap_or_default();
        (raft_id, Member { configured_id: id, address })
    };
    let mut members = BTreeMap::from([member(identity.raft_id(), own)]);
    let mut missing = Vec::new();
    for (&id, answer) in answers {
        let answer = match answer {
            Ok(answer) => answer,
            Err(cause) => {
                missing.push(format!("node {id} ({cause})"));
                continue;
            }
        };
        if answer.configured_id != id || answer.raft_id == identity.raft_id() {
            return Decision::Wait(format!(
                "the address of node {id} is answered by node {}: mend the list of nodes",
                answer.configured_id
            ));
        }
        if !answer.empty {
            let address = listed.get(&own).copied().unwrap_or("ADDRESS");
            let here = answer.members.iter().find(|member| member.configured_id == own);
            return Decision::Wait(match here {
                Some(member) if member.raft_id == identity.raft_id() => "waiting for the leader".to_owned(),
                Some(_) => format!(
                    "this data directory is empty, but the cluster knows node {own} with another one: bring that \
                     directory back, or have this one take its place (`seawall cluster replace-node {own} --with {own} \
                     {address}`)"
                ),
                // It has begun to be a member itself.
                None if answer.members.is_empty() => "waiting for the leader".to_owned(),
                None => format!(
                    "the cluster has begun without node {own}: add it (`seawall cluster add-node {own} {address}`)"
                ),
            });
        }
        let theirs: BTreeMap<u64, &str> =
            answer.members.iter().map(|member| (member.configured_id, member.address.as_str())).collect();
        if theirs != listed {
            return Decision::Wait(format!("node {id} has another list of nodes: make the lists equal"));
        }
        members.extend([member(answer.raft_id, id)]);
    }
    if !missing.is_empty() {
        return Decision::Wait(format!(
            "the cluster begins when all its nodes answer: waiting for {}",
            missing.join(", ")
        ));
    }
    match listed.keys().next() {
        Some(&lowest) if lowest != own => Decision::Wait(format!("waiting for node {lowest} to begin the cluster")),
        _ => Decision::Begin(members),
    }
}

/// Gives every member the cluster's uuid, then starts consensus. Nothing happens unless all of them take it.
async fn begin(
    raft: &Raft,
    identity: &Identity,
    live: &LiveState,
    network: &Network,
    members: BTreeMap<u64, Member>,
) -> Result<(), String> {
    let cluster = match identity.cluster() {
        Some(cluster) => cluster,
        None => {
            let mut cluster = [0; 16];
            random::fill(&mut cluster);
            live.log.save_cluster(cluster).await.map_err(|error| error.to_string())?;
            identity.join(cluster);
            cluster
        }
    };
    for (&raft_id, member) in members.iter().filter(|(raft_id, _)| **raft_id != identity.raft_id()) {
        let request = v1::AdoptRequest {
            cluster: identity.name().to_owned(),
            cluster_uuid: cluster.to_vec().into(),
            target: raft_id,
        };
        let mut peer = network.peer(&member.address, Purpose::Control);
        let adopted = time::timeout(ANSWER_LIMIT, peer.adopt(request)).await;
        adopted
            .map_err(|elapsed| elapsed.to_string())
            .and_then(|answer| answer.map_err(|status| status.message().to_owned()))
            .map_err(|cause| format!("{member} does not join: {cause}"))?;
    }
    tracing::info!(nodes = members.len(), "the cluster begins");
    raft.initialize(members).await.map_err(|error| format!("the cluster cannot begin: {error}"))
}

#[cfg(test)]
#[path = "bootstrap_tests.rs"]
mod tests;
