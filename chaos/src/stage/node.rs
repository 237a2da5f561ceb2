//! A node of a run: its configuration, its disk, its clock, its service.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{FaultyDisk, SmallDisk};
use crate::history::Recorder;
use crate::net::Host;
use crate::process::Launch;
use crate::scenario::{NodeDisk, Scenario};
use crate::service::Service;
use crate::tool::Tool;

use super::clock::Clock;

/// What a disk of the harness can hold.
pub const FAULTY_DISK_BYTES: u64 = 4 << 30;

/// Where nodes listen, and where they show their metrics.
pub(super) const PORT: u16 = 7400;
const HTTP_PORT: u16 = 7480;

/// What a node's data directory is on.
pub enum NodeStorage {
    /// A directory of the machine.
    Plain,
    /// A disk of the harness.
    Faulty(FaultyDisk),
    /// A small file system.
    Small(SmallDisk),
}

/// A node.
pub struct Node {
    /// Its program.
    pub service: Service,
    /// What its data is on.
    pub storage: NodeStorage,
    /// Its clock, if that can be stepped.
    pub clock: Option<Arc<Clock>>,
    id: u8,
    disk: PathBuf,
    configuration: PathBuf,
}

impl Node {
    /// Prepares node `id` in `directory`; `cluster` are the hosts of all, in order, and `destinations` is that section of the
    /// configuration. It does not run yet.
    pub(super) fn prepare(
        id: u8,
        directory: &Path,
        scenario: &Scenario,
        cluster: &[Host],
        destinations: &str,
        tool: &Tool,
        recorder: &Recorder,
    ) -> io::Result<Self> {
        let name = format!("node-{id}");
        let host = cluster[usize::from(id) - 1].clone();
        let disk = directory.join("disk");
        fs::create_dir_all(&disk)?;
        let storage = match scenario.node_disk {
            NodeDisk::Plain => NodeStorage::Plain,
            NodeDisk::Faulty => NodeStorage::Faulty(FaultyDisk::mount(&disk, FAULTY_DISK_BYTES)?),
            NodeDisk::Small(mebibytes) => NodeStorage::Small(SmallDisk::mount(&disk, u64::from(mebibytes) << 20)?),
        };
        let configuration = directory.join("node.yml");
        fs::write(&configuration, configure(id, scenario, cluster, destinations))?;
        let clock = scenario.stepped_clocks.then(|| Clock::new(directory.join("clock"))).transpose()?.map(Arc::new);
        let (log, program) = (directory.join("node.log"), tool.program().to_owned());
        let (environment, stepped, config, label) =
            (tool.environment().to_vec(), clock.clone(), configuration.clone(), name.clone());
        let service = Service::new(name, host, recorder.clone(), move || {
            let mut launch = Launch::new(&label, &program, &log).arguments([
                "node".as_ref(),
                "--config".as_ref(),
                config.as_os_str(),
            ]);
            for (key, value) in &environment {
                launch = launch.environment(key, value);
            }
            Ok(stepped.iter().fold(launch, |launch, clock| clock.wear(launch)))
        });
        Ok(Self { service, storage, clock, id, disk, configuration })
    }

    /// Its id in the cluster.
    pub fn id(&self) -> u8 {
        self.id
    }

    /// Its `node.yml`.
    pub fn configuration(&self) -> &Path {
        &self.configuration
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.disk.join("data")
    }

    /// Bytes in its data directory.
    pub fn disk_bytes(&self) -> u64 {
        match &self.storage {
            // It is not looked through: that would wait for its stalls.
            NodeStorage::Faulty(disk) => disk.used_bytes(),
            NodeStorage::Plain | NodeStorage::Small(_) => bytes_below(&self.data()),
        }
    }

    /// Takes the data directory away, or puts it back. The node must not run.
    ///
    /// # Errors
    /// Renaming failed.
    pub fn set_data_away(&self, away: bool) -> io::Result<()> {
        let (data, aside) = (self.data(), self.disk.join("data-aside"));
        if away {
            return fs::rename(data, aside);
        }
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        fs::rename(aside, data)
    }
}

/// Bytes of the files below a directory. What vanishes meanwhile does not count.
fn bytes_below(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

fn configure(id: u8, scenario: &Scenario, cluster: &[Host], destinations: &str) -> String {
    let own = cluster[usize::from(id) - 1].address();
    let list: String = (1..)
        .zip(cluster)
        .map(|(id, host)| format!("    - {{ id: {id}, address: \"{}:{PORT}\" }}\n", host.address()))
        .collect();
    let disk: String = scenario.disk.iter().map(|(key, value)| format!("  {key}: {value}\n")).collect();
    let disk = if disk.is_empty() { disk } else { format!("disk:\n{disk}") };
    format!(
        "node: {{ id: {id}, data-dir: disk/data, listen: \"{own}:{PORT}\", http: \"{own}:{HTTP_PORT}\" }}\n\
         cluster:\n  name: chaos\n  nodes:\n{list}{disk}destinations:\n{destinations}"
    )
}
