//! A directory.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Place, RestoreSource, quoted};

/// A directory that every host sees. Taken away, something stands in its place that is no directory.
pub struct Directory {
    name: String,
    root: PathBuf,
    away: PathBuf,
}

impl Directory {
    /// A destination in `data`.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn start(name: &str, data: &Path) -> io::Result<Self> {
        let root = data.join("objects");
        fs::create_dir_all(&root)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot make {}: {error}", root.display())))?;
        Ok(Self { name: name.to_owned(), root, away: data.join("objects.away") })
    }

    fn url(&self) -> String {
        format!("file://{}", self.root.display())
    }
}

impl Place for Directory {
    fn name(&self) -> &str {
        &self.name
    }

    fn yaml(&self) -> Vec<String> {
        vec![format!("name: {}", quoted(&self.name)), format!("url: {}", quoted(&self.url()))]
    }

    fn source(&self, database: &str) -> RestoreSource {
        RestoreSource { url: format!("{}/{database}", self.url()), environment: BTreeMap::new() }
    }

    fn kill(&mut self) -> io::Result<()> {
        if !self.away.exists() {
            fs::rename(&self.root, &self.away)?;
            // Or whoever uploads next would make a new one. A link to nowhere takes no room on a full disk.
            std::os::unix::fs::symlink("/nowhere/at/all", &self.root)?;
        }
        Ok(())
    }

    fn start_again(&mut self) -> io::Result<()> {
        if self.away.exists() {
            fs::remove_file(&self.root)?;
            fs::rename(&self.away, &self.root)?;
        }
        Ok(())
    }

    fn pause(&mut self) -> io::Result<()> {
        Err(cannot_pause(&self.name))
    }

    fn resume(&mut self) -> io::Result<()> {
        Err(cannot_pause(&self.name))
    }
}

fn cannot_pause(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!("{name} is a directory, which no process serves: it cannot be paused; take it away, or fill its disk"),
    )
}
