//! Where the real databases of a world lie.

use std::path::{Path, PathBuf};

use seawall_host::local;
use tempfile::TempDir;

use super::files;
use super::sqlite::SourceError;
use crate::world::Machine;

/// In memory, if the system offers it: nothing here outlives the run.
const MEMORY: &str = "/dev/shm";

/// A directory that is removed when this is dropped. Its path differs from run to run, always with the same length:
/// nothing may depend on more than that.
#[derive(Debug)]
pub struct TemporaryDirectory(TempDir);

impl TemporaryDirectory {
    /// Creates one.
    ///
    /// # Errors
    /// [`SourceError::File`].
    pub fn new() -> Result<Self, SourceError> {
        let base = PathBuf::from(MEMORY);
        let base = if matches!(local::stat(&base), Ok(Some(_))) { base } else { std::env::temp_dir() };
        let created = tempfile::Builder::new().prefix("seawall-sim-").rand_bytes(8).tempdir_in(&base);
        let created = created.map_err(|cause| SourceError::File {
            action: "create a directory in",
            path: base.display().to_string(),
            cause,
        })?;
        Ok(Self(created))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The directory of `machine` in it; created if it is not there.
    ///
    /// # Errors
    /// [`SourceError::File`].
    pub fn of(&self, machine: Machine) -> Result<PathBuf, SourceError> {
        let path = self.path().join(machine.to_string());
        files::create_directory(&path)?;
        Ok(path)
    }
}
