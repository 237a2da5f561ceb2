//! A restore from beginning to end.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use futures::future::{Either, select};
use seawall_host::disk::{self, File};
use seawall_host::probe::sometimes;
use seawall_host::process;
use seawall_host::time::{Instant, UnixMillis};
use seawall_proto::position::{Lineage, Position, Txid};

use super::apply::{Applier, ApplyError};
use super::integrity::{self, IntegrityCheck};
use super::plan::{self, Goal, Plan, PlanError};
use super::source::{Breadth, Listing, RestoreSource, SourceError, SourceObject};
use super::target::{Target, TargetError};
use super::times::{self, Resolved};

/// How often a source that moves on is listed again.
const MAX_LISTINGS: usize = 20;

/// Which state is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// The newest.
    #[default]
    Newest,
    /// Exactly this one.
    Txid(Txid),
    /// The last one committed at or before this time.
    Time(UnixMillis),
}

/// What a restore is told.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// The file it is to give.
    pub output: PathBuf,
    /// The state.
    pub when: When,
    /// In which history; the newest one (with a time: the newest that reaches back to it) unless told.
    pub lineage: Option<Lineage>,
    /// Replace what is at the output.
    pub force: bool,
    /// Let SQLite check the result.
    pub integrity_check: IntegrityCheck,
    /// Do nothing if the output exists.
    pub if_db_not_exists: bool,
    /// Do nothing if the source has nothing.
    pub if_replica_exists: bool,
    /// Plan only.
    pub dry_run: bool,
}

impl RestoreOptions {
    /// The newest state, to `output`, with the defaults of the command line.
    pub fn new(output: impl Into<PathBuf>) -> Self {
        Self {
            output: output.into(),
            when: When::Newest,
            lineage: None,
            force: false,
            integrity_check: IntegrityCheck::None,
            if_db_not_exists: false,
            if_replica_exists: false,
            dry_run: false,
        }
    }
}

/// Hears how a restore goes on.
pub trait Progress: Send + Sync {
    /// So many bytes are to be read from now on.
    fn planned(&self, bytes: u64);
    /// So many more were read.
    fn read(&self, bytes: u64);
    /// Something the operator should know.
    fn warn(&self, message: &str);
}

/// One object that a plan reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedObject {
    /// The object.
    pub object: SourceObject,
    /// The last transaction taken from it.
    pub until: Txid,
}

/// What a restore gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The exact state.
    pub position: Position,
    /// Commit time of its last transaction.
    pub time: UnixMillis,
    /// The file's size in bytes.
    pub size: u64,
    /// Where its bytes came from, in the order of use.
    pub sources: Vec<String>,
    /// How long it took.
    pub duration: Duration,
}

/// How a restore ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The file is in place.
    Restored(Restored),
    /// A dry run: what would be read.
    Planned {
        /// The history.
        lineage: Lineage,
        /// The state.
        txid: Txid,
        /// The objects in order.
        objects: Vec<PlannedObject>,
    },
    /// The output exists, and nothing was to be done then.
    DatabaseExists,
    /// The source has nothing, and nothing was to be done then.
    NothingToRestore,
}

/// Why a restore gave nothing. Nothing was left behind.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The output cannot be written.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The source has nothing.
    #[error("{0} holds nothing to restore; check the name of the database (--if-replica-exists takes this as success)")]
    Empty(String),
    /// No chain of objects leads there.
    #[error("{origin}: {cause}{}", list(damage))]
    NoChain {
        /// Where.
        origin: String,
        /// Why not.
        cause: PlanError,
        /// What was found damaged or unreadable on the way.
        damage: Vec<String>,
    },
    /// The newest state is known, and the objects do not lead to it.
    #[error("{origin}: the newest state is {head}, and what is there leads to txid {reached} only{}", list(damage))]
    BehindHead {
        /// Where.
        origin: String,
        /// The newest state.
        head: Position,
        /// What can be rebuilt.
        reached: Txid,
        /// What was found damaged or unreadable on the way.
        damage: Vec<String>,
    },
    /// The last transaction at that time may be one that cannot be read.
    #[error(
        "{origin}: the last transaction then may be in {hidden}, which cannot be read; txid {txid} is the last one          before it: restore that by --txid if it will do{}",
        list(damage)
    )]
    TimeHidden {
        /// Where.
        origin: String,
        /// The last state known to be old enough.
        txid: Txid,
        /// What may hold a later one.
        hidden: String,
        /// What was found damaged or unreadable on the way.
        damage: Vec<String>,
    },
    /// Everything is younger than the time asked for.
    #[error("nothing as old as that can be rebuilt{}", oldest(*.0))]
    TooEarly(Option<UnixMillis>),
    /// The source kept moving on.
    #[error("{0}; it kept doing so: try again when it is quieter, or name a --txid")]
    KeepsChanging(SourceError),
    /// The restored state is not the one the source named.
    #[error("the restored state is {reached}, the source says {head}: one of its copies is wrong")]
    WrongState {
        /// What was restored.
        reached: Position,
        /// What the source says.
        head: Position,
    },
    /// The disk does not give back what was written to it.
    #[error("{0} does not read back as it was written: check the disk")]
    DiskLies(String),
    /// SQLite finds fault with the restored database.
    #[error("the restored database is the source's content, checksum and all, but SQLite complains: {0}")]
    Integrity(String),
    /// The temporary file.
    #[error(transparent)]
    Disk(std::io::Error),
    /// The program was asked to stop.
    #[error("interrupted")]
    Interrupted,
}

fn list(damage: &[String]) -> String {
    damage.iter().fold(String::new(), |text, one| text + "\n  " + one)
}

fn oldest(time: Option<UnixMillis>) -> String {
    time.map_or_else(String::new, |time| format!("; the oldest state is of {}", super::show_time(time)))
}

/// Restores a database.
///
/// # Errors
/// [`RestoreError`]; nothing is left behind then, and what was at the output is untouched.
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
        let objects = plan
            .steps
            .iter()
            .map(|step| PlannedObject { object: search.listing.objects[step.object].clone(), until: step.until });
        return Ok(Outcome::Planned { lineage: plan.lineage, txid: plan.target, objects: objects.collect() });
    }
    let (target, file) = Target::prepare(&options.output, options.force).await?;
    let filled = {
        let work = std::pin::pin!(fill(&mut search, plan, &target, file));
        let termination = std::pin::pin!(process::termination());
        match select(work, termination).await {
            Either::Left((filled, _)) => filled,
            Either::Right(((), _)) => Err(RestoreError::Interrupted),
        }
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

/// Puts the database together in the temporary file, and proves it.
async fn fill(search: &mut Search<'_>, mut plan: Plan, target: &Target, file: File) -> Result<Restored, RestoreError> {
    let mut applier = Applier::new(file.clone(), plan.lineage);
    let mut sources: Vec<String> = Vec::new();
    loop {
        let bytes = plan.steps.iter().map(|step| search.listing.objects[step.object].size).sum();
        search.progress.planned(bytes);
        let mut interrupted = false;
        for step in &plan.steps {
            let object = search.listing.objects[step.object].clone();
            let stream = search.source.read(&object);
            let applied = applier.apply(&object, step.until, stream, |bytes| search.progress.read(bytes as u64)).await;
            if applier.position().txid > step.from && !sources.contains(&object.origin.to_string()) {
                sources.push(object.origin.to_string());
                if sources.len() > 1 {
                    sometimes("restore read from a second source");
                }
            }
            if let Err(error) = applied {
                search.blame(step.object, error).await?;
                interrupted = true;
                break;
            }
        }
        if !interrupted {
            break;
        }
        sometimes("restore planned again");
        // Go on from what is proven; where that leads nowhere, or part of a transaction lies in the file, start again.
        let reached = applier.position();
        let proven = (!applier.is_torn() && reached.txid > Txid::NONE).then_some(reached);
        plan = search.plan(proven).await?;
        if proven.is_none() || plan.steps.first().is_some_and(|step| step.from != reached.txid) {
            applier = Applier::new(file.clone(), plan.lineage);
        }
    }
    let position = applier.position();
    if let Some(head) = search.listing.head
        && search.options.when == When::Newest
        && head.lineage == position.lineage
        && head != position
    {
        return Err(RestoreError::WrongState { reached: position, head });
    }
    if !applier.finish().await.map_err(RestoreError::Disk)? {
        return Err(RestoreError::DiskLies(target.temporary().display().to_string()));
    }
    integrity::check(target.temporary(), search.options.integrity_check).await.map_err(RestoreError::Integrity)?;
    Ok(Restored {
        position,
        time: UnixMillis(applier.commit_time_ms()),
        size: applier.size(),
        sources,
        duration: Duration::ZERO,
    })
}

/// What is known of the source, and what of it proved unusable.
struct Search<'a> {
    source: &'a dyn RestoreSource,
    progress: &'a dyn Progress,
    options: &'a RestoreOptions,
    listing: Listing,
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
    fn new(source: &'a dyn RestoreSource, progress: &'a dyn Progress, options: &'a RestoreOptions) -> Self {
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
    async fn begin(&mut self) -> Result<bool, RestoreError> {
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
    async fn blame(&mut self, index: usize, error: ApplyError) -> Result<(), RestoreError> {
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
    async fn plan(&mut self, proven: Option<Position>) -> Result<Plan, RestoreError> {
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
