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
use crate::restore::{Reach, SourceObject, reachable};
use crate::state::{is_below, starts};

/// When something of what is uploaded now may expire first; 0 for never.
pub(crate) fn first_expiry(retention: &Retention, now: UnixMillis) -> UnixMillis {
    match retention.deletion {
        Deletion::Expired => after(now, retention.transactions.min(retention.level_one).min(retention.age)),
        Deletion::Never => UnixMillis(0),
    }
}

fn after(time: UnixMillis, span: Duration) -> UnixMillis {
    UnixMillis(time.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
}

/// How far the floors of one lineage may rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Not below the present ones.
    pub(crate) floors: v1::Floors,
    /// When more may expire, if nothing is uploaded; `None` if never.
    pub(crate) next: Option<UnixMillis>,
}

/// What is judged.
pub(crate) struct Holdings<'a> {
    /// Everything that lies there of the database.
    pub(crate) objects: &'a [SourceObject],
    /// Commit times of the states that objects above level 0 lead to, and of the newest of each lineage; one that is not
    /// known does not count.
    pub(crate) times: &'a BTreeMap<(Lineage, Txid), UnixMillis>,
    /// The lineage that the database is in.
    pub(crate) newest: Lineage,
    /// The cluster's time.
    pub(crate) now: UnixMillis,
}

/// What of `objects` may go, by their indexes, if nothing was decreed yet. `times` are as [`Holdings`] wants them.
pub(crate) fn expired(
    objects: &[SourceObject],
    times: &BTreeMap<(Lineage, Txid), UnixMillis>,
    retention: &Retention,
    now: UnixMillis,
) -> Vec<usize> {
    let mut lineages: Vec<Lineage> = objects.iter().map(|object| object.name.lineage).collect();
    lineages.sort_unstable();
    lineages.dedup();
    let Some(newest) = lineages.last().copied() else { return Vec::new() };
    let holdings = Holdings { objects, times, newest, now };
    let floors: Vec<v1::Floors> = lineages
        .into_iter()
        .map(|lineage| judge(&holdings, retention, v1::Floors { lineage: lineage.0, ..v1::Floors::default() }).floors)
        .collect();
    let goes = |object: &SourceObject| floors.iter().any(|floors| is_below(floors, &object.name));
    objects.iter().enumerate().filter(|(_, object)| goes(object)).map(|(index, _)| index).collect()
}

/// How far the floors of `lineage` may rise from `present`.
pub(crate) fn judge(holdings: &Holdings<'_>, retention: &Retention, present: v1::Floors) -> Verdict {
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
    let mut later: Vec<Lineage> = holdings.objects.iter().map(|object| object.name.lineage).collect();
    later.retain(|lineage| lineage.0 > present.lineage && *lineage <= holdings.newest);
    later.sort_unstable();
    later.dedup();
    let landings: Vec<Landing> =
        later.into_iter().map(|lineage| landing(holdings, lineage, retention.age, |_| true)).collect();
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
        let from = &self.floors;
        let raised = v1::Floors {
            level_zero: to.level_zero.max(from.level_zero),
            level_one: to.level_one.max(from.level_one),
            level_two: to.level_two.max(from.level_two),
            snapshot: to.snapshot.max(from.snapshot),
            ..*from
        };
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
