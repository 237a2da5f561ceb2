//! A destination of a run and what it is on.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::destination::{DoorMode, Place};
use crate::disk::SmallDisk;
use crate::net::Host;
use crate::scenario::DestinationPlan;
use crate::tool::Source;

/// A destination.
pub struct Destination {
    name: String,
    place: Mutex<Box<dyn Place>>,
    disk: Option<SmallDisk>,
}

impl Destination {
    /// Starts it on `host`; what it holds lies in a directory of its name in `run`.
    pub(super) fn start(plan: &DestinationPlan, host: &Host, run: &Path) -> io::Result<Self> {
        let data = run.join(plan.name());
        fs::create_dir_all(&data)?;
        let disk = plan.size.map(|mebibytes| SmallDisk::mount(&data, u64::from(mebibytes) << 20)).transpose()?;
        let place = Mutex::new(plan.kind.start(plan.name(), host, run, &data)?);
        Ok(Self { name: plan.name().to_owned(), place, disk })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file system that it has to itself, if it has one.
    pub fn disk(&self) -> Option<&SmallDisk> {
        self.disk.as_ref()
    }

    /// Its entry in the destinations of `node.yml`, with these keys beside its own.
    pub(super) fn configuration(&self, options: &BTreeMap<String, String>) -> String {
        let options = options.iter().map(|(key, value)| format!("{key}: {value}"));
        let lines = self.lock().yaml().into_iter().chain(options);
        lines.enumerate().map(|(index, line)| format!("  {} {line}\n", if index == 0 { "-" } else { " " })).collect()
    }

    /// Where `seawall restore` finds a database here.
    pub(super) fn source(&self, database: &str) -> Source {
        let source = self.lock().source(database);
        let environment = source.environment.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Source { arguments: vec![source.url.into()], environment }
    }

    /// Takes it away at once; its data stays.
    ///
    /// # Errors
    /// It could not be taken away.
    pub fn kill(&self) -> io::Result<()> {
        self.lock().kill()
    }

    /// Brings it back on the same data.
    ///
    /// # Errors
    /// It does not start or answer.
    pub fn start_again(&self) -> io::Result<()> {
        self.lock().start_again()
    }

    /// Stops it where it is.
    ///
    /// # Errors
    /// Its kind cannot be paused.
    pub fn pause(&self) -> io::Result<()> {
        self.lock().pause()
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// Its kind cannot be paused.
    pub fn resume(&self) -> io::Result<()> {
        self.lock().resume()
    }

    /// Sets the mode of its door.
    ///
    /// # Errors
    /// It has none.
    pub fn set_door(&self, mode: DoorMode) -> io::Result<()> {
        let place = self.lock();
        let door = place.door().ok_or_else(|| io::Error::other(format!("{} has no door", self.name)))?;
        door.set_mode(mode);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn Place>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
