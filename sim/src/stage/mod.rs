//! Everything that plays a part in a run, for those who break it and those who watch it.

pub mod acknowledge;
mod cluster;
mod configuration;
mod host;
mod operator;
mod strikes;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use cluster::{Cluster, SimNode};
pub use configuration::Configuration;
pub use host::Host;
pub use operator::{GivenBack, Operator, RestoreFailure};
pub use strikes::Strikes;

use crate::world::Machine;

/// What a run consists of.
pub struct Stage {
    /// Its shape.
    pub configuration: Configuration,
    /// The nodes and the destinations.
    pub cluster: Arc<Cluster>,
    /// Applications with their databases, and their agents.
    pub hosts: Vec<Arc<Host>>,
    /// Who restores.
    pub operator: Operator,
    /// What struck so far.
    pub strikes: Strikes,
    liar: AtomicUsize,
}

impl Stage {
    /// Puts the parts together.
    pub fn new(
        configuration: Configuration,
        cluster: Arc<Cluster>,
        hosts: Vec<Arc<Host>>,
        operator: Operator,
    ) -> Arc<Self> {
        let liar = AtomicUsize::new(usize::MAX);
        Arc::new(Self { configuration, cluster, hosts, operator, strikes: Strikes::default(), liar })
    }

    /// The machines of nodes and agents, between which links can be cut and whose clocks can be wrong.
    pub fn machines(&self) -> Vec<Machine> {
        let nodes = self.cluster.nodes().iter().map(|node| node.machine);
        nodes.chain(self.hosts.iter().map(|host| host.agent_machine())).collect()
    }

    /// Says that a destination has lied.
    pub fn set_liar(&self, index: usize) {
        self.liar.store(index, Ordering::Relaxed);
    }

    /// Whether a destination has ever lied.
    pub fn is_liar(&self, index: usize) -> bool {
        self.liar.load(Ordering::Relaxed) == index
    }
}
