//! The host of an application: its databases, the agent beside it, and at times a second agent that should not be.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use seawall_agent::{Agent, AgentConfig, AgentSizes, DatabaseConfig, DatabaseHandle};
use seawall_host::net::Address;
use seawall_proto::database_name::DatabaseName;

use super::acknowledge::{Acknowledgements, acknowledge};
use crate::application::Application;
use crate::application::machine::MachineDeath;
use crate::application::source::Source;
use crate::application::sqlite::SourceError;
use crate::world::{self, Machine};

/// An application with its agents. The programs have machines of their own, so that each can die alone.
pub struct Host {
    /// The application.
    pub application: Application,
    /// Every receipt that its agents gave.
    pub acknowledgements: Acknowledgements,
    cluster: Vec<Address>,
    sizes: AgentSizes,
    agent: Machine,
    rival: Machine,
    handles: Arc<Mutex<Vec<DatabaseHandle>>>,
}

impl Host {
    /// A host whose programs do not run yet.
    pub fn new(application: Application, cluster: Vec<Address>, sizes: AgentSizes, number: usize) -> Arc<Self> {
        let world = world::current();
        Arc::new(Self {
            application,
            acknowledgements: Acknowledgements::new(),
            cluster,
            sizes,
            agent: world.add_machine(&format!("agent-{number}")),
            rival: world.add_machine(&format!("rival-{number}")),
            handles: Arc::default(),
        })
    }

    /// The machine of the agent that should run.
    pub fn agent_machine(&self) -> Machine {
        self.agent
    }

    /// Starts the agent. With `take_over` it claims the databases from whoever has them.
    pub fn start_agent(&self, take_over: bool) {
        self.launch(self.agent, take_over);
    }

    /// Starts a second agent, which takes the databases over from the first.
    pub fn start_rival(&self) {
        self.launch(self.rival, true);
    }

    /// Kills the agent.
    pub fn kill_agent(&self) {
        world::current().kill(self.agent, false);
    }

    /// Kills the second agent, if there is one.
    pub fn kill_rival(&self) {
        world::current().kill(self.rival, false);
    }

    fn launch(&self, machine: Machine, take_over: bool) {
        let world = world::current();
        world.kill(machine, false);
        world.start(machine);
        let databases = self.application.sources().iter().map(|source| DatabaseConfig {
            path: source.path().to_owned(),
            name: source.name().clone(),
            take_over,
        });
        let (cluster, sizes) = (self.cluster.clone(), self.sizes.clone());
        let config = AgentConfig { cluster, socket: None, databases: databases.collect(), sizes };
        let sources = self.application.sources().to_vec();
        // Those of the last agent answer nothing any more.
        self.handles().clear();
        let (handles, acknowledgements) = (self.handles.clone(), self.acknowledgements.clone());
        world.spawn_on(machine, run(config, sources, handles, acknowledgements));
    }

    fn handles(&self) -> MutexGuard<'_, Vec<DatabaseHandle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest agent's handle of a database.
    pub fn handle(&self, name: &DatabaseName) -> Option<DatabaseHandle> {
        self.handles().iter().find(|handle| handle.name() == name).cloned()
    }

    /// The whole host dies, the application and its agents at once; its databases are as their next life finds them.
    ///
    /// # Errors
    /// [`SourceError`] if the files cannot be copied, or SQLite makes of them what no death explains.
    pub fn die(&self, death: MachineDeath) -> Result<(), SourceError> {
        let remains = self.application.remains(death)?;
        let world = world::current();
        for machine in [self.application.machine(), self.agent, self.rival] {
            world.kill(machine, true);
        }
        self.application.put_back(&remains)
    }

    /// Switches the application's machine on, if it is off, and starts the application.
    pub fn start_application(&self) {
        let world = world::current();
        if !world.is_alive(self.application.machine()) {
            world.start(self.application.machine());
        }
        self.application.start();
    }
}

/// An agent's program.
async fn run(
    config: AgentConfig,
    sources: Vec<Arc<Source>>,
    handles: Arc<Mutex<Vec<DatabaseHandle>>>,
    acknowledgements: Acknowledgements,
) {
    let agent = match Agent::start(config).await {
        Ok(agent) => agent,
        Err(error) => {
            return world::current().violate("an agent starts with a good configuration", error.to_string());
        }
    };
    for source in sources {
        if let Some(handle) = agent.database(source.name()) {
            seawall_host::task::spawn(acknowledge(source, handle.clone(), acknowledgements.clone()));
        }
    }
    *handles.lock().unwrap_or_else(PoisonError::into_inner) = agent.databases().to_vec();
    std::future::pending::<()>().await;
    drop(agent);
}
