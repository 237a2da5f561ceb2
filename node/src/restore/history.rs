//! What a source can give back: which states, of which times, from what, and what is missing between them.

use std::collections::BTreeMap;
use std::sync::Arc;

use seawall_host::time::UnixMillis;
use seawall_proto::object_name::Level;
use seawall_proto::position::{Lineage, Position, Txid};

use super::error::RestoreError;
use super::plan::{self, Reach, is_snapshot, keeps_transactions};
use super::source::{Breadth, Listing, RestoreSource, SourceObject, lineages};
use super::times;

/// States that can be restored, with nothing lost between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first of them.
    pub first: Txid,
    /// The last of them.
    pub last: Txid,
    /// How many they are: every transaction from the first to the last, or fewer where transactions were merged.
    pub states: u64,
    /// Objects that hold the first and the last of them, as indexes.
    objects: (usize, usize),
}

/// Transactions whose states are lost: nothing that is there leads to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub first: Txid,
    /// The last of them.
    pub last: Txid,
}

/// A run and its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedRun {
    /// The states.
    pub run: Run,
    /// Commit time of the first; `None` if it could not be read.
    pub from: Option<UnixMillis>,
    /// Commit time of the last; `None` if it could not be read.
    pub to: Option<UnixMillis>,
}

/// The objects of one level in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelTotal {
    /// Where they lie.
    pub origin: Arc<str>,
    /// Their level.
    pub level: Level,
    /// How many they are.
    pub objects: u64,
    /// Their size in bytes; an estimate for a node's image.
    pub bytes: u64,
}

/// One lineage of a database, as a source has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineageHistory {
    /// Which.
    pub lineage: Lineage,
    /// What can be restored, ascending.
    pub runs: Vec<TimedRun>,
    /// What lies between the runs and is lost, ascending.
    pub gaps: Vec<Gap>,
    /// What it is made of.
    pub levels: Vec<LevelTotal>,
}

/// What a source can give back of a database.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Every lineage, ascending; empty if the source has nothing.
    pub lineages: Vec<LineageHistory>,
    /// The newest state, where the source knows it.
    pub head: Option<Position>,
    /// What could not be looked at.
    pub warnings: Vec<String>,
}

/// Lists what `source`, and every place behind it, can give back. Objects are taken at their names' word; only what is
/// needed to tell the times is read.
///
/// # Errors
/// [`RestoreError::Source`] if it cannot be listed.
pub async fn history(source: &dyn RestoreSource) -> Result<History, RestoreError> {
    let listing = source.list(Breadth::Wide).await?;
    Ok(history_of(source, listing).await)
}

/// As [`history`], of what `source` was found to have.
pub(super) async fn history_of(source: &dyn RestoreSource, listing: Listing) -> History {
    let objects = &listing.objects;
    let mut history = History { head: listing.head, warnings: listing.warnings, ..History::default() };
    for lineage in lineages(objects) {
        let (runs, gaps) = runs(objects, lineage);
        let mut timed = Vec::new();
        for run in runs {
            let mut time = [None, None];
            for (slot, (txid, object)) in time.iter_mut().zip([(run.first, run.objects.0), (run.last, run.objects.1)]) {
                match times::of_state(source, &objects[object], txid).await {
                    Ok(found) => *slot = Some(found),
                    Err(error) => history.warnings.push(error.to_string()),
                }
            }
            timed.push(TimedRun { run, from: time[0], to: time[1] });
        }
        history.lineages.push(LineageHistory { lineage, runs: timed, gaps, levels: totals(objects, lineage) });
    }
    history
}

/// The objects of `lineage`, summed up.
fn totals(objects: &[SourceObject], lineage: Lineage) -> Vec<LevelTotal> {
    let mut totals: BTreeMap<(Arc<str>, Level), (u64, u64)> = BTreeMap::new();
    for object in objects.iter().filter(|object| object.name.lineage == lineage) {
        let (count, bytes) = totals.entry((Arc::clone(&object.origin), object.name.level)).or_default();
        (*count, *bytes) = (*count + 1, bytes.saturating_add(object.size));
    }
    let total = |((origin, level), (objects, bytes))| LevelTotal { origin, level, objects, bytes };
    totals.into_iter().map(total).collect()
}

/// The states of `lineage` that can be restored, and what is lost between them.
fn runs(objects: &[SourceObject], lineage: Lineage) -> (Vec<Run>, Vec<Gap>) {
    let reaches = plan::reachable(objects, &|_| true, lineage);
    // Where merged objects end, and how far back the longest of each reaches.
    let mut bridges: BTreeMap<Txid, Txid> = BTreeMap::new();
    for reach in &reaches {
        let object = &objects[reach.object];
        if !keeps_transactions(object) && !is_snapshot(object) {
            let first = bridges.entry(*reach.txids.end()).or_insert(object.name.first);
            *first = object.name.first.min(*first);
        }
    }
    let is_bridged = |last: Txid, next: Txid| bridges.range(next..).any(|(_, first)| *first <= last.next());
    let (mut runs, mut gaps): (Vec<Run>, Vec<Gap>) = (Vec::new(), Vec::new());
    for closed in every_transaction(&reaches) {
        let Some(before) = runs.last_mut() else {
            runs.push(closed);
            continue;
        };
        if !is_bridged(before.last, closed.first) {
            gaps.push(Gap { first: before.last.next(), last: Txid(closed.first.0 - 1) });
            runs.push(closed);
        } else if closed.states == 1 && (before.states == 1 || !before.has_every_transaction()) {
            before.last = closed.last;
            before.states += 1;
            before.objects.1 = closed.objects.1;
        } else {
            runs.push(closed);
        }
    }
    (runs, gaps)
}

/// Unites what adjoins or overlaps.
fn every_transaction(reaches: &[Reach]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for Reach { object, txids } in reaches {
        let (first, last) = (*txids.start(), *txids.end());
        match runs.last_mut().filter(|run| first <= run.last.next()) {
            Some(run) if last > run.last => {
                run.last = last;
                run.objects.1 = *object;
            }
            Some(_) => {}
            None => runs.push(Run { first, last, states: 0, objects: (*object, *object) }),
        }
    }
    runs.iter_mut().for_each(|run| run.states = run.last.0 - run.first.0 + 1);
    runs
}

impl Run {
    /// Whether every transaction from the first to the last can be restored.
    pub fn has_every_transaction(&self) -> bool {
        self.states == self.last.0 - self.first.0 + 1
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
