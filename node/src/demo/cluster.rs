//! Nodes embedded in this process, each on a tokio runtime of its own: shutting a runtime down drops every task of its
//! node at once, as a crash would.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use seawall_host::net::Address;
use seawall_host::real::free_port;
use seawall_host::time;
use tokio::runtime::{Builder, Runtime};

use crate::config::{DiskConfig, MemberConfig, NodeConfig};
use crate::destination::{DestinationConfig, DestinationOptions, Retention, VerificationOptions, Windows};
use crate::node::{Node, NodeParts};
use crate::store::sled_kv::SledKv;

use super::run::DemoError;

struct Embedded {
    runtime: Runtime,
    node: Node,
}

/// The cluster of the demonstration.
pub(super) struct EmbeddedCluster {
    addresses: Vec<Address>,
    nodes: Vec<Option<Embedded>>,
}

impl EmbeddedCluster {
    /// Starts `size` nodes below `directory`, with a `file://` destination for each of `destinations`.
    pub(super) async fn start(directory: &Path, size: u64, destinations: &[PathBuf]) -> Result<Self, DemoError> {
        let addresses: Vec<Address> = (0..size).map(|_| Address::Tcp(format!("127.0.0.1:{}", free_port()))).collect();
        let members: Vec<MemberConfig> =
            (1..).zip(&addresses).map(|(id, address)| MemberConfig { id, address: address.clone() }).collect();
        let destinations: Vec<DestinationConfig> = destinations.iter().map(|path| destination(path)).collect();
        let mut starting = Vec::new();
        for member in &members {
            let config = NodeConfig {
                id: member.id,
                data_dir: directory.join(format!("node-{}", member.id)),
                listen: member.address.clone(),
                http: None,
                cluster_name: "demo".to_owned(),
                members: members.clone(),
                disk: DiskConfig::default(),
                destinations: destinations.clone(),
            };
            let name = format!("node-{}", member.id);
            let runtime = Builder::new_multi_thread().worker_threads(1).thread_name(name).enable_all().build()?;
            let parts = NodeParts::new(&config, SledKv::opener()).map_err(DemoError::Destination)?;
            let started = runtime.spawn(Node::start(config, parts));
            starting.push((runtime, started));
        }
        let mut nodes = Vec::new();
        for (runtime, started) in starting {
            match started.await.map_err(io::Error::other)? {
                Ok(node) => nodes.push(Some(Embedded { runtime, node })),
                Err(error) => {
                    runtime.shutdown_background();
                    return Err(DemoError::Node(error));
                }
            }
        }
        Ok(Self { addresses, nodes })
    }

    /// Where the nodes listen.
    pub(super) fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The addresses of the nodes that live.
    pub(super) fn survivors(&self) -> Vec<Address> {
        let living = self.addresses.iter().zip(&self.nodes).filter(|(_, node)| node.is_some());
        living.map(|(address, _)| address.clone()).collect()
    }

    fn leader(&self) -> Option<usize> {
        let leads = |node: &Option<Embedded>| node.as_ref().is_some_and(|it| it.node.replica().leadership().is_leader);
        self.nodes.iter().position(leads)
    }

    /// Waits until one of the nodes leads.
    pub(super) async fn wait_for_leader(&self, limit: Duration) -> Result<usize, DemoError> {
        let wait = async {
            loop {
                match self.leader() {
                    Some(leader) => return leader,
                    None => time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        time::timeout(limit, wait).await.map_err(|_elapsed| DemoError::NoLeader(limit))
    }

    /// Kills the leader: every task of its node ends where it stands. Answers its number, from 1.
    pub(super) async fn kill_leader(&mut self, limit: Duration) -> Result<usize, DemoError> {
        let leader = self.wait_for_leader(limit).await?;
        if let Some(Embedded { runtime, node }) = self.nodes[leader].take() {
            runtime.shutdown_background();
            drop(node);
        }
        Ok(leader + 1)
    }
}

impl Drop for EmbeddedCluster {
    /// Ends the nodes that live. A runtime that is merely dropped would wait, which a task must not.
    fn drop(&mut self) {
        for Embedded { runtime, node } in self.nodes.drain(..).flatten() {
            runtime.shutdown_background();
            drop(node);
        }
    }
}

fn destination(path: &Path) -> DestinationConfig {
    DestinationConfig {
        name: path.file_name().map_or_else(|| "destination".to_owned(), |name| name.to_string_lossy().into_owned()),
        url: format!("file://{}", path.display()),
        windows: Windows { upload_interval: Duration::from_secs(2), ..Windows::default() },
        retention: Retention::default(),
        verification: VerificationOptions::default(),
        options: DestinationOptions::default(),
    }
}
