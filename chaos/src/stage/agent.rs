//! An agent of a run, beside a database.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::history::Recorder;
use crate::net::Host;
use crate::process::Launch;
use crate::service::Service;
use crate::tool::Tool;

/// What all agents of a run have in common.
pub(super) struct Surroundings<'a> {
    /// The nodes' addresses.
    pub(super) cluster: &'a [String],
    /// The program.
    pub(super) tool: &'a Tool,
    /// Where it is written down how they end.
    pub(super) recorder: &'a Recorder,
}

/// An agent and the database that it ships.
pub struct Agent {
    /// Its program.
    pub service: Service,
    /// The database's name in the cluster.
    pub database: String,
    /// The SQLite file.
    pub path: PathBuf,
    /// Its socket.
    pub socket: PathBuf,
}

impl Agent {
    /// Prepares an agent `name` on `host`, in `directory`, for the database at `path`. It does not run yet.
    pub(super) fn prepare(
        name: &str,
        host: Host,
        directory: &Path,
        (database, path): (&str, &Path),
        surroundings: &Surroundings<'_>,
        takes_over: bool,
    ) -> io::Result<Self> {
        let Surroundings { cluster, tool, recorder } = *surroundings;
        fs::create_dir_all(directory)?;
        let configuration = directory.join(format!("{name}.yml"));
        let socket = directory.join(format!("{name}.sock"));
        let nodes: String = cluster.iter().map(|address| format!("  - \"{address}\"\n")).collect();
        let text = format!(
            "cluster:\n{nodes}socket: \"{}\"\ndbs:\n  - {{ path: \"{}\", name: \"{database}\" }}\n",
            socket.display(),
            path.display()
        );
        fs::write(&configuration, text)?;
        let (log, program, label) = (directory.join(format!("{name}.log")), tool.program().to_owned(), name.to_owned());
        let environment = tool.environment().to_vec();
        let service = Service::new(name, host, recorder.clone(), move || {
            let launch = Launch::new(&label, &program, &log)
                .arguments(["agent", "--log-format", "json", "--log-level", "info", "--config"])
                .arguments([&configuration])
                .arguments(takes_over.then_some("--take-over"));
            Ok(environment.iter().fold(launch, |launch, (key, value)| launch.environment(key, value)))
        });
        Ok(Self { service, database: database.to_owned(), path: path.to_owned(), socket })
    }
}
