//! What a session lets its source do; SQLite is not for the runtime's threads.

use std::time::Duration;

use seawall_host::task;
use seawall_host::time::Instant;
use seawall_proto::position::PageNumber;

use super::{End, Session};
use crate::ship::driver::end_of;
use crate::ship::source::Step;

/// How often the whole database is compared with what was captured.
const SCRUB_EVERY: Duration = Duration::from_secs(24 * 3600);

impl Session<'_> {
    /// While nothing is captured the guard must not be where it slows the application down.
    pub(super) async fn stand_guard(&mut self) -> Result<(), End> {
        if !self.at_rest {
            return Ok(());
        }
        let Some(mut source) = self.source.take() else { return Ok(()) };
        let done = task::blocking(move || {
            let outcome = source.stand_guard();
            (source, outcome)
        })
        .await;
        let Ok((source, outcome)) = done else { return Ok(()) };
        outcome.map_err(end_of)?;
        self.at_rest = source.at_rest();
        self.source = Some(source);
        Ok(())
    }

    /// Lets the source do one step.
    pub(super) async fn step(&mut self) -> Result<Step, End> {
        let lost =
            || End::Reclaim { reason: "lost-task", error: "capture was interrupted".to_owned(), untrusted: false };
        let mut source = self.source.take().ok_or_else(lost)?;
        let done = task::blocking(move || {
            let step = source.step();
            (source, step)
        })
        .await;
        let (source, step) = done.map_err(|_| lost())?;
        let step = step.map_err(end_of)?;
        self.source = Some(source);
        self.at_rest = step.at_rest;
        Ok(step)
    }

    /// Says once what is known of the application's SQLite.
    pub(super) async fn warn(&mut self) -> Result<(), End> {
        let Some(source) = self.source.take() else { return Ok(()) };
        let done = task::blocking(move || {
            let warnings = source.warnings();
            (source, warnings)
        })
        .await;
        let Ok((source, warnings)) = done else { return Ok(()) };
        self.source = Some(source);
        if let Some(warnings) = warnings.map_err(end_of)? {
            self.warned = true;
            for warning in &warnings {
                tracing::warn!(database = %self.config.name, warning, "known defect");
            }
            self.shared.update(|status| status.warnings = warnings);
        }
        Ok(())
    }

    /// Compares some pages with what was captured, once a day; answers whether more are to come.
    pub(super) async fn scrub(&mut self) -> Result<bool, End> {
        let next = match self.scrub_next {
            Some(next) => next,
            None if self.scrubbed.elapsed() >= SCRUB_EVERY => PageNumber(1),
            None => return Ok(false),
        };
        let Some(source) = self.source.take() else { return Ok(false) };
        let done = task::blocking(move || {
            let outcome = source.scrub(next);
            (source, outcome)
        })
        .await;
        let Ok((source, outcome)) = done else { return Ok(false) };
        self.source = Some(source);
        self.scrub_next = outcome.map_err(end_of)?;
        if self.scrub_next.is_none() {
            self.scrubbed = Instant::now();
        }
        Ok(self.scrub_next.is_some())
    }
}
