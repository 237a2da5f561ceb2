//! What a destination need not keep, decided on plain values: from what lies there and how old it is, how far the
//! floors may rise.

use std::collections::BTreeMap;
use std::time::Duration;

use seawall_host::probe::mutant;
use seawall_host::time::UnixMillis;
use seawall_proto::object_name::Level;
use seawall_proto::position::{Lineage, Txid};
use seawall_proto::v1;

use crate::destination::{Deletion, Retention};
use crate::restore::{Reach, SourceObject, lineages, reachable};
use crate::state::{is_below, raised, starts};

/// When something of what is uploaded now may expire first; 0 for never.
pub(super) fn first_expiry(retention: &Retention, now: UnixMillis) -> UnixMillis {
    match retention.deletion {
        Deletion::Expired => after(now, retention.transactions.min(retention.level_one).min(retention.age)),
        Deletion::Never => UnixMillis(0),
    }
}

/// `span` after `time`.
pub(super) fn after(time: UnixMillis, span: Duration) -> UnixMillis {
    UnixMillis(time.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
}

/// How far the floors of one lineage may rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Not below the present ones.
    pub(super) floors: v1::Floors,
    /// When more may expire, if nothing is uploaded; `None` if never.
    pub(super) next: Option<UnixMillis>,
}

/// What is judged.
pub(super) struct Holdings<'a> {
    /// Everything that lies there of the database.
    pub(super) objects: &'a [SourceObject],
    /// Commit times of the states that objects above level 0 lead to, and of the newest of each lineage; one that is not
    /// known does not count.
    pub(super) times: &'a BTreeMap<(Lineage, Txid), UnixMillis>,
    /// The lineage that the database is in.
    pub(super) newest: Lineage,
    /// The cluster's time.
    pub(super) now: UnixMillis,
}

/// What of `objects` may go, by their indexes, if nothing was decreed yet. `times` are as [`Holdings`] wants them.
pub(crate) fn expired(
    objects: &[SourceObject],
    times: &BTreeMap<(Lineage, Txid), UnixMillis>,
    retention: &Retention,
    now: UnixMillis,
) -> Vec<usize> {
    let Some(newest) = lineages(objects).last().copied() else { return Vec::new() };
    let verdicts = judge_all(&Holdings { objects, times, newest, now }, retention, &[]);
    let goes = |object: &SourceObject| verdicts.iter().any(|(_, it)| is_below(&it.floors, &object.name));
    objects.iter().enumerate().filter(|(_, object)| goes(object)).map(|(index, _)| index).collect()
}

/// The states whose times [`Holdings`] wants, and an object that ends with each.
pub(crate) fn wanted(objects: &[SourceObject]) -> BTreeMap<(Lineage, Txid), &SourceObject> {
    let mut newest: BTreeMap<Lineage, &SourceObject> = BTreeMap::new();
    for object in objects {
        let known = newest.entry(object.name.lineage).or_insert(object);
        if known.name.last < object.name.last {
            *known = object;
        }
    }
    let merged = objects.iter().filter(|object| object.name.level != Level::Log);
    merged.chain(newest.into_values()).map(|object| ((object.name.lineage, object.name.last), object)).collect()
}

/// The present floors of every lineage that lies there, of which `known` has some, and how far they may rise.
pub(super) fn judge_all(
    holdings: &Holdings<'_>,
    retention: &Retention,
    known: &[v1::Floors],
) -> Vec<(v1::Floors, Verdict)> {
    let lineages = lineages(holdings.objects).into_iter().filter(|lineage| *lineage <= holdings.newest);
    let verdicts = lineages.map(|lineage| {
        let present = known.iter().find(|floors| floors.lineage == lineage.0).copied();
        let present = present.unwrap_or(v1::Floors { lineage: lineage.0, ..v1::Floors::default() });
        (present, judge(holdings, retention, present))
    });
    verdicts.collect()
}

/// How far the floors of `lineage` may rise from `present`.
fn judge(holdings: &Holdings<'_>, retention: &Retention, present: v1::Floors) -> Verdict {
    let lineage = Lineage(present.lineage);
    if lineage < holdings.newest {
        return judge_ended(holdings, retention, present);
    }
    let mut verdict = Verdict { floors: present, next: None };
    // From the finest level up: what a level lets go may rest on those above, but nothing that stays on what goes.
    let zero = landing(holdings, lineage, retention.transactions, |level| level > Level::Log);
    verdict.wait_for(zero.next);
    if let Some(at) = zero.at {
        verdict.raise(holdings, v1::Floors { level_zero: at.0 + 1, ..verdict.floors });
    }
    let one = landing(holdings, lineage, retention.level_one, |level| level > Level::One);
    verdict.wait_for(one.next);
    if let Some(at) = one.at {
        verdict.raise(holdings, v1::Floors { level_one: at.0 + 1, ..verdict.floors });
    }
    let snapshot = landing(holdings, lineage, retention.age, |level| level == Level::Snapshot);
    let counted = nth_newest_snapshot(holdings, lineage, retention.snapshots);
    // None is below some: only a snapshot that both allow to be the oldest becomes it.
    let mut oldest = snapshot.at.min(counted);
    if mutant("floor-past-the-last-snapshot") {
        oldest = snapshots(holdings, lineage).last().map(|txid| txid.next());
    }
    verdict.wait_for(snapshot.next.filter(|_| retention.snapshots <= snapshots(holdings, lineage).len()));
    if let Some(oldest) = oldest {
        let raised = v1::Floors { snapshot: oldest.0, level_two: oldest.0 + 1, ..verdict.floors };
        verdict.raise(holdings, raised);
    }
    verdict
}

/// A lineage that another one followed goes as a whole, when that one leads to a state that is older than what is kept.
fn judge_ended(holdings: &Holdings<'_>, retention: &Retention, present: v1::Floors) -> Verdict {
    let later = lineages(holdings.objects).into_iter();
    let later = later.filter(|lineage| lineage.0 > present.lineage && *lineage <= holdings.newest);
    let landings: Vec<Landing> = later.map(|lineage| landing(holdings, lineage, retention.age, |_| true)).collect();
    if landings.iter().all(|landing| landing.at.is_none()) {
        let next = landings.into_iter().filter_map(|landing| landing.next).min();
        return Verdict { floors: present, next };
    }
    let (level_zero, level_one, level_two, snapshot) = (u64::MAX, u64::MAX, u64::MAX, u64::MAX);
    Verdict { floors: v1::Floors { level_zero, level_one, level_two, snapshot, ..present }, next: None }
}

/// The newest state older than `age` that objects of some levels alone lead to, and when the next one is.
struct Landing {
    at: Option<Txid>,
    next: Option<UnixMillis>,
}

fn landing(holdings: &Holdings<'_>, lineage: Lineage, age: Duration, levels: impl Fn(Level) -> bool) -> Landing {
    let usable = |index: usize| {
        let name = &holdings.objects[index].name;
        levels(name.level) || (starts(name) && levels(Level::Two))
    };
    let mut landing = Landing { at: None, next: None };
    for Reach { txids, .. } in reachable(holdings.objects, &usable, lineage) {
        let txid = *txids.end();
        let Some(time) = holdings.times.get(&(lineage, txid)) else { continue };
        let expires = after(*time, age);
        if expires <= holdings.now {
            landing.at = landing.at.max(Some(txid));
        } else {
            landing.next = Some(landing.next.map_or(expires, |next| next.min(expires)));
        }
    }
    landing
}

fn snapshots(holdings: &Holdings<'_>, lineage: Lineage) -> Vec<Txid> {
    let of_lineage = |object: &&SourceObject| object.name.lineage == lineage && object.name.level == Level::Snapshot;
    let mut snapshots: Vec<Txid> = holdings.objects.iter().filter(of_lineage).map(|object| object.name.last).collect();
    snapshots.sort_unstable();
    snapshots.dedup();
    snapshots
}

/// The oldest of the `count` newest snapshots; `None` if there are not so many.
fn nth_newest_snapshot(holdings: &Holdings<'_>, lineage: Lineage, count: usize) -> Option<Txid> {
    let snapshots = snapshots(holdings, lineage);
    snapshots.len().checked_sub(count.max(1)).map(|index| snapshots[index])
}

impl Verdict {
    fn wait_for(&mut self, next: Option<UnixMillis>) {
        self.next = self.next.into_iter().chain(next).min();
    }

    /// Raises the floors, if every object that stays leads as far as it did.
    fn raise(&mut self, holdings: &Holdings<'_>, to: v1::Floors) {
        let raised = raised(&self.floors, &to);
        if stays_useful(holdings.objects, &raised) || mutant("floor-past-the-last-snapshot") {
            self.floors = raised;
        }
    }
}

/// Whether every object that `floors` leaves gives what it gave, but for single transactions below their floor.
fn stays_useful(objects: &[SourceObject], floors: &v1::Floors) -> bool {
    let lineage = Lineage(floors.lineage);
    let left: BTreeMap<usize, Txid> =
        reachable(objects, &|index: usize| !is_below(floors, &objects[index].name), lineage)
            .into_iter()
            .map(|reach| (reach.object, *reach.txids.start()))
            .collect();
    reachable(objects, &|_| true, lineage).into_iter().all(|Reach { object, txids }| {
        let name = &objects[object].name;
        let first = if name.level == Level::Log { Txid(floors.level_zero).max(*txids.start()) } else { *txids.start() };
        is_below(floors, name) || left.get(&object).is_some_and(|start| *start <= first)
    })
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
