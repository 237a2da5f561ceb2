//! One restore, as an operator does it, and what it gave.

use std::path::PathBuf;
use std::time::Duration;

use crate::history::{Event, RestoredContent};
use crate::journal;
use crate::stage::Stage;
use crate::tool::{Source, ToolError};

/// How long a restore of a small database may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A restore to be done.
pub(crate) struct Restore {
    /// Of which database.
    pub(crate) database: String,
    /// What history calls the place.
    pub(crate) origin: String,
    /// Where from.
    pub(crate) source: Source,
    /// Of which txid; the newest, if nothing.
    pub(crate) txid: Option<u64>,
    /// Whether everything was over before, and promised.
    pub(crate) at_rest: bool,
    /// The source at rest, to be compared with.
    pub(crate) copy: Option<PathBuf>,
}

impl Restore {
    /// Does it, looks at what it gave, and writes that down.
    ///
    /// # Errors
    /// The harness cannot do its part.
    pub(crate) fn carry_out(&self, stage: &Stage) -> anyhow::Result<()> {
        let directory = tempfile::tempdir_in(stage.scratch())?;
        let output = directory.path().join("restored.db");
        let (database, source, txid, at_rest) = (self.database.clone(), self.origin.clone(), self.txid, self.at_rest);
        let outcome = stage.tool().restore(stage.operator(), &self.source, txid, &output, LIMIT);
        let event = match outcome {
            Err(error) => {
                let message = error.to_string();
                if matches!(error, ToolError::Crashed(_)) {
                    let process = "seawall restore".to_owned();
                    stage.recorder().record(Event::Complained { process, line: message.clone() });
                }
                Event::RestoreFailed { database, source, txid, at_rest, message }
            }
            Ok(position) => {
                let found = journal::inspect(&output)?;
                let equals_source = match &self.copy {
                    Some(copy) => Some(journal::same_pages(&output, copy)?.is_none()),
                    None => None,
                };
                let (seq, chain, problem) = (found.seq, found.chain, found.problem);
                let content = RestoredContent { position, seq, chain, problem, equals_source };
                Event::Restored { database, source, txid, at_rest, content }
            }
        };
        stage.recorder().record(event);
        Ok(())
    }
}
