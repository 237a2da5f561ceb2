//! Who this node is among the others.

use std::sync::{Mutex, PoisonError};

use seawall_host::probe::{mutant, sometimes};
use seawall_proto::v1;
use tonic::Status;

use crate::store::log;

/// A node's identity: born with its data directory, completed when it becomes a member of a cluster.
#[derive(Debug)]
pub(super) struct Identity {
    name: String,
    raft_id: u64,
    configured_id: u64,
    cluster: Mutex<[u8; 16]>,
}

impl Identity {
    /// The identity that a log file holds, under the cluster's name and the id that the configuration gives.
    pub(super) fn new(name: String, configured_id: u64, stored: &log::Identity) -> Self {
        Self { name, raft_id: stored.raft_id, configured_id, cluster: Mutex::new(stored.cluster) }
    }

    /// The cluster's configured name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The random id that consensus knows this node by.
    pub(super) fn raft_id(&self) -> u64 {
        self.raft_id
    }

    /// The id that the configuration gives.
    pub(super) fn configured_id(&self) -> u64 {
        self.configured_id
    }

    /// The cluster's uuid, if this node belongs to one.
    pub(super) fn cluster(&self) -> Option<[u8; 16]> {
        let cluster = *self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        (cluster != [0; 16]).then_some(cluster)
    }

    /// Makes this node known as a member of `cluster`; the log file must hold it already.
    pub(super) fn join(&self, cluster: [u8; 16]) {
        *self.cluster.lock().unwrap_or_else(PoisonError::into_inner) = cluster;
    }

    /// What a request to the node `target` begins with.
    pub(super) fn envelope(&self, target: u64) -> v1::Envelope {
        let cluster_uuid = self.cluster().map(|cluster| cluster.to_vec()).unwrap_or_default().into();
        v1::Envelope { cluster_uuid, sender: self.raft_id, target }
    }

    /// Refuses what is meant for another cluster, or for who this node was before its directory was wiped.
    pub(super) fn check(&self, envelope: Option<&v1::Envelope>) -> Result<(), Status> {
        let Some(envelope) = envelope else {
            return Err(Status::invalid_argument("the request does not say whom it is for"));
        };
        let node = self.configured_id;
        if mutant("identity-not-checked") {
            return Ok(());
        }
        let Some(cluster) = self.cluster() else {
            sometimes("message to an emptied node refused");
            let message = format!("node {node} has an empty data directory and belongs to no cluster");
            return Err(Status::failed_precondition(message));
        };
        if envelope.cluster_uuid[..] != cluster {
            return Err(Status::failed_precondition(format!("node {node} belongs to another cluster")));
        }
        if envelope.target != self.raft_id {
            let message = format!("node {node} has another data directory than the one this is meant for");
            return Err(Status::failed_precondition(message));
        }
        Ok(())
    }
}
