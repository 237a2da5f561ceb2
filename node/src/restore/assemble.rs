//! Putting a database together in the temporary file, and proving it.

use std::time::Duration;

use seawall_host::disk::File;
use seawall_host::probe::sometimes;
use seawall_host::time::UnixMillis;
use seawall_proto::position::{Position, Txid};

use super::apply::{Applier, ApplyError};
use super::error::RestoreError;
use super::integrity;
use super::options::When;
use super::outcome::Restored;
use super::plan::Plan;
use super::read_ahead::ReadAhead;
use super::resume::Checkpoints;
use super::search::Search;
use super::source::SourceObject;
use super::target::Target;

/// A database under construction.
pub(super) struct Assembly<'a, 's> {
    search: &'a mut Search<'s>,
    target: &'a Target,
    applier: Applier,
    checkpoints: Checkpoints,
    /// Where its bytes came from, in the order of use.
    sources: Vec<String>,
    /// What an interrupted restore left, until an object confirms it.
    unconfirmed: Option<Position>,
}

/// How the objects of a plan were applied.
enum Applied {
    Whole,
    /// One did not serve; another plan is needed.
    Partly,
    /// What an interrupted restore left is of no use.
    Misled,
}

impl<'a, 's> Assembly<'a, 's> {
    /// Nothing yet, in `file`, the temporary file of `target`.
    pub(super) fn new(search: &'a mut Search<'s>, target: &'a Target, file: File, plan: &Plan) -> Self {
        let checkpoints = Checkpoints::new(target, search.options);
        let applier = Applier::new(file, plan.lineage);
        Self { search, target, applier, checkpoints, sources: Vec::new(), unconfirmed: None }
    }

    /// Carries out `plan`, or what takes its place when an object does not serve.
    pub(super) async fn run(&mut self, mut plan: Plan) -> Result<Restored, RestoreError> {
        if let Some(shorter) = self.resume(&plan).await? {
            plan = shorter;
        }
        loop {
            match self.apply(&plan).await? {
                // Pages that nothing wrote again: what was resumed from is not on the way to this state.
                Applied::Whole if self.applier.owes() => plan = self.begin_anew().await?,
                Applied::Whole => break,
                Applied::Partly => plan = self.plan_again().await?,
                Applied::Misled => plan = self.begin_anew().await?,
            }
        }
        let restored = self.prove().await?;
        self.checkpoints.remove().await;
        Ok(restored)
    }

    /// The restore failed: keeps what the next one can go on from. False if that is nothing.
    pub(super) async fn keep(&mut self) -> bool {
        self.checkpoints.keep(&mut self.applier).await
    }

    /// What is kept: the temporary file, and the file beside it.
    pub(super) fn kept(&self) -> (String, String) {
        (self.target.temporary().display().to_string(), self.checkpoints.path().display().to_string())
    }

    /// Removes what says how far this restore came.
    pub(super) async fn forget(&mut self) {
        self.checkpoints.forget().await;
    }

    /// Takes over what an interrupted restore left, if it is on the way; answers the rest of the way.
    async fn resume(&mut self, plan: &Plan) -> Result<Option<Plan>, RestoreError> {
        let Some(checkpoint) = self.checkpoints.find().await else { return Ok(None) };
        let position = checkpoint.position;
        let Some(rest) = self.search.plan_from(position, plan) else {
            self.search.progress.warn(&format!(
                "what an interrupted restore left, {position}, is not on the way to lineage {} txid {}: beginning anew",
                plan.lineage, plan.target
            ));
            return Ok(None);
        };
        if !self.applier.resume(checkpoint).await.map_err(RestoreError::Disk)? {
            self.applier.restart(plan.lineage).await.map_err(RestoreError::Disk)?;
            return Ok(None);
        }
        sometimes("restore resumed");
        self.search.progress.warn(&format!("going on from {position}, which an interrupted restore reached"));
        self.checkpoints.resumed(position);
        self.unconfirmed = (!rest.steps.is_empty()).then_some(position);
        Ok(Some(rest))
    }

    async fn apply(&mut self, plan: &Plan) -> Result<Applied, RestoreError> {
        let Self { search, applier, checkpoints, sources, .. } = self;
        let listed = &search.listing.objects;
        search.progress.planned(plan.steps.iter().map(|step| listed[step.object].size).sum());
        let objects = plan.steps.iter().map(|step| &listed[step.object]);
        let mut reading = ReadAhead::start(search.source, objects, search.options.read_limits());
        for (number, step) in plan.steps.iter().enumerate() {
            let object: SourceObject = search.listing.objects[step.object].clone();
            let read = |bytes| {
                search.progress.read(bytes as u64);
                checkpoints.count(bytes as u64);
            };
            let applied = applier.apply(&object, number, step.until, &mut reading, read).await;
            if applier.position().txid > step.from && !sources.contains(&object.origin.to_string()) {
                sources.push(object.origin.to_string());
                if sources.len() > 1 {
                    sometimes("restore read from a second source");
                }
            }
            if self.unconfirmed.is_some_and(|position| position != applier.position()) {
                self.unconfirmed = None;
            }
            match applied {
                Ok(()) => checkpoints.pass(applier).await.map_err(RestoreError::Disk)?,
                // The object may be right, and what it should have continued wrong.
                Err(ApplyError::Damaged { .. }) if self.unconfirmed.is_some() => return Ok(Applied::Misled),
                Err(error) => {
                    search.blame(step.object, error).await?;
                    return Ok(Applied::Partly);
                }
            }
        }
        Ok(Applied::Whole)
    }

    /// Goes on from what is proven; where that leads nowhere, or part of a transaction lies in the file, from nothing.
    async fn plan_again(&mut self) -> Result<Plan, RestoreError> {
        sometimes("restore planned again");
        let reached = self.applier.position();
        let proven = (!self.applier.is_torn() && reached.txid > Txid::NONE).then_some(reached);
        let plan = self.search.plan(proven).await?;
        if proven.is_none() || plan.steps.first().is_some_and(|step| step.from != reached.txid) {
            self.unconfirmed = None;
            self.checkpoints.forget().await;
            self.applier.restart(plan.lineage).await.map_err(RestoreError::Disk)?;
        }
        Ok(plan)
    }

    async fn begin_anew(&mut self) -> Result<Plan, RestoreError> {
        sometimes("resumed restore began anew");
        self.search.progress.warn("what an interrupted restore left does not lead there: beginning anew");
        self.unconfirmed = None;
        self.checkpoints.forget().await;
        let plan = self.search.plan(None).await?;
        self.applier.restart(plan.lineage).await.map_err(RestoreError::Disk)?;
        Ok(plan)
    }

    async fn prove(&mut self) -> Result<Restored, RestoreError> {
        let position = self.applier.position();
        if let Some(head) = self.search.listing.head
            && self.search.options.when == When::Newest
            && head.lineage == position.lineage
            && head != position
        {
            return Err(RestoreError::WrongState { reached: position, head });
        }
        let temporary = self.target.temporary();
        if !self.applier.finish().await.map_err(RestoreError::Disk)? {
            return Err(RestoreError::DiskLies(temporary.display().to_string()));
        }
        integrity::check(temporary, self.search.options.integrity_check).await.map_err(RestoreError::Integrity)?;
        Ok(Restored {
            position,
            time: UnixMillis(self.applier.commit_time_ms()),
            size: self.applier.size(),
            sources: self.sources.clone(),
            duration: Duration::ZERO,
        })
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "what is on the real disk is judged from outside")]
#[path = "assemble_tests.rs"]
mod tests;
