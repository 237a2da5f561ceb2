//! Asks an agent for promises, again and again, as an application that cares does.

use std::path::PathBuf;
use std::time::Duration;

use crate::history::{Event, Promise, Recorder};
use crate::net::Host;
use crate::tool::{Tool, ToolError};

/// Asks one agent for receipts of one database.
pub struct Syncs {
    /// The program.
    pub tool: Tool,
    /// Where the agent is.
    pub host: Host,
    /// What history calls it.
    pub agent: String,
    /// Its socket.
    pub socket: PathBuf,
    /// The database.
    pub database: String,
    /// Where it is written down.
    pub recorder: Recorder,
}

impl Syncs {
    /// Asks once, and writes down when it was asked and what came of it.
    ///
    /// # Errors
    /// It promised nothing.
    pub fn once(&self, receipt: &str, limit: Duration) -> Result<Promise, ToolError> {
        let sync = self.recorder.sync_began(&self.agent, &self.database, receipt);
        let outcome = self.tool.sync(&self.host, &self.socket, &self.database, receipt, limit);
        if let Err(error @ ToolError::Crashed(_)) = &outcome {
            self.recorder.record(Event::Complained { process: "seawall sync".to_owned(), line: error.to_string() });
        }
        self.recorder.record(match &outcome {
            Ok(promise) => Event::SyncPromised { sync, promise: promise.clone() },
            Err(error) => Event::SyncFailed { sync, message: error.to_string() },
        });
        outcome
    }
}
