//! The nodes of a run, each under a supervisor that starts it again when it ends by itself.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use seawall_host::net::Address;
use seawall_host::{process, task, time};
use seawall_node::config::{MemberConfig, NodeConfig};
use seawall_node::destination::VerificationOptions;
use seawall_node::node::{Node, NodeParts};
use tokio::sync::Notify;

use super::configuration::Configuration;
use crate::destination::Place;
use crate::disk::{Crash, SimKv};
use crate::random::Stream;
use crate::world::{self, Machine};

/// The port that every node listens at.
const PORT: u16 = 7400;

/// How long a supervisor waits before it starts a program again.
const RESTART_WAIT: Range<Duration> = Duration::from_millis(100)..Duration::from_secs(2);

/// What a program says that stops because it was asked to.
const IN_ORDER: &str = "stopped in order";

/// The nodes.
pub struct Cluster {
    nodes: Vec<SimNode>,
    configuration: Configuration,
    places: Vec<Arc<Place>>,
}

/// One node: its machine, and what is known of the program on it.
pub struct SimNode {
    /// The machine it runs on.
    pub machine: Machine,
    /// Where it listens.
    pub address: Address,
    program: Arc<Mutex<Program>>,
    stop: Arc<Notify>,
}

#[derive(Default)]
struct Program {
    node: Weak<Node>,
    /// Faults keep it down.
    held_down: bool,
    /// Its disk has failed it in some way, so it may end itself.
    disk_failed: bool,
    /// It will never be a member again, and why.
    lost: Option<String>,
    /// Its images have rotted: it needs another node to mend them.
    rotten_images: bool,
    /// Why it did not start, the last time.
    refusal: Option<String>,
}

impl SimNode {
    fn program(&self) -> MutexGuard<'_, Program> {
        self.program.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The running node.
    pub fn node(&self) -> Option<Arc<Node>> {
        self.program().node.upgrade()
    }

    /// Why it is lost for good, if it is.
    pub fn lost(&self) -> Option<String> {
        self.program().lost.clone()
    }

    /// Whether images of it have rotted.
    pub fn has_rotten_images(&self) -> bool {
        self.program().rotten_images
    }

    /// Says that its disk fails it from now on or did once.
    pub fn set_disk_failed(&self) {
        self.program().disk_failed = true;
    }

    /// Why it did not start, the last time it tried.
    pub fn refusal(&self) -> Option<String> {
        self.program().refusal.clone()
    }
}

impl Cluster {
    /// Machines with addresses; nothing runs yet.
    pub fn new(configuration: &Configuration, places: Vec<Arc<Place>>) -> Arc<Self> {
        let world = world::current();
        let node = |number: usize| {
            let machine = world.add_machine(&format!("node-{number}"));
            let address = Address::Tcp(format!("node-{number}:{PORT}"));
            world.network().assign(&address, machine);
            world.disk_of(machine).set_capacity(Some(configuration.disk_bytes));
            SimNode { machine, address, program: Arc::default(), stop: Arc::default() }
        };
        let nodes = (1..=configuration.nodes).map(node).collect();
        Arc::new(Self { nodes, configuration: configuration.clone(), places })
    }

    /// The nodes, in the order of their numbers.
    pub fn nodes(&self) -> &[SimNode] {
        &self.nodes
    }

    /// Where the nodes listen.
    pub fn addresses(&self) -> Vec<Address> {
        self.nodes.iter().map(|node| node.address.clone()).collect()
    }

    /// The destinations' far ends.
    pub fn places(&self) -> &[Arc<Place>] {
        &self.places
    }

    /// Which of the nodes believes to lead.
    pub fn leader(&self) -> Option<usize> {
        self.nodes.iter().position(|it| it.node().is_some_and(|node| node.replica().leadership().is_leader))
    }

    /// Which of the nodes that believe to lead leads: the one in the newest term. One whose log waits for room does not hear
    /// of the next.
    pub fn newest_leader(&self) -> Option<usize> {
        let standings = self.nodes.iter().map(|it| it.node().map(|node| node.replica().leadership()));
        let leaders =
            standings.enumerate().filter_map(|(index, it)| it.filter(|it| it.is_leader).map(|it| (it.term, index)));
        leaders.max().map(|(_, index)| index)
    }

    /// Gives a node up for good, if a majority of the others stays whole; answers whether it did.
    pub fn expend(&self, index: usize, why: &str) -> bool {
        let may = self.can_do_without(index) && self.nodes[index].lost().is_none();
        if may {
            let mut program = self.nodes[index].program();
            program.lost = Some(why.to_owned());
            program.disk_failed = true;
        }
        may
    }

    /// Lets images of a node rot, if a majority of the others stays whole; answers whether it did.
    pub fn rot_images(&self, index: usize) -> bool {
        let may = self.can_do_without(index) && self.nodes[index].lost().is_none();
        if may {
            self.nodes[index].program().rotten_images = true;
        }
        may
    }

    fn can_do_without(&self, index: usize) -> bool {
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != index);
        let not_whole = others.filter(|(_, node)| {
            let program = node.program();
            program.lost.is_some() || program.rotten_images
        });
        not_whole.count() < self.configuration.expendable_nodes()
    }

    /// Starts the program of a node on its machine, which must be on.
    pub fn launch(&self, index: usize) {
        let it = &self.nodes[index];
        let members = (1..).zip(&self.nodes).map(|(id, node)| MemberConfig { id, address: node.address.clone() });
        let config = NodeConfig {
            id: index as u64 + 1,
            data_dir: "/data".into(),
            listen: it.address.clone(),
            http: None,
            cluster_name: "sim".to_owned(),
            members: members.collect(),
            disk: self.configuration.disk.clone(),
            destinations: Vec::new(),
        };
        let world = world::current();
        let Configuration { windows, retention, .. } = &self.configuration;
        let interval = Some(self.configuration.verify_interval);
        let verification = VerificationOptions { interval, ..VerificationOptions::default() };
        let destinations = self.places.iter().zip(windows);
        let destinations = destinations.map(|(place, windows)| place.named(windows, retention, &verification));
        let parts = NodeParts {
            open_kv: SimKv::opener(&world.disk_of(it.machine)),
            destinations: destinations.collect(),
            sizes: self.configuration.sizes.clone(),
            metrics: None,
        };
        world.spawn_on(it.machine, run(config, parts, it.program.clone(), it.stop.clone()));
    }

    /// Ends a node's program as `kill -9` or a power cut does, and its disk's memory with it.
    pub fn crash(&self, index: usize, crash: Crash) {
        let world = world::current();
        let machine = self.nodes[index].machine;
        if world.is_alive(machine) {
            world.kill(machine, matches!(crash, Crash::Power));
            world.disk_of(machine).crash(crash);
        }
    }

    /// Keeps a node down until [`Cluster::bring_up`], whoever wants to start it.
    pub fn hold_down(&self, index: usize, crash: Crash) {
        self.nodes[index].program().held_down = true;
        self.crash(index, crash);
    }

    /// Whether a fault keeps it down now.
    pub fn is_held_down(&self, index: usize) -> bool {
        self.nodes[index].program().held_down
    }

    /// Starts a node that is down.
    pub fn bring_up(&self, index: usize) {
        let it = &self.nodes[index];
        it.program().held_down = false;
        let world = world::current();
        if !world.is_alive(it.machine) {
            world.start(it.machine);
            self.launch(index);
        }
    }

    /// Stops a node in order (it hands leadership over first) and starts it again.
    pub fn restart_in_order(&self, index: usize) {
        self.nodes[index].stop.notify_one();
    }

    /// Starts programs that ended by themselves again, as an init system does.
    pub async fn supervise(self: Arc<Self>) {
        loop {
            let death = world::current().next_death().await;
            let Some(index) = self.nodes.iter().position(|node| node.machine == death.machine) else { continue };
            let reason = death.reason;
            if reason != IN_ORDER && !self.nodes[index].program().disk_failed {
                let text = format!("node {} ended itself though its disk never failed: {reason}", index + 1);
                world::current().violate("a node ends itself only when its disk fails", text);
            }
            world::current().disk_of(death.machine).crash(Crash::Process);
            let cluster = self.clone();
            let wait = world::current().draw(Stream::Faults, |random| random.duration(RESTART_WAIT));
            task::spawn(async move {
                time::sleep(wait).await;
                if !cluster.is_held_down(index) {
                    cluster.bring_up(index);
                }
            });
        }
    }
}

/// A node's program, from its start to its exit.
async fn run(config: NodeConfig, parts: NodeParts, program: Arc<Mutex<Program>>, stop: Arc<Notify>) {
    let lock = || program.lock().unwrap_or_else(PoisonError::into_inner);
    match Node::start(config, parts).await {
        Ok(node) => {
            let node = Arc::new(node);
            {
                let mut program = lock();
                program.node = Arc::downgrade(&node);
                program.refusal = None;
            }
            stop.notified().await;
            lock().node = Weak::new();
            if let Some(node) = Arc::into_inner(node) {
                node.shutdown(Duration::from_secs(5)).await;
            }
            process::halt(IN_ORDER)
        }
        Err(error) => {
            lock().refusal = Some(error.to_string());
            process::halt(&error.to_string())
        }
    }
}
