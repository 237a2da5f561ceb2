//! What a node says of its own place among the members: that it was removed, or that its configuration lists others.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use seawall_host::{disk, random, time};
use seawall_proto::v1;
use tonic::{Code, Status};

use super::identity::Identity;
use super::live_state::LiveState;
use super::network::{Network, Purpose};
use super::{ConfiguredNode, Raft};
use crate::membership::{Listed, Member, differences};

/// Where it is noted that the node of a data directory was removed.
const REMOVED_FILE: &str = "removed";
/// How often the list and the members are compared. What differs twice in a row is told: nodes that are about to be added
/// are on the list before they answer.
const COMPARE_EVERY: Duration = Duration::from_secs(30);
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// What a member says to one that was removed, beside the code: proxies and other servers refuse by the same code, and none of
/// them knows the cluster's uuid and the node's Raft id.
pub(super) fn removal_notice(identity: &Identity, removed: u64) -> Bytes {
    let cluster = identity.cluster().unwrap_or_default();
    Bytes::from([b"removed".as_slice(), &cluster, &removed.to_le_bytes()].concat())
}

/// Whether a member says with this that this node was removed from the cluster.
pub(super) fn says_removed(identity: &Identity, status: &Status) -> bool {
    status.code() == Code::PermissionDenied && status.details() == removal_notice(identity, identity.raft_id())
}

/// Whether the node of a data directory was removed from its cluster.
pub(super) async fn was_removed(data_dir: &Path) -> std::io::Result<bool> {
    disk::exists(&data_dir.join(REMOVED_FILE)).await
}

/// Once a voter has said that this node was removed, it stands for no election any more, and never again with this data
/// directory.
pub(super) async fn retire_when_removed(raft: Raft, identity: Arc<Identity>, live: Arc<LiveState>, data_dir: PathBuf) {
    let mut seen = 0;
    while !live.lock().removed {
        seen = live.changed(seen).await;
    }
    raft.runtime_config().elect(false);
    let node = identity.configured_id();
    let note = Bytes::from(format!("node {node} was removed from the cluster {}\n", identity.name()));
    if let Err(error) = disk::replace_file(&data_dir.join(REMOVED_FILE), note).await {
        tracing::warn!(%error, "cannot note in the data directory that the node was removed");
    }
}

/// Tells where the configuration's list and the members differ.
pub(super) async fn compare_listing(
    identity: Arc<Identity>,
    live: Arc<LiveState>,
    network: Network,
    listed: Vec<ConfiguredNode>,
) {
    let listed: Vec<Listed> = listed.into_iter().map(|node| Listed { id: node.id, address: node.address }).collect();
    let (mut last, mut told) = (Vec::new(), Vec::new());
    loop {
        time::sleep(random::jitter(COMPARE_EVERY)).await;
        let members: Vec<Member> = {
            let inner = live.lock();
            let member = |(raft_id, member): (&u64, &super::types::Member)| Member {
                raft_id: *raft_id,
                id: member.configured_id,
                address: member.address.clone(),
            };
            inner.membership.nodes().map(member).collect()
        };
        if members.iter().all(|member| member.raft_id != identity.raft_id()) {
            continue;
        }
        let mut joining = Vec::new();
        for one in listed.iter().filter(|one| members.iter().all(|member| member.id != one.id)) {
            let mut peer = network.peer(&one.address, Purpose::Control);
            let asking = peer.identify(v1::IdentifyRequest { cluster: identity.name().to_owned() });
            if let Ok(Ok(answer)) = time::timeout(ANSWER_LIMIT, asking).await
                && answer.into_inner().configured_id == one.id
            {
                joining.push(one.id);
            }
        }
        let differ = differences(identity.configured_id(), &listed, &members, &joining);
        for one in differ.iter().filter(|one| last.contains(*one) && !told.contains(*one)) {
            tracing::warn!("{one}");
        }
        told = differ.iter().filter(|one| last.contains(*one)).cloned().collect();
        last = differ;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::log;

    #[test]
    fn only_a_member_of_the_cluster_can_say_that_a_node_was_removed() {
        let identity = |cluster, raft_id| Identity::new("prod".to_owned(), 3, &log::Identity { cluster, raft_id });
        let (own, member) = (identity([7; 16], 300), identity([7; 16], 100));
        let refusal = |notice| Status::with_details(Code::PermissionDenied, "removed", notice);
        assert!(says_removed(&own, &refusal(removal_notice(&member, 300))));
        assert!(!says_removed(&own, &refusal(removal_notice(&member, 200))));
        assert!(!says_removed(&own, &refusal(removal_notice(&identity([8; 16], 100), 300))));
        // A proxy's.
        assert!(!says_removed(&own, &Status::permission_denied("RBAC: access denied")));
    }
}
