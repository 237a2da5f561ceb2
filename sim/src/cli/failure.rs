//! A failed run, told so that a reader can act on it.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::arguments::replay_command;
use crate::run::{RunOptions, RunReport};

/// What failed, and how to see it again.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Failure {
    pub(super) options: RunOptions,
    /// The property in words.
    pub(super) property: String,
    /// What was seen instead.
    pub(super) text: String,
    /// Virtual seconds since the world began, unless the process was lost with them.
    pub(super) at: Option<f64>,
    /// What the seed chose, unless the process was lost with it.
    pub(super) configuration: Option<String>,
    /// The command that shows it again.
    pub(super) replay: String,
}

impl Failure {
    /// The failure that `report` tells of, if any.
    pub(super) fn of(options: &RunOptions, report: &RunReport) -> Option<Self> {
        let violation = report.outcome.as_ref().err()?;
        Some(Self {
            options: options.clone(),
            property: violation.property.clone(),
            text: violation.text.clone(),
            at: Some(violation.at.as_secs_f64()),
            configuration: Some(report.configuration.clone()),
            replay: replay_command(options),
        })
    }

    /// A run whose process was lost: `property` is what that broke.
    pub(super) fn lost(options: &RunOptions, property: &str, text: String) -> Self {
        Self {
            options: options.clone(),
            property: property.to_owned(),
            text,
            at: None,
            configuration: None,
            replay: replay_command(options),
        }
    }

    /// When it showed, in virtual time.
    pub(super) fn at(&self) -> Option<Duration> {
        self.at.and_then(|at| Duration::try_from_secs_f64(at).ok())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "FAILED     seed {}", self.options.seed)?;
        writeln!(f, "violated   {}", self.property)?;
        writeln!(f, "seen       {}", indented(&self.text))?;
        match self.at {
            Some(at) => writeln!(f, "at         {at:.6} virtual seconds")?,
            None => writeln!(f, "at         unknown: the process was lost")?,
        }
        if let Some(configuration) = &self.configuration {
            writeln!(f, "with       {}", indented(configuration))?;
        }
        write!(f, "replay     {}", self.replay)
    }
}

/// Later lines under the first one, beside the labels.
fn indented(text: &str) -> String {
    text.trim_end().replace('\n', "\n           ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Violation, run_seed};

    #[test]
    fn a_failure_tells_seed_configuration_property_time_and_command() {
        let options = RunOptions { nodes: Some(3), ..RunOptions::new(42) };
        let mut report = run_seed(&options);
        report.configuration = "3 nodes, 1 agent\nfaults: loss".into();
        report.outcome = Err(Violation {
            property: "no acknowledged write is lost".into(),
            text: "txid 7 of app is gone".into(),
            at: Duration::from_millis(12_500),
        });
        assert_eq!(
            Failure::of(&options, &report).unwrap().to_string(),
            "FAILED     seed 42\n\
             violated   no acknowledged write is lost\n\
             seen       txid 7 of app is gone\n\
             at         12.500000 virtual seconds\n\
             with       3 nodes, 1 agent\n           faults: loss\n\
             replay     cargo run --release -p sim -- replay 42 --nodes 3"
        );
        report.outcome = Ok(());
        assert_eq!(Failure::of(&options, &report), None);
    }
}
