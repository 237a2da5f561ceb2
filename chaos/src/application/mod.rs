//! Applications: programs in other languages, each a process of its own, that commit to one journal and say so.

mod language;
mod line;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

pub use language::Language;
pub use line::{ApplicationLine, LineError};

use crate::process::Launch;

/// An application: who writes how fast into which database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// What history calls it.
    pub name: String,
    /// What it is written in.
    pub language: Language,
    /// The name of its database in the cluster.
    pub database: String,
    /// Where that is.
    pub path: PathBuf,
    /// Transactions a second; 0 is as fast as it can.
    pub rate: u32,
}

impl Application {
    /// How to start it. Its program is written into `run`, its complaints go to `log`; `listener` hears what it says. It may take
    /// the busy time-out of 5 s (and the time of a commit) to end after SIGTERM.
    ///
    /// # Errors
    /// Its program cannot be written, or what runs it is missing.
    pub fn launch(
        &self,
        run: &Path,
        log: &Path,
        mut listener: impl FnMut(Result<ApplicationLine, LineError>) + Send + 'static,
    ) -> io::Result<Launch> {
        let (file, source) = self.language.program();
        let program = run.join(file);
        // Another application may be starting from it at this moment, and a shell reads its program as it goes.
        if fs::read(&program).ok().as_deref() != Some(source.as_bytes()) {
            let new = run.join(format!(".{}.{file}", self.name));
            fs::write(&new, source).and_then(|()| fs::rename(&new, &program)).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot write {}: {error}", program.display()))
            })?;
        }
        let mut launch = Launch::new(&self.name, self.language.interpreter(), log)
            .arguments([program])
            .environment("CHAOS_DATABASE", &self.path)
            .environment("CHAOS_APPLICATION", &self.name)
            .environment("CHAOS_RATE", self.rate.to_string())
            .lines(Box::new(move |line| listener(line.parse())));
        if let Some(modules) = self.language.node_modules()? {
            launch = launch.environment("CHAOS_NODE_MODULES", modules);
        }
        Ok(launch)
    }
}

/// Creates the database that applications write into, in WAL mode: ten accounts, an empty journal, no ballast.
///
/// # Errors
/// The file cannot be written, or holds something already.
pub fn create_database(path: &Path) -> rusqlite::Result<()> {
    let database = Connection::open(path)?;
    database.busy_timeout(Duration::from_secs(5))?;
    database.execute_batch(include_str!("schema.sql"))
}
