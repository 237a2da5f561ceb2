//! A restore from beginning to end.

use futures::future::{Either, select};
use seawall_host::time::Instant;
use seawall_host::{disk, process};

use super::assemble::Assembly;
use super::error::RestoreError;
use super::estimate::estimate;
use super::options::RestoreOptions;
use super::outcome::{Outcome, PlannedObject, Progress, Restored};
use super::plan::Plan;
use super::search::Search;
use super::source::{RestoreSource, SourceObject};
use super::target::Target;

/// Restores a database.
///
/// # Errors
/// [`RestoreError`]; what was at the output is untouched then. Nothing is left behind but what
/// [`RestoreError::Kept`] names.
pub async fn restore(
    source: &dyn RestoreSource,
    options: &RestoreOptions,
    progress: &dyn Progress,
) -> Result<Outcome, RestoreError> {
    let started = Instant::now();
    if options.if_db_not_exists && disk::exists(&options.output).await.map_err(RestoreError::Disk)? {
        return Ok(Outcome::DatabaseExists);
    }
    if !options.dry_run {
        Target::check(&options.output, options.force).await?;
    }
    let mut search = Search::new(source, progress, options);
    if !search.begin().await? {
        let empty = || RestoreError::Empty(source.describe().to_owned());
        return if options.if_replica_exists { Ok(Outcome::NothingToRestore) } else { Err(empty()) };
    }
    let plan = search.plan(None).await?;
    if options.dry_run {
        return Ok(show(&search, &plan).await);
    }
    let (target, file) = Target::prepare(&options.output, options.force).await?;
    let mut assembly = Assembly::new(&mut search, &target, file, &plan);
    let filled = {
        let work = std::pin::pin!(assembly.run(plan));
        let termination = std::pin::pin!(process::termination());
        match select(work, termination).await {
            Either::Left((filled, _)) => filled,
            Either::Right(((), _)) => Err(RestoreError::Interrupted),
        }
    };
    let filled = match filled {
        Err(cause) if cause.may_pass() && assembly.keep().await => {
            let (file, state) = assembly.kept();
            return Err(RestoreError::Kept { cause: Box::new(cause), file, state });
        }
        Err(error) => {
            assembly.forget().await;
            Err(error)
        }
        filled => filled,
    };
    // Not interruptible: between removing old sidecars and the rename there is no way back.
    let published = match filled {
        Ok(restored) => target.publish().await.map(|()| restored).map_err(RestoreError::from),
        Err(error) => Err(error),
    };
    match published {
        Ok(restored) => Ok(Outcome::Restored(Restored { duration: started.elapsed(), ..restored })),
        Err(error) => {
            target.discard().await;
            Err(error)
        }
    }
}

/// What a dry run tells.
async fn show(search: &Search<'_>, plan: &Plan) -> Outcome {
    let planned = plan
        .steps
        .iter()
        .map(|step| PlannedObject { object: search.listing.objects[step.object].clone(), until: step.until });
    let objects: Vec<PlannedObject> = planned.collect();
    let read: Vec<&SourceObject> = objects.iter().map(|planned| &planned.object).collect();
    let estimate = match estimate(search.source, &read).await {
        Ok(estimate) => Some(estimate),
        Err(error) => {
            search.progress.warn(&format!("{error}; there is no estimate"));
            None
        }
    };
    Outcome::Planned { lineage: plan.lineage, txid: plan.target, objects, estimate }
}
