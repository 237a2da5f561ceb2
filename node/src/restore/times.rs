//! From a time to the last transaction committed at or before it.

use futures::StreamExt;
use seawall_host::time::UnixMillis;
use seawall_proto::object_name::Level;
use seawall_proto::position::{Lineage, Txid};
use seawall_proto::segment::{SegmentDecoder, SegmentEvent, SegmentFooter, SegmentHeader, SegmentKind, SegmentSummary};

use super::plan::{self, Reach};
use super::source::{RestoreSource, SourceError, SourceObject, lineages};

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
    let mut lineages = lineages(objects);
    lineages.retain(|known| lineage.is_none_or(|wanted| *known == wanted));
    let mut oldest = None;
    for lineage in lineages.into_iter().rev() {
        let ranges = disjoint(plan::reachable(objects, usable, lineage));
        // Commit times never fall within a lineage, so the last range that begins in time is found by halving.
        let (mut low, mut high) = (0, ranges.len());
        while low < high {
            let middle = (low + high) / 2;
            let Reach { object, txids } = &ranges[middle];
            let first = of_state(source, &objects[*object], *txids.start()).await.map_err(|error| (*object, error))?;
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

/// The commit time of the state `txid`, which `object` holds.
///
/// # Errors
/// [`SourceError`] if that cannot be read from it.
pub(crate) async fn of_state(
    source: &dyn RestoreSource,
    object: &SourceObject,
    txid: Txid,
) -> Result<UnixMillis, SourceError> {
    if txid == object.name.last
        && let Some(time) = object.commit_time_ms
    {
        return Ok(UnixMillis(time));
    }
    if [object.name.first, object.name.last].contains(&txid)
        && let Some(summary) = summary(source, object).await.map_err(|error| error.of(object))?
    {
        let is_last = txid == object.name.last;
        return Ok(UnixMillis(if is_last { summary.last_commit_time_ms } else { summary.first_commit_time_ms }));
    }
    let mut found = None;
    scan(source, object, |txid_there, time| {
        if txid_there >= txid {
            found = Some(time);
        }
        found.is_none()
    })
    .await?;
    found.ok_or_else(|| lacks(object, txid))
}

/// Why the end of an object does not say what it holds.
pub(super) enum NoSummary {
    /// It could not be read.
    Source(SourceError),
    /// It is not the end of a segment of that name, for this reason.
    Damaged(String),
}

impl NoSummary {
    fn of(self, object: &SourceObject) -> SourceError {
        match self {
            Self::Source(error) => error,
            Self::Damaged(cause) => damaged(object, cause),
        }
    }
}

/// What the end of an object says that it holds; `None` if the source gives no parts of objects.
///
/// # Errors
/// [`NoSummary`].
pub(super) async fn summary(
    source: &dyn RestoreSource,
    object: &SourceObject,
) -> Result<Option<SegmentSummary>, NoSummary> {
    const LEN: u64 = SegmentFooter::LEN as u64;
    let start = object.size.saturating_sub(LEN);
    let Some(end) = source.read_part(object, start, object.size - start) else { return Ok(None) };
    let end = end.await.map_err(NoSummary::Source)?;
    let end = end.first_chunk().ok_or_else(|| NoSummary::Damaged(format!("{} bytes are no segment", end.len())))?;
    let summary = SegmentFooter::parse(end).map_err(|error| NoSummary::Damaged(error.to_string()))?.summary;
    let SegmentHeader { kind, lineage, first, last, .. } = summary.header;
    let name = &object.name;
    let held = (lineage, first, last, summary.checksum_after, kind == SegmentKind::Squashed, summary.bytes);
    let named = (name.lineage, name.first, name.last, name.checksum_after, name.level != Level::Log, object.size);
    if held != named {
        return Err(NoSummary::Damaged(format!(
            "its end is that of @{lineage} {first}-{last}, {} bytes",
            summary.bytes
        )));
    }
    Ok(Some(summary))
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
    let scanned = scan(source, object, |txid, committed| {
        if reach.txids.contains(&txid) && committed <= time {
            found = Some(txid);
        }
        committed <= time
    });
    let scanned = scanned.await.and_then(|()| found.ok_or_else(|| lacks(object, *reach.txids.start())));
    scanned.map_err(|error| (reach.object, error))
}

/// Shows each transaction of an object to `see` until that answers false.
async fn scan(
    source: &dyn RestoreSource,
    object: &SourceObject,
    mut see: impl FnMut(Txid, UnixMillis) -> bool,
) -> Result<(), SourceError> {
    let mut bytes = source.read(object);
    let mut decoder = SegmentDecoder::new();
    while let Some(piece) = bytes.next().await {
        decoder.push(piece?);
        while let Some(event) = decoder.next().map_err(|error| damaged(object, error.to_string()))? {
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

fn lacks(object: &SourceObject, txid: Txid) -> SourceError {
    damaged(object, format!("it does not hold txid {txid}"))
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
