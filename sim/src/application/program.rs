//! An application: its databases, its runs, and its deaths.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use seawall_host::time::sleep;
use seawall_proto::database_name::DatabaseName;

use super::directory::TemporaryDirectory;
use super::history::Content;
use super::life::Life;
use super::machine::{self, MachineDeath, Remains};
use super::profile::{Action, Profile};
use super::source::Source;
use super::sqlite::{self, SourceError};
use super::{transactions, workload};
use crate::random::{Random, Stream};
use crate::world::{self, Machine};

/// What an application is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplicationOptions {
    /// Names of its databases.
    pub databases: Vec<DatabaseName>,
    /// Whether it also checkpoints, vacuums and changes its schema.
    pub disruptive: bool,
}

/// An application on a machine. It outlives its runs and its machine's lives; only its tasks die.
pub struct Application {
    machine: Machine,
    sources: Vec<Arc<Source>>,
    random: Mutex<Random>,
    life: Mutex<Option<Arc<Life>>>,
}

/// What is left of an application's databases when its machine dies.
pub struct ApplicationRemains {
    death: MachineDeath,
    databases: Vec<Remains>,
}

impl Application {
    /// An application that does not run yet; its databases exist. `directory` must live as long as it does.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn new(
        machine: Machine,
        directory: &TemporaryDirectory,
        options: &ApplicationOptions,
    ) -> Result<Self, SourceError> {
        let seed = world::current().draw(Stream::Application, Random::u64);
        let mut random = Random::new(seed, Stream::Application);
        let directory = directory.of(machine)?;
        let mut sources = Vec::new();
        for (number, name) in options.databases.iter().enumerate() {
            let path = directory.join(format!("{number}.db"));
            let profile = Profile::draw(&mut random, options.disruptive);
            let source = Source::new(name.clone(), path, machine, profile);
            let connection = sqlite::open(source.path())?;
            transactions::prepare(&connection, source.profile())?;
            source.committed(&connection)?;
            sources.push(Arc::new(source));
        }
        Ok(Self { machine, sources, random: Mutex::new(random), life: Mutex::new(None) })
    }

    /// Where it runs.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// Its databases, in the order of the options.
    pub fn sources(&self) -> &[Arc<Source>] {
        &self.sources
    }

    /// One database by its name.
    pub fn source(&self, name: &DatabaseName) -> Option<&Arc<Source>> {
        self.sources.iter().find(|source| source.name() == name)
    }

    /// Commits to all its databases, in all its lives.
    pub fn commits(&self) -> u64 {
        self.sources.iter().map(|source| source.commits()).sum()
    }

    /// Begins a run, if none is on. Its machine must be switched on.
    pub fn start(&self) {
        if self.is_running() {
            return;
        }
        let life = Arc::new(Life::default());
        let seed = || self.random().u64();
        for source in &self.sources {
            let (writers, readers) = (source.profile().writers, source.profile().readers);
            for _ in 0..writers {
                let random = Random::new(seed(), Stream::Application);
                life.spawn(self.machine, workload::write(Arc::clone(source), Arc::clone(&life), random));
            }
            for _ in 0..readers {
                let random = Random::new(seed(), Stream::Application);
                life.spawn(self.machine, workload::read(Arc::clone(source), Arc::clone(&life), random));
            }
        }
        *self.life() = Some(life);
    }

    /// Whether a run is on.
    pub fn is_running(&self) -> bool {
        self.life().as_ref().is_some_and(|life| life.is_active())
    }

    /// Begins no further transactions until [`Application::resume`]. Those under way go on.
    pub fn pause(&self) {
        self.current_life().inspect(|life| life.pause(true));
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.current_life().inspect(|life| life.pause(false));
    }

    /// Ends the run in order: transactions are finished, and the last connection writes the WAL back and deletes it,
    /// unless an agent has the database open too.
    pub async fn stop(&self) {
        if let Some(life) = self.current_life() {
            life.end(true);
            life.gone().await;
        }
    }

    /// Kills the application's process, and nothing else on its machine.
    pub async fn kill(&self) {
        if let Some(life) = self.current_life() {
            life.kill();
            life.gone().await;
        }
    }

    /// Commits one small change, whether or not the application runs; answers the number of the state. Its machine must
    /// be switched on.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn write_once(&self, source: &Source) -> Result<usize, SourceError> {
        self.commit_once(source, Action::Update).await
    }

    /// The same with a change of every row.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn rewrite_once(&self, source: &Source) -> Result<usize, SourceError> {
        self.commit_once(source, Action::Rewrite).await
    }

    async fn commit_once(&self, source: &Source, action: Action) -> Result<usize, SourceError> {
        loop {
            let connection = sqlite::open(source.path())?;
            let prepared = transactions::prepare(&connection, source.profile());
            match prepared.and_then(|()| self.change(source, &connection, action)) {
                Err(SourceError::Busy) => {
                    drop(connection);
                    sleep(Duration::from_millis(1)).await;
                }
                outcome => return outcome,
            }
        }
    }

    fn change(&self, source: &Source, connection: &Connection, action: Action) -> Result<usize, SourceError> {
        transactions::run(action, connection, source.profile(), &mut self.random())?;
        source.committed(connection)
    }

    /// Copies what its machine's death leaves. Call it just before the machine's tasks are dropped, and
    /// [`Application::put_back`] afterwards.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn remains(&self, death: MachineDeath) -> Result<ApplicationRemains, SourceError> {
        let mut random = self.random();
        let databases = self
            .sources
            .iter()
            .map(|source| Remains::take(source.path(), death, source.profile().syncs_commits, &mut random));
        Ok(ApplicationRemains { death, databases: databases.collect::<Result<_, _>>()? })
    }

    /// Puts what was left in place for the next life, and takes the state in which that finds each database into its
    /// history.
    ///
    /// # Errors
    /// [`SourceError`]; `Impossible` if SQLite makes of it what no death explains.
    pub fn put_back(&self, remains: &ApplicationRemains) -> Result<(), SourceError> {
        for (source, left) in self.sources.iter().zip(&remains.databases) {
            left.put_back()?;
            let connection = sqlite::open(source.path())?;
            let content = Content::read(&connection)?;
            let may_lose = remains.death == MachineDeath::PowerLoss && !source.profile().syncs_commits;
            let explained = source.with_history(|history| match history.newest() {
                Some((_, newest)) if newest.content == content => true,
                _ => may_lose && history.states().iter().any(|state| state.content == content),
            });
            if !explained {
                let name = source.name();
                let (death, checksum) = (remains.death, content.checksum);
                return Err(SourceError::Impossible(format!(
                    "`{name}` is {checksum} after a {death:?} of its machine"
                )));
            }
            source.found(&connection)?;
        }
        Ok(())
    }

    /// The machine dies, with everything that runs on it, and its databases are as its next life finds them. Switching
    /// it on again and starting what runs there is the caller's.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn machine_dies(&self, death: MachineDeath) -> Result<(), SourceError> {
        let remains = self.remains(death)?;
        world::current().kill(self.machine, true);
        self.put_back(&remains)
    }

    /// An operator copies an earlier state over a database; answers whether there is a backup. The application must not
    /// run.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn replace_with_backup(&self, source: &Source) -> Result<bool, SourceError> {
        self.refuse_while_running()?;
        let Some(backup) = source.truth().backup.clone() else { return Ok(false) };
        machine::replace_database(source.path(), &backup)?;
        source.found(&sqlite::open(source.path())?)?;
        Ok(true)
    }

    /// An operator rebuilds a database with pages of another size; answers whether that was possible: not while an
    /// agent has it open. The application must not run.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn change_page_size(&self, source: &Source) -> Result<bool, SourceError> {
        self.refuse_while_running()?;
        let connection = sqlite::open(source.path())?;
        let before = sqlite::page_size(&connection)?.bytes();
        let others: Vec<u32> = [512, 1024, 2048, 4096].into_iter().filter(|size| *size != before).collect();
        let size = others[self.random().index(others.len())];
        match transactions::change_page_size(&connection, size) {
            Ok(()) => source.committed(&connection).map(|_| true),
            Err(SourceError::Busy) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn refuse_while_running(&self) -> Result<(), SourceError> {
        if self.is_running() {
            return Err(SourceError::Impossible("an operator works on the database of a running application".into()));
        }
        Ok(())
    }

    fn random(&self) -> MutexGuard<'_, Random> {
        self.random.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn life(&self) -> MutexGuard<'_, Option<Arc<Life>>> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current_life(&self) -> Option<Arc<Life>> {
        self.life().clone()
    }
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;
