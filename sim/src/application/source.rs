//! One database of an application: where it lies, how it is used, and the truth about it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use seawall_proto::database_name::DatabaseName;

use super::history::{Content, SourceHistory};
use super::profile::Profile;
use super::sqlite::{self, SourceError};
use crate::world::{self, Machine};

/// One database. Every connection that commits to it says so here, in the step of the commit.
pub struct Source {
    name: DatabaseName,
    path: PathBuf,
    machine: Machine,
    profile: Profile,
    truth: Mutex<Truth>,
}

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Truth {
    pub(super) history: SourceHistory,
    /// An operator's copy of an earlier state.
    pub(super) backup: Option<Vec<u8>>,
    commits: u64,
}

impl Source {
    pub(super) fn new(name: DatabaseName, path: PathBuf, machine: Machine, profile: Profile) -> Self {
        Self { name, path, machine, profile, truth: Mutex::default() }
    }

    /// The name under which it is to be registered in the cluster.
    pub fn name(&self) -> &DatabaseName {
        &self.name
    }

    /// The real file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it lies.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// How it is used.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Commits so far, in all lives.
    pub fn commits(&self) -> u64 {
        self.truth().commits
    }

    /// The states that it was in. Not to be held across a suspension point.
    pub fn with_history<T>(&self, look: impl FnOnce(&SourceHistory) -> T) -> T {
        look(&self.truth().history)
    }

    pub(super) fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `connection` has committed in this very step; answers the number of the state.
    ///
    /// # Errors
    /// [`SourceError`].
    pub(super) fn committed(&self, connection: &Connection) -> Result<usize, SourceError> {
        let content = Content::read(connection)?;
        let world = world::current();
        let number = {
            let mut truth = self.truth();
            truth.commits += 1;
            truth.history.record(world.time(), content)
        };
        self.announce("commit", number, &content);
        Ok(number)
    }

    /// What `connection` sees is the newest state, whoever made it so.
    ///
    /// # Errors
    /// [`SourceError`].
    pub(super) fn found(&self, connection: &Connection) -> Result<usize, SourceError> {
        let content = Content::read(connection)?;
        let world = world::current();
        let number = self.truth().history.record_if_new(world.time(), content);
        self.announce("found", number, &content);
        Ok(number)
    }

    /// Keeps the newest state as an operator's backup.
    ///
    /// # Errors
    /// [`SourceError`].
    pub(super) fn back_up(&self, connection: &Connection) -> Result<(), SourceError> {
        let mut image = Vec::new();
        sqlite::for_each_page(connection, |_, bytes| image.extend_from_slice(bytes))?;
        self.truth().backup = Some(image);
        Ok(())
    }

    fn announce(&self, kind: &'static str, number: usize, content: &Content) {
        let world = world::current();
        let text = || {
            format!(
                "{kind} in `{}` on {}: state {number}, {} pages, {}",
                self.name, self.machine, content.page_count, content.checksum
            )
        };
        world.event(kind, content.checksum.0, text);
        world.touched(&self.path);
    }
}
