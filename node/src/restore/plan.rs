//! Which objects to restore from. Pure: from what there is and where to go, the chain of objects that leads there.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use seawall_proto::object_name::Level;
use seawall_proto::position::{Lineage, Txid};

use super::source::SourceObject;

/// Where a restore is to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The newest state that the objects lead to.
    Newest,
    /// Exactly this txid.
    Exactly(Txid),
}

/// One step of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The object, as an index into what was planned over.
    pub object: usize,
    /// The state it continues; [`Txid::NONE`] if it starts from the empty database.
    pub from: Txid,
    /// The last transaction to take from it.
    pub until: Txid,
}

/// A chain of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The history it stays in.
    pub lineage: Lineage,
    /// Where it arrives.
    pub target: Txid,
    /// The objects in the order in which to read them; empty if the start is the target already.
    pub steps: Vec<Step>,
}

/// Why there is no chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No objects at all, or none of that lineage.
    #[error("nothing of lineage {lineage} is there{}", known(lineages))]
    Nothing {
        /// What was asked for.
        lineage: Lineage,
        /// What there is.
        lineages: Vec<Lineage>,
    },
    /// Objects, but no chain from the start to the target.
    #[error("txid {target} of lineage {lineage} cannot be rebuilt from what is there{}", nearest(below, above))]
    Unreachable {
        /// What was asked for.
        target: Txid,
        /// In which history.
        lineage: Lineage,
        /// The nearest state before it that can be rebuilt.
        below: Option<Txid>,
        /// The nearest state after it that can be rebuilt.
        above: Option<Txid>,
    },
    /// Objects, but no snapshot and no transactions from the first on.
    #[error("lineage {0} has objects but no usable snapshot, so that no state of it can be rebuilt")]
    NoStart(Lineage),
}

fn known(lineages: &[Lineage]) -> String {
    let names: Vec<String> = lineages.iter().map(ToString::to_string).collect();
    if names.is_empty() { String::new() } else { format!("; lineages with objects: {}", names.join(", ")) }
}

fn nearest(below: &Option<Txid>, above: &Option<Txid>) -> String {
    match (below, above) {
        (Some(below), Some(above)) => format!("; the nearest that can are {below} and {above}"),
        (Some(txid), None) | (None, Some(txid)) => format!("; the nearest that can is {txid}"),
        (None, None) => String::new(),
    }
}

/// How a state is best reached: the newest snapshot counts first, then the number of objects, then their bytes.
#[derive(Clone, Copy)]
struct Best {
    start: Txid,
    objects: usize,
    bytes: u64,
    via: Option<(usize, Txid)>,
}

impl Best {
    fn is_better_than(&self, other: &Self) -> bool {
        let rank = |best: &Self| (std::cmp::Reverse(best.start), best.objects, best.bytes);
        rank(self) < rank(other)
    }
}

/// Whether each transaction of an object can be had alone.
pub(super) fn keeps_transactions(object: &SourceObject) -> bool {
    object.name.level == Level::Log
}

/// Whether an object starts from the empty database.
pub(super) fn is_snapshot(object: &SourceObject) -> bool {
    !keeps_transactions(object) && object.name.first == Txid(1)
}

/// Plans the chain in `lineage` to `goal`: from the state `from` that is there already, or from the newest usable
/// snapshot if there is none. `usable` leaves out the objects that proved damaged.
///
/// # Errors
/// [`PlanError`], with the nearest states that can be rebuilt.
pub fn plan(
    objects: &[SourceObject],
    usable: impl Fn(usize) -> bool,
    lineage: Lineage,
    from: Option<Txid>,
    goal: Goal,
) -> Result<Plan, PlanError> {
    if !objects.iter().any(|object| object.name.lineage == lineage) {
        let lineages: BTreeSet<Lineage> = objects.iter().map(|object| object.name.lineage).collect();
        return Err(PlanError::Nothing { lineage, lineages: lineages.into_iter().collect() });
    }
    let limit = match goal {
        Goal::Newest => Txid(u64::MAX),
        Goal::Exactly(txid) => txid,
    };
    let best = search(objects, &usable, lineage, from, limit);
    let last = best.last_key_value().map(|(txid, _)| *txid).filter(|txid| *txid != Txid::NONE);
    let target = match goal {
        Goal::Newest => last.ok_or(PlanError::NoStart(lineage))?,
        Goal::Exactly(txid) if best.contains_key(&txid) => txid,
        Goal::Exactly(target) => {
            let ranges = reachable(objects, &usable, lineage);
            let above = ranges.iter().map(|reach| *reach.txids.start()).filter(|txid| *txid > target).min();
            return Err(PlanError::Unreachable { target, lineage, below: last, above });
        }
    };
    let mut steps = Vec::new();
    let mut at = target;
    while let Some(Best { via: Some((object, before)), .. }) = best.get(&at) {
        steps.push(Step { object: *object, from: *before, until: at });
        at = *before;
    }
    steps.reverse();
    Ok(Plan { lineage, target, steps })
}

/// The best way to every state at which a step may end.
fn search(
    objects: &[SourceObject],
    usable: &impl Fn(usize) -> bool,
    lineage: Lineage,
    from: Option<Txid>,
    limit: Txid,
) -> BTreeMap<Txid, Best> {
    let candidates: Vec<(usize, &SourceObject)> =
        objects.iter().enumerate().filter(|(index, object)| object.name.lineage == lineage && usable(*index)).collect();
    // A run of transactions is worth leaving early where a merged object continues from its middle.
    let stops: BTreeSet<Txid> = candidates
        .iter()
        .filter(|(_, object)| !keeps_transactions(object))
        .map(|(_, object)| Txid(object.name.first.0 - 1))
        .collect();
    let mut edges: Vec<(Txid, usize, &SourceObject)> = Vec::new();
    for (index, object) in candidates {
        let name = &object.name;
        if !keeps_transactions(object) {
            if name.last <= limit {
                edges.push((name.last, index, object));
            }
        } else if name.first <= limit {
            let end = name.last.min(limit);
            edges.extend(stops.range(name.first..end).map(|stop| (*stop, index, object)));
            edges.push((end, index, object));
        }
    }
    edges.sort_by_key(|(end, index, _)| (*end, *index));

    let origin = from.unwrap_or(Txid::NONE);
    let mut best = BTreeMap::from([(origin, Best { start: Txid::NONE, objects: 0, bytes: 0, via: None })]);
    for (end, index, object) in edges {
        let before = Txid(object.name.first.0 - 1);
        let follow = |(at, best): (&Txid, &Best)| {
            let start = if is_snapshot(object) { end } else { best.start };
            let via = Some((index, *at));
            Best { start, objects: best.objects + 1, bytes: best.bytes.saturating_add(object.size), via }
        };
        let candidate = if keeps_transactions(object) {
            best.range(before..end)
                .map(follow)
                .reduce(|best, other| if other.is_better_than(&best) { other } else { best })
        } else {
            best.get_key_value(&before).map(follow)
        };
        if let Some(candidate) = candidate
            && best.get(&end).is_none_or(|known| candidate.is_better_than(known))
        {
            best.insert(end, candidate);
        }
    }
    best
}

/// States that can be rebuilt, all of which one object holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The object, as an index.
    pub object: usize,
    /// Its transactions that can be arrived at.
    pub txids: RangeInclusive<Txid>,
}

/// Every state of `lineage` that can be rebuilt, ascending by the first state of each object; ranges may overlap.
pub fn reachable(objects: &[SourceObject], usable: &impl Fn(usize) -> bool, lineage: Lineage) -> Vec<Reach> {
    let best = search(objects, usable, lineage, None, Txid(u64::MAX));
    let mut ranges = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        let name = &object.name;
        if name.lineage != lineage || !usable(index) {
            continue;
        }
        let before = Txid(name.first.0 - 1);
        if keeps_transactions(object) {
            if let Some((lowest, _)) = best.range(before..name.last).next() {
                ranges.push(Reach { object: index, txids: lowest.next()..=name.last });
            }
        } else if best.contains_key(&before) {
            ranges.push(Reach { object: index, txids: name.last..=name.last });
        }
    }
    ranges.sort_by_key(|reach| (*reach.txids.start(), *reach.txids.end(), reach.object));
    ranges
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
