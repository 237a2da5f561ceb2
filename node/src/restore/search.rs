//! What is known of the source while a restore goes on, and the chain that follows from it.

use std::collections::BTreeSet;

use seawall_proto::position::{Lineage, Position, Txid};

use super::apply::ApplyError;
use super::error::RestoreError;
use super::options::{RestoreOptions, When};
use super::outcome::Progress;
use super::plan::{self, Goal, Plan, PlanError};
use super::source::{Breadth, Listing, RestoreSource, SourceError, SourceObject};
use super::times::{self, Resolved};

/// How often a source that moves on is listed again.
const MAX_LISTINGS: usize = 20;

/// What is known of the source, and what of it proved unusable.
pub(super) struct Search<'a> {
    pub(super) source: &'a dyn RestoreSource,
    pub(super) progress: &'a dyn Progress,
    pub(super) options: &'a RestoreOptions,
    pub(super) listing: Listing,
    breadth: Breadth,
    /// Listed again since the last object turned out to be unusable.
    fresh: bool,
    listings: usize,
    bad: BTreeSet<(String, u32, String)>,
    damage: Vec<String>,
    warned: BTreeSet<String>,
    /// The state that a damaged object must not change any more.
    fixed: Option<(Lineage, Txid)>,
}

impl<'a> Search<'a> {
    pub(super) fn new(source: &'a dyn RestoreSource, progress: &'a dyn Progress, options: &'a RestoreOptions) -> Self {
        Self {
            source,
            progress,
            options,
            listing: Listing::default(),
            breadth: Breadth::Narrow,
            fresh: true,
            listings: 0,
            bad: BTreeSet::new(),
            damage: Vec::new(),
            warned: BTreeSet::new(),
            fixed: None,
        }
    }

    /// Lists the source; false if it has nothing.
    pub(super) async fn begin(&mut self) -> Result<bool, RestoreError> {
        self.list(Breadth::Narrow).await?;
        if self.listing.objects.is_empty() {
            self.list(Breadth::Wide).await?;
        }
        Ok(!self.listing.objects.is_empty())
    }

    async fn list(&mut self, breadth: Breadth) -> Result<(), RestoreError> {
        self.listings += 1;
        self.breadth = breadth;
        self.fresh = true;
        self.listing = self.source.list(breadth).await?;
        for warning in &self.listing.warnings {
            if self.warned.insert(warning.clone()) {
                self.progress.warn(warning);
            }
        }
        Ok(())
    }

    fn key(object: &SourceObject) -> (String, u32, String) {
        (object.origin.to_string(), object.route, object.name.to_string())
    }

    /// Remembers that an object did not serve. An error where that ends the restore.
    pub(super) async fn blame(&mut self, index: usize, error: ApplyError) -> Result<(), RestoreError> {
        let moved = match error {
            ApplyError::Disk(error) => return Err(RestoreError::Disk(error)),
            ApplyError::Source(error @ SourceError::Changed { .. }) => Some(error),
            ApplyError::Source(error) => {
                if matches!(error, SourceError::Unusable { .. }) {
                    let SourceObject { origin, route, .. } = self.listing.objects[index].clone();
                    let same = self.listing.objects.iter().filter(|o| o.origin == origin && o.route == route);
                    self.bad.extend(same.map(Self::key));
                }
                self.exclude(index, error.to_string());
                None
            }
            error @ ApplyError::Damaged { .. } => {
                self.exclude(index, error.to_string());
                None
            }
        };
        let Some(moved) = moved else { return Ok(()) };
        if self.listings >= MAX_LISTINGS {
            return Err(RestoreError::KeepsChanging(moved));
        }
        if self.options.when == When::Newest {
            self.fixed = None;
        }
        self.list(self.breadth).await
    }

    fn exclude(&mut self, index: usize, cause: String) {
        self.bad.insert(Self::key(&self.listing.objects[index]));
        self.progress.warn(&format!("{cause}; looking for another copy"));
        self.damage.push(cause);
        self.fresh = false;
        // What served the newest state a moment ago may have moved on with it. No less than the newest is taken for it:
        // the source names it.
        if self.options.when == When::Newest && self.listing.head.is_some() {
            self.fixed = None;
        }
    }

    /// The chain from `proven`, or else from nothing. Looks again, and further, before it gives up.
    pub(super) async fn plan(&mut self, proven: Option<Position>) -> Result<Plan, RestoreError> {
        loop {
            let error = match self.plan_once(proven).await {
                Ok(plan) => {
                    self.fixed = Some((plan.lineage, plan.target));
                    return Ok(plan);
                }
                Err(Attempt::Again) => continue,
                Err(Attempt::Failed(error)) => error,
            };
            if self.breadth == Breadth::Wide && self.fresh {
                return Err(error);
            }
            self.list(Breadth::Wide).await?;
        }
    }

    /// The rest of the way to where `plan` leads, from a state that is there already; `None` if it is not on the way,
    /// or the whole way is no longer.
    pub(super) fn plan_from(&self, reached: Position, plan: &Plan) -> Option<Plan> {
        let Listing { objects, head, .. } = &self.listing;
        if reached.lineage != plan.lineage || reached.txid > plan.target {
            return None;
        }
        let usable = |index: usize| !self.bad.contains(&Self::key(&objects[index]));
        let rest = plan::plan(objects, usable, plan.lineage, Some(reached.txid), Goal::Exactly(plan.target)).ok()?;
        if rest.steps.is_empty() {
            // No object will confirm the state: the source has to name it.
            let named = |object: &SourceObject| {
                let name = &object.name;
                let position = Position { lineage: name.lineage, txid: name.last, checksum: name.checksum_after };
                position == reached
            };
            return (*head == Some(reached) || objects.iter().any(named)).then_some(rest);
        }
        let bytes = |plan: &Plan| plan.steps.iter().map(|step| objects[step.object].size).sum::<u64>();
        (bytes(&rest) <= bytes(plan)).then_some(rest)
    }

    async fn plan_once(&mut self, proven: Option<Position>) -> Result<Plan, Attempt> {
        let origin = || self.source.describe().to_owned();
        let bad: Vec<bool> = self.listing.objects.iter().map(|object| self.bad.contains(&Self::key(object))).collect();
        let usable = |index: usize| !bad[index];
        let objects = &self.listing.objects;
        let newest = objects.iter().map(|object| object.name.lineage).max();
        let (lineage, goal) = match (self.fixed, self.options.when) {
            (Some((lineage, txid)), _) => (lineage, Goal::Exactly(txid)),
            (None, When::Time(time)) => {
                match times::resolve(self.source, objects, &usable, self.options.lineage, time).await {
                    Ok(Resolved::At(lineage, txid)) => {
                        if let Some(hidden) = hidden_after(objects, &usable, (lineage, txid), self.options.lineage) {
                            let (origin, damage) = (origin(), self.damage.clone());
                            return Err(Attempt::Failed(RestoreError::TimeHidden { origin, txid, hidden, damage }));
                        }
                        (lineage, Goal::Exactly(txid))
                    }
                    Ok(Resolved::TooEarly(oldest)) => return Err(Attempt::Failed(RestoreError::TooEarly(oldest))),
                    Err((index, error)) => {
                        self.blame(index, ApplyError::Source(error)).await.map_err(Attempt::Failed)?;
                        return Err(Attempt::Again);
                    }
                }
            }
            (None, when) => {
                let head = self.listing.head.map(|head| head.lineage);
                let lineage = self.options.lineage.or(head).or(newest).unwrap_or_default();
                let head = self.listing.head.filter(|head| head.lineage == lineage);
                match when {
                    When::Txid(txid) => (lineage, Goal::Exactly(txid)),
                    _ => (lineage, head.map_or(Goal::Newest, |head| Goal::Exactly(head.txid))),
                }
            }
        };
        let from = proven.filter(|proven| proven.lineage == lineage).map(|proven| proven.txid);
        let planned = plan::plan(objects, usable, lineage, from, goal);
        let planned = if from.is_some() && planned.is_err() && self.fresh && self.breadth == Breadth::Wide {
            plan::plan(objects, usable, lineage, None, goal)
        } else {
            planned
        };
        let plan = planned.map_err(|cause| {
            let damage = self.damage.clone();
            let head = self.listing.head.filter(|_| self.options.when == When::Newest);
            Attempt::Failed(match (head, &cause) {
                (Some(head), PlanError::Unreachable { below, .. }) => {
                    RestoreError::BehindHead { origin: origin(), head, reached: below.unwrap_or_default(), damage }
                }
                _ => RestoreError::NoChain { origin: origin(), cause, damage },
            })
        })?;
        if goal == Goal::Newest {
            let last = objects.iter().filter(|object| object.name.lineage == lineage).map(|object| object.name.last);
            if let Some(last) = last.max().filter(|last| *last > plan.target) {
                let (origin, target) = (origin(), plan.target);
                let message = format!(
                    "{origin} has objects up to txid {last}, but a gap after {target}: txid {target} is restored"
                );
                if self.warned.insert(message.clone()) {
                    self.progress.warn(&message);
                }
            }
        }
        Ok(plan)
    }
}

/// An unusable object that may hold the state which follows `state`, if no usable one does.
fn hidden_after(
    objects: &[SourceObject],
    usable: &impl Fn(usize) -> bool,
    state: (Lineage, Txid),
    only: Option<Lineage>,
) -> Option<String> {
    let next = state.1.next();
    if plan::reachable(objects, usable, state.0).iter().any(|reach| reach.txids.contains(&next)) {
        return None;
    }
    let hidden = objects.iter().enumerate().find(|(index, object)| {
        !usable(*index)
            && (object.name.lineage, object.name.last) > state
            && only.is_none_or(|only| object.name.lineage == only)
    });
    hidden.map(|(_, object)| format!("{} from {}", object.name, object.origin))
}

enum Attempt {
    /// Something was learned: plan again.
    Again,
    Failed(RestoreError),
}
