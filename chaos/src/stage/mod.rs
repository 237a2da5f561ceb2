//! Everything that a run consists of, set up from its scenario: hosts, nodes, destinations, agents, applications.

mod agent;
mod clock;
mod destination;
mod node;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use crate::application::{Application, ApplicationLine, create_database};
use crate::history::{Event, Recorder};
use crate::net::{Host, Network};
use crate::scenario::{Action, Scenario};
use crate::service::Service;
use crate::tool::{Source, Tool};
use crate::watch::Syncs;

pub use agent::Agent;
use agent::Surroundings;
pub use clock::Clock;
pub use destination::Destination;
pub use node::{FAULTY_DISK_BYTES, Node, NodeStorage};

/// The host of those who look on.
const OPERATOR: &str = "operator";

/// How long the first start of everything may take.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long `seawall status` may take.
const STATUS_LIMIT: Duration = Duration::from_secs(3);

/// A run's hosts and what is on them.
pub struct Stage {
    scenario: Scenario,
    directory: PathBuf,
    scratch: PathBuf,
    recorder: Recorder,
    tool: Tool,
    operator: Host,
    nodes: Vec<Node>,
    agents: Vec<Agent>,
    /// Agents that nobody needs, one for each database.
    second_agents: Vec<Agent>,
    applications: Vec<Service>,
    destinations: Vec<Destination>,
    /// Last: the hosts go when everything on them is gone.
    network: Network,
}

impl Stage {
    /// Sets everything up in `directory` and starts it; returns when the cluster leads and each database is shipped.
    ///
    /// # Errors
    /// Something cannot be started, or does not get going.
    pub fn build(
        scenario: Scenario,
        network: Network,
        directory: PathBuf,
        tool: Tool,
        recorder: Recorder,
    ) -> anyhow::Result<Self> {
        let host = |name: &str| network.host(name).cloned().with_context(|| format!("there is no host {name}"));
        let operator = host(OPERATOR)?;
        let scratch = directory.join("restored");
        fs::create_dir_all(&scratch)?;
        let mut destinations = Vec::new();
        for plan in &scenario.destinations {
            let destination = Destination::start(plan, &host(plan.name())?, &directory);
            destinations
                .push(destination.with_context(|| format!("the destination {} cannot be started", plan.name()))?);
        }
        let sections: String = scenario
            .destinations
            .iter()
            .zip(&destinations)
            .map(|(plan, destination)| destination.configuration(&plan.options))
            .collect();

        let mut hosts = Vec::new();
        for id in 1..=scenario.nodes {
            hosts.push(host(&format!("node-{id}"))?);
        }
        let mut nodes = Vec::new();
        for id in 1..=scenario.nodes {
            let directory = directory.join(format!("node-{id}"));
            let node = Node::prepare(id, &directory, &scenario, &hosts, &sections, &tool, &recorder)?;
            node.service.start()?;
            nodes.push(node);
        }

        let addresses: Vec<String> = hosts.iter().map(|host| format!("{}:{}", host.address(), node::PORT)).collect();
        let around = Surroundings { cluster: &addresses, tool: &tool, recorder: &recorder };
        let (mut agents, mut second_agents) = (Vec::new(), Vec::new());
        let takes_over = scenario.faults.iter().any(|plan| plan.action == Action::SecondAgent { take_over: true });
        for database in scenario.databases() {
            let (host, name) = (host(&host_of(&database))?, format!("agent-{database}"));
            let directory = directory.join(host.name());
            fs::create_dir_all(&directory)?;
            let path = directory.join(format!("{database}.db"));
            create_database(&path).with_context(|| format!("{} cannot be made", path.display()))?;
            let of = (database.as_str(), path.as_path());
            let agent = Agent::prepare(&name, host.clone(), &directory, of, &around, false)?;
            agent.service.start()?;
            agents.push(agent);
            let second = format!("second-{name}");
            second_agents.push(Agent::prepare(&second, host, &directory, of, &around, takes_over)?);
        }
        let mut applications = Vec::new();
        for (number, plan) in (1..).zip(&scenario.applications) {
            let directory = directory.join(host_of(&plan.database));
            let application = Application {
                name: format!("application-{number}"),
                language: plan.language,
                database: plan.database.clone(),
                path: directory.join(format!("{}.db", plan.database)),
                rate: plan.rate,
            };
            applications.push(application_service(application, host(&host_of(&plan.database))?, directory, &recorder));
        }
        let stage = Self {
            scenario,
            directory,
            scratch,
            recorder,
            tool,
            operator,
            nodes,
            agents,
            second_agents,
            applications,
            destinations,
            network,
        };
        stage.get_going()?;
        Ok(stage)
    }

    /// The names of the hosts that a scenario needs.
    pub fn hosts(scenario: &Scenario) -> Vec<String> {
        let nodes = (1..=scenario.nodes).map(|id| format!("node-{id}"));
        let applications = scenario.databases().into_iter().map(|database| host_of(&database));
        let destinations = scenario.destinations.iter().map(|plan| plan.name().to_owned());
        nodes.chain(applications).chain(destinations).chain([OPERATOR.to_owned()]).collect()
    }

    /// Waits for the first promise of each database, and starts the applications.
    fn get_going(&self) -> anyhow::Result<()> {
        for sync in self.syncs() {
            let deadline = self.recorder.elapsed_ms() + START_LIMIT.as_millis() as u64;
            while let Err(error) = sync.once("quorum", Duration::from_secs(5)) {
                if self.recorder.elapsed_ms() > deadline {
                    let directory = self.directory.display();
                    anyhow::bail!("{} did not get going: {error} (logs in {directory})", sync.database);
                }
            }
        }
        self.applications.iter().try_for_each(Service::start).context("an application cannot be started")
    }

    /// What it is made from.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where files are put that are thrown away again.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Where it is written down.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// The program under test.
    pub fn tool(&self) -> &Tool {
        &self.tool
    }

    /// The host of those who look on.
    pub fn operator(&self) -> &Host {
        &self.operator
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The agents, one for each database.
    pub fn agents(&self) -> &[Agent] {
        &self.agents
    }

    /// The agents that nobody needs, in the same order.
    pub fn second_agents(&self) -> &[Agent] {
        &self.second_agents
    }

    /// The applications.
    pub fn applications(&self) -> &[Service] {
        &self.applications
    }

    /// The destinations.
    pub fn destinations(&self) -> &[Destination] {
        &self.destinations
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Every program that is looked after.
    pub fn services(&self) -> Vec<&Service> {
        let nodes = self.nodes.iter().map(|node| &node.service);
        let agents = self.agents.iter().chain(&self.second_agents).map(|agent| &agent.service);
        nodes.chain(agents).chain(&self.applications).collect()
    }

    /// What asks each agent for promises.
    pub fn syncs(&self) -> Vec<Syncs> {
        self.agents.iter().map(|agent| self.syncs_of(agent)).collect()
    }

    /// What asks this agent for promises.
    pub fn syncs_of(&self, agent: &Agent) -> Syncs {
        Syncs {
            tool: self.tool.clone(),
            host: agent.service.host().clone(),
            agent: agent.service.name().to_owned(),
            socket: agent.socket.clone(),
            database: agent.database.clone(),
            recorder: self.recorder.clone(),
        }
    }

    /// The id of the node that leads, as far as the nodes know.
    pub fn leader(&self) -> Option<u64> {
        self.status().ok()?.get("leader")?.as_u64()
    }

    /// Whether a leader reaches all nodes; if not, how it looks.
    pub fn whole_cluster(&self) -> Result<(), String> {
        let status = self.status()?;
        let reachable = |node: &Value| node.get("reachable").and_then(Value::as_bool).unwrap_or(false);
        let nodes = status.get("nodes").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let is_whole = nodes.len() == self.nodes.len() && nodes.iter().all(reachable);
        if status.get("leader").is_some_and(Value::is_u64) && is_whole { Ok(()) } else { Err(status.to_string()) }
    }

    fn status(&self) -> Result<Value, String> {
        self.tool.status(&self.operator, &self.addresses(), STATUS_LIMIT).map_err(|error| error.to_string())
    }

    fn addresses(&self) -> String {
        let addresses = self.nodes.iter().map(|node| format!("{}:{}", node.service.host().address(), node::PORT));
        addresses.collect::<Vec<_>>().join(",")
    }

    /// Each node and each destination by name, with where `seawall restore` finds a database there.
    pub fn sources(&self, database: &str) -> Vec<(String, Source)> {
        let nodes = self.nodes.iter().map(|node| {
            let url = format!("seawall://{}:{}/{database}", node.service.host().address(), node::PORT);
            (node.service.name().to_owned(), Source { arguments: vec![url.into()], environment: Vec::new() })
        });
        let destinations =
            self.destinations.iter().map(|destination| (destination.name().to_owned(), destination.source(database)));
        nodes.chain(destinations).collect()
    }

    /// The same for wherever it is: the cluster and all destinations.
    pub fn any_source(&self, database: &str) -> Source {
        let configuration = self.nodes[0].configuration();
        let arguments = vec!["--config".into(), configuration.into(), "--database".into(), database.into()];
        Source { arguments, environment: Vec::new() }
    }

    /// The logs of nodes and agents, by name.
    pub fn logs(&self) -> Vec<(String, PathBuf)> {
        let nodes = self.nodes.iter().map(|node| (&node.service, node.configuration().with_file_name("node.log")));
        let agents = self.agents.iter().chain(&self.second_agents);
        let agents = agents.map(|agent| (&agent.service, agent.socket.with_extension("log")));
        nodes.chain(agents).map(|(service, log)| (service.name().to_owned(), log)).collect()
    }

    /// Ends everything as a service manager does.
    pub fn shut_down(&self) {
        self.services().into_iter().rev().for_each(Service::stop);
    }
}

/// The host that a database is on.
fn host_of(database: &str) -> String {
    format!("host-{database}")
}

fn application_service(application: Application, host: Host, directory: PathBuf, recorder: &Recorder) -> Service {
    let (name, recorder) = (application.name.clone(), recorder.clone());
    Service::new(name, host, recorder.clone(), move || {
        let (recorder, label, database) = (recorder.clone(), application.name.clone(), application.database.clone());
        let log = directory.join(format!("{label}.log"));
        application.launch(&directory, &log, move |line| {
            let (application, database) = (label.clone(), database.clone());
            recorder.record(match line {
                Ok(ApplicationLine::Committed { seq, chain }) => Event::Committed { application, database, seq, chain },
                Ok(ApplicationLine::Resumed { seq, chain }) => Event::Resumed { application, database, seq, chain },
                Err(error) => Event::Complained { process: application, line: error.to_string() },
            });
        })
    })
}

/// A place for the files of a run, on this machine.
///
/// # Errors
/// It cannot be made.
pub fn run_directory(parent: Option<&Path>) -> io::Result<PathBuf> {
    let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
    Ok(tempfile::Builder::new().prefix("chaos-").tempdir_in(parent)?.keep())
}
