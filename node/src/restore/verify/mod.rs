//! Verifying what a source holds without restoring it: nothing is written to disk.

mod chain;
mod prove;
mod report;

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{Lineage, Txid};
use seawall_proto::segment::{SegmentFooter, SegmentSummary};

pub use self::chain::{ChainFault, FaultCause, Reached, prove_chain};
use self::prove::Prover;
pub use self::report::{Finding, Report};
use super::error::RestoreError;
use super::history::history_of;
use super::options::PART_BYTES;
use super::outcome::Progress;
use super::read_ahead::ReadLimits;
use super::source::{Breadth, RestoreSource, SourceObject};
use super::times;

/// Verifies every object that `source` has, from `parallelism` reads at a time.
///
/// Unless `deep`, only the end of each object is read: it has to be what the object's name says, and no two may
/// contradict one another. A deep verification reads everything and proves every state that can be rebuilt, place by
/// place, from the hashes of its pages: 8 bytes of memory a page, and no disk.
///
/// # Errors
/// [`RestoreError`] if the source cannot be listed or has nothing. What is wrong with objects stands in the report.
pub async fn verify(
    source: &dyn RestoreSource,
    deep: bool,
    parallelism: usize,
    progress: &dyn Progress,
) -> Result<Report, RestoreError> {
    let listing = source.list(Breadth::Wide).await?;
    if listing.objects.is_empty() {
        return Err(RestoreError::Empty(source.describe().to_owned()));
    }
    let mut report = Report { objects: listing.objects.len() as u64, ..Report::default() };
    if deep {
        progress.planned(listing.objects.iter().map(|object| object.size).sum());
        let limits = ReadLimits { parts: parallelism.max(1), part_bytes: PART_BYTES };
        for group in places(&listing.objects) {
            Prover::new(source, progress, limits, &listing.objects, &group, &mut report).run().await;
        }
    } else {
        let unread = look(source, &listing.objects, parallelism.max(1), &mut report).await;
        if unread > 0 {
            report.objects -= unread;
            progress
                .warn(&format!("{unread} objects were not looked at: nodes give them as a whole, which --deep reads"));
        }
    }
    report.history = history_of(source, listing).await;
    report.unreachable = report.history.head.map(|head| (head.lineage, head.txid)).filter(|(lineage, txid)| {
        let there = report.history.lineages.iter().filter(|history| history.lineage == *lineage);
        !there.flat_map(|history| &history.runs).any(|timed| timed.run.last >= *txid)
    });
    Ok(report)
}

/// The objects of each lineage in each place, as indexes.
fn places(objects: &[SourceObject]) -> Vec<Vec<usize>> {
    let mut places: BTreeMap<(&str, u32, Lineage), Vec<usize>> = BTreeMap::new();
    for (index, object) in objects.iter().enumerate() {
        places.entry((&object.origin, object.route, object.name.lineage)).or_default().push(index);
    }
    places.into_values().collect()
}

/// Looks at the end of every object; answers of how many that could not be had alone.
async fn look(source: &dyn RestoreSource, objects: &[SourceObject], parallelism: usize, report: &mut Report) -> u64 {
    let ends: Vec<BoxFuture<'_, _>> =
        objects.iter().map(|object| async move { (object, times::summary(source, object).await) }.boxed()).collect();
    let mut ends = stream::iter(ends).buffered(parallelism);
    let mut states = BTreeMap::new();
    let mut partless = 0;
    while let Some((object, end)) = ends.next().await {
        match end {
            Ok(Some(summary)) => {
                report.bytes += SegmentFooter::LEN as u64;
                if let Some(cause) = contradiction(&mut states, object, &summary) {
                    report.damaged.push(Finding::new(object, cause));
                }
            }
            Ok(None) => partless += 1,
            Err(times::NoSummary::Damaged(cause)) => report.damaged.push(Finding::new(object, cause)),
            Err(times::NoSummary::Source(error)) => report.unreadable.push(Finding::unread(object, error)),
        }
    }
    partless
}

/// The checksums of states and who named them, by lineage.
type States<'a> = BTreeMap<(Lineage, Txid), (Checksum, &'a SourceObject)>;

/// How an object contradicts one seen before: about the state it continues, or the one it leads to.
fn contradiction<'a>(states: &mut States<'a>, object: &'a SourceObject, summary: &SegmentSummary) -> Option<String> {
    let header = &summary.header;
    let named = [(Txid(header.first.0 - 1), header.checksum_before), (header.last, summary.checksum_after)];
    named.into_iter().find_map(|(txid, checksum)| {
        let (known, other) = *states.entry((header.lineage, txid)).or_insert((checksum, object));
        let SourceObject { origin, name, .. } = other;
        (known != checksum)
            .then(|| format!("it has checksum {checksum} at txid {txid}, {name} in {origin} has {known}"))
    })
}
