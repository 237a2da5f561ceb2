//! Restoring from several sources as if they were one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use seawall_host::time;
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{Lineage, Position, Txid};

use super::source::{Breadth, ByteStream, Listing, PartRead, RestoreSource, SourceError, SourceObject};

/// A source that has not listed its objects after this long is left out where others have.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
const LIST_WIDE_TIMEOUT: Duration = Duration::from_secs(180);

/// Several places to restore one database from, the preferred first. What one of them has, and another lacks or holds
/// damaged, completes the chain.
pub struct MultiSource {
    sources: Vec<Box<dyn RestoreSource>>,
    shown: String,
}

impl MultiSource {
    /// `sources` in the order in which they are preferred where they hold the same.
    pub fn new(sources: Vec<Box<dyn RestoreSource>>) -> Self {
        let shown: Vec<&str> = sources.iter().map(|source| source.describe()).collect();
        let shown = shown.join(" and ");
        Self { sources, shown }
    }

    async fn list_all(&self, breadth: Breadth) -> Result<Listing, SourceError> {
        let limit = if breadth == Breadth::Wide { LIST_WIDE_TIMEOUT } else { LIST_TIMEOUT };
        let listings = self.sources.iter().map(|source| async move {
            let listed = time::timeout(limit, source.list(breadth)).await;
            listed.unwrap_or_else(|_| {
                let cause = format!("it did not list its objects within {limit:?}");
                Err(SourceError::Unusable { origin: source.describe().to_owned(), cause })
            })
        });
        let mut found = Vec::new();
        let mut failures = Vec::new();
        for (number, listing) in join_all(listings).await.into_iter().enumerate() {
            match listing {
                Ok(listing) => found.push((number, listing)),
                Err(error) => failures.push(error.to_string()),
            }
        }
        if found.is_empty() {
            let cause = format!("none of them can be listed:\n  {}", failures.join("\n  "));
            return Err(SourceError::Unusable { origin: self.shown.clone(), cause });
        }
        let mut merged = merge(found, |number| self.sources[number].describe(), self.sources.len() as u32);
        merged.warnings.extend(failures.into_iter().map(|failure| format!("{failure}; going on without it")));
        Ok(merged)
    }

    /// The source of an object, and the object as that source knows it.
    fn resolve(&self, object: &SourceObject) -> (&dyn RestoreSource, SourceObject) {
        let count = self.sources.len() as u32;
        let source = self.sources[(object.route % count) as usize].as_ref();
        (source, SourceObject { route: object.route / count, ..object.clone() })
    }
}

impl RestoreSource for MultiSource {
    fn describe(&self) -> &str {
        &self.shown
    }

    fn list(&self, breadth: Breadth) -> BoxFuture<'_, Result<Listing, SourceError>> {
        self.list_all(breadth).boxed()
    }

    fn read(&self, object: &SourceObject) -> ByteStream {
        let (source, object) = self.resolve(object);
        source.read(&object)
    }

    fn read_part(&self, object: &SourceObject, offset: u64, length: u64) -> Option<PartRead> {
        let (source, object) = self.resolve(object);
        source.read_part(&object, offset, length)
    }
}

/// One listing of all that the sources with these numbers, of `count`, have.
fn merge<'a>(found: Vec<(usize, Listing)>, name: impl Fn(usize) -> &'a str, count: u32) -> Listing {
    let mut merged = Listing { head_is_stale: true, ..Listing::default() };
    let mut head_from = 0;
    for (number, listing) in &found {
        let Some(head) = listing.head else { continue };
        // Who knows the newest state for certain counts before who does not; then the newer one.
        let rank = |stale: bool, head: Position| (!stale, head.lineage, head.txid);
        let known = merged.head.map(|known| rank(merged.head_is_stale, known));
        if known.is_none_or(|known| rank(listing.head_is_stale, head) > known) {
            (merged.head, merged.head_is_stale, head_from) = (Some(head), listing.head_is_stale, *number);
        }
    }
    merged.head_is_stale &= merged.head.is_some();
    let mut newest_beyond = BTreeMap::new();
    let mut checksums: BTreeMap<(Lineage, Txid), (Checksum, usize)> = BTreeMap::new();
    let mut told = BTreeSet::new();
    for (number, listing) in found {
        merged.warnings.extend(listing.warnings);
        for object in listing.objects {
            let state = (object.name.lineage, object.name.last);
            if merged.head.is_some_and(|head| state > (head.lineage, head.txid)) {
                let newest = newest_beyond.entry(number).or_insert(state);
                *newest = state.max(*newest);
            }
            let (checksum, other) = *checksums.entry(state).or_insert((object.name.checksum_after, number));
            if checksum != object.name.checksum_after && told.insert((number, other)) {
                merged.warnings.push(format!(
                    "{} and {} name different states for lineage {} txid {}: one of them is wrong, or of another database",
                    name(other),
                    name(number),
                    state.0,
                    state.1
                ));
            }
            merged.objects.push(SourceObject { route: object.route * count + number as u32, ..object });
        }
    }
    let Some(head) = merged.head else { return merged };
    for (number, (lineage, txid)) in newest_beyond {
        if merged.head_is_stale {
            // Whoever named the head did not know better: what leads further counts.
            merged.head = None;
        } else if number != head_from {
            merged.warnings.push(format!(
                "{} has lineage {lineage} txid {txid}, beyond the newest state {head} that {} knows; that is taken for \
                 the newest: name --lineage and --txid for the other",
                name(number),
                name(head_from)
            ));
        }
    }
    merged
}

#[cfg(test)]
#[path = "multi_source_tests.rs"]
mod tests;
