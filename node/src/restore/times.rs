//! From a time to the last transaction committed at or before it.

use futures::StreamExt;
use seawall_host::time::UnixMillis;
use seawall_proto::object_name::Level;
use seawall_proto::position::{Lineage, Txid};
use seawall_proto::segment::{SegmentDecoder, SegmentEvent};

use super::plan::{self, Reach};
use super::source::{RestoreSource, SourceError, SourceObject};

/// What a time means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    /// This transaction was the last one then.
    At(Lineage, Txid),
    /// Everything that can be rebuilt is younger; the oldest is of this time.
    TooEarly(Option<UnixMillis>),
}

/// Finds the newest state that can be rebuilt and was committed at or before `time`: in `lineage`, or in the newest
/// lineage that reaches back so far.
///
/// # Errors
/// [`SourceError`] of an object that had to be looked into.
pub(super) async fn resolve(
    source: &dyn RestoreSource,
    objects: &[SourceObject],
    usable: &impl Fn(usize) -> bool,
    lineage: Option<Lineage>,
    time: UnixMillis,
) -> Result<Resolved, (usize, SourceError)> {
    let mut lineages: Vec<Lineage> = objects.iter().map(|object| object.name.lineage).collect();
    lineages.sort();
    lineages.dedup();
    lineages.retain(|known| lineage.is_none_or(|wanted| *known == wanted));
    let mut oldest = None;
    for lineage in lineages.into_iter().rev() {
        let ranges = disjoint(plan::reachable(objects, usable, lineage));
        // Commit times never fall within a lineage, so the last range that begins in time is found by halving.
        let (mut low, mut high) = (0, ranges.len());
        while low < high {
            let middle = (low + high) / 2;
            let first = first_time(source, objects, &ranges[middle]).await?;
            if middle == 0 {
                oldest = Some(first);
            }
            if first <= time { low = middle + 1 } else { high = middle }
        }
        if low > 0 {
            let txid = last_in_time(source, objects, &ranges[low - 1], time).await?;
            return Ok(Resolved::At(lineage, txid));
        }
    }
    Ok(Resolved::TooEarly(oldest))
}

/// Cuts ranges so that each state is in one only.
fn disjoint(ranges: Vec<Reach>) -> Vec<Reach> {
    let mut covered = Txid::NONE;
    let mut cut = Vec::new();
    for reach in ranges {
        let first = (*reach.txids.start()).max(covered.next());
        if first <= *reach.txids.end() {
            covered = *reach.txids.end();
            cut.push(Reach { object: reach.object, txids: first..=covered });
        }
    }
    cut
}

/// The commit time of the first state of a range.
async fn first_time(
    source: &dyn RestoreSource,
    objects: &[SourceObject],
    reach: &Reach,
) -> Result<UnixMillis, (usize, SourceError)> {
    let first = *reach.txids.start();
    let object = &objects[reach.object];
    if first == object.name.last
        && let Some(time) = object.commit_time_ms
    {
        return Ok(UnixMillis(time));
    }
    let mut found = None;
    scan(source, objects, reach.object, |txid, time| {
        if txid >= first {
            found = Some(time);
        }
        found.is_none()
    })
    .await?;
    found.ok_or_else(|| lacks(objects, reach, first))
}

/// The last state of a range that was committed at or before `time`; the first of them was.
async fn last_in_time(
    source: &dyn RestoreSource,
    objects: &[SourceObject],
    reach: &Reach,
    time: UnixMillis,
) -> Result<Txid, (usize, SourceError)> {
    let object = &objects[reach.object];
    if object.name.level != Level::Log || object.commit_time_ms.is_some_and(|last| last <= time.0) {
        return Ok(*reach.txids.end());
    }
    let mut found = None;
    scan(source, objects, reach.object, |txid, committed| {
        if reach.txids.contains(&txid) && committed <= time {
            found = Some(txid);
        }
        committed <= time
    })
    .await?;
    found.ok_or_else(|| lacks(objects, reach, *reach.txids.start()))
}

/// Shows each transaction of an object to `see` until that answers false.
async fn scan(
    source: &dyn RestoreSource,
    objects: &[SourceObject],
    index: usize,
    mut see: impl FnMut(Txid, UnixMillis) -> bool,
) -> Result<(), (usize, SourceError)> {
    let object = &objects[index];
    let mut bytes = source.read(object);
    let mut decoder = SegmentDecoder::new();
    while let Some(piece) = bytes.next().await {
        decoder.push(piece.map_err(|error| (index, error))?);
        while let Some(event) = decoder.next().map_err(|error| (index, damaged(object, error.to_string())))? {
            if let SegmentEvent::Commit(transaction) = event
                && !see(transaction.txid, UnixMillis(transaction.commit_time_ms))
            {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn damaged(object: &SourceObject, cause: String) -> SourceError {
    SourceError::Object { origin: object.origin.to_string(), object: object.name.to_string(), cause }
}

fn lacks(objects: &[SourceObject], reach: &Reach, txid: Txid) -> (usize, SourceError) {
    (reach.object, damaged(&objects[reach.object], format!("it does not hold txid {txid}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_is_in_one_range_only() {
        let reach = |object, first, last| Reach { object, txids: Txid(first)..=Txid(last) };
        let ranges = vec![reach(0, 1, 5), reach(1, 2, 3), reach(2, 4, 9), reach(3, 12, 12)];
        assert_eq!(disjoint(ranges), [reach(0, 1, 5), reach(2, 6, 9), reach(3, 12, 12)]);
    }
}
