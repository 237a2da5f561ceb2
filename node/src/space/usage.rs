//! How many bytes a node's data takes.

use std::io;
use std::path::{Path, PathBuf};

use seawall_host::disk;
use seawall_host::time::Instant;

use super::plan::{NodeSpace, SpaceOptions, judge};

/// The log file is looked at each time. The rest may have many files: it is looked at again after this many times as
/// long as it took.
const REST_PAUSE: u32 = 50;
const LOG: &str = "log";

/// Measures what a data directory takes.
#[derive(Debug)]
pub struct Usage {
    data_dir: PathBuf,
    options: SpaceOptions,
    rest_bytes: u64,
    rest_due: Option<Instant>,
}

impl Usage {
    /// Of a data directory, which exists.
    pub fn new(data_dir: PathBuf, options: SpaceOptions) -> Self {
        Self { data_dir, options, rest_bytes: 0, rest_due: None }
    }

    /// Looks at the file system and the data directory.
    ///
    /// # Errors
    /// The disk's.
    pub async fn look(&mut self) -> io::Result<NodeSpace> {
        let file_system = disk::space(&self.data_dir).await?;
        let log = self.data_dir.join(LOG);
        let log_bytes = if disk::exists(&log).await? { bytes_below(&log, None).await? } else { 0 };
        let begun = Instant::now();
        if self.rest_due.is_none_or(|due| due <= begun) {
            self.rest_bytes = bytes_below(&self.data_dir, Some(LOG)).await?;
            self.rest_due = Some(Instant::now() + begun.elapsed() * REST_PAUSE);
        }
        Ok(judge(file_system, log_bytes.saturating_add(self.rest_bytes), &self.options))
    }
}

/// Bytes of all files below `directory`, but for its entry `except`. What goes meanwhile counts or does not.
async fn bytes_below(directory: &Path, except: Option<&str>) -> io::Result<u64> {
    let mut bytes = 0_u64;
    let mut pending = vec![directory.to_owned()];
    while let Some(next) = pending.pop() {
        let entries = match disk::list(&next).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            if next == directory && Some(entry.name.as_str()) == except {
                continue;
            }
            if entry.is_directory {
                pending.push(next.join(&entry.name));
            } else {
                bytes = bytes.saturating_add(entry.len);
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "files for a test")]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn every_file_of_the_data_directory_counts() {
        seawall_host::real::install();
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        fs::create_dir_all(data.join("images/a@1")).unwrap();
        fs::create_dir_all(data.join("log")).unwrap();
        fs::write(data.join("images/a@1/image.0"), [0; 1000]).unwrap();
        fs::write(data.join("snapshot"), [0; 30]).unwrap();
        fs::write(data.join("log/1"), [0; 200]).unwrap();
        let options = SpaceOptions { budget: Some(5000), reserve: Some(1), destination_share: 25 };
        let mut usage = Usage::new(data.clone(), options);
        let space = usage.look().await.unwrap();
        assert_eq!((space.used, space.free), (1230, 3770));
        fs::write(data.join("log/2"), [0; 70]).unwrap();
        assert_eq!(usage.look().await.unwrap().used, 1300);
    }
}
