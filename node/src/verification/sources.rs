//! What can take the place of lost and damaged objects. Pure: from what the log and other destinations have, in which
//! order to try them.

use seawall_proto::object_name::{Level, ObjectName};
use seawall_proto::position::{Lineage, Position, Txid};

use super::expected::Hole;
use crate::replica::SegmentRecord;

/// Windows that are cut from the log anew are at most this large, or one larger segment, in bytes.
pub(super) const WINDOW_BYTES: u64 = 16 << 20;

/// Where a replacement comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// These records of the node's own log, joined.
    Log(Vec<SegmentRecord>),
    /// The node's image, as this snapshot.
    Image(ObjectName),
    /// This object of the destination with this number.
    Place(usize, ObjectName),
}

/// Everything that can give the object `name`, the nearest first. `records` are what the log holds from its first
/// transaction on, `image` is where the node's image is, `others` what each other destination lists.
pub(super) fn sources(
    name: &ObjectName,
    records: &[SegmentRecord],
    image: Option<Position>,
    others: &[(usize, Vec<ObjectName>)],
) -> Vec<Source> {
    let mut found = Vec::new();
    if name.level == Level::Log
        && let Some(records) = tiling(name, records)
    {
        found.push(Source::Log(records));
    }
    let state = Position { lineage: name.lineage, txid: name.last, checksum: name.checksum_after };
    if name.level == Level::Snapshot && image == Some(state) {
        found.push(Source::Image(*name));
    }
    let having = others.iter().filter(|(_, names)| names.contains(name));
    found.extend(having.map(|(place, _)| Source::Place(*place, *name)));
    found
}

/// The records that hold exactly the transactions of `name` and can be joined.
fn tiling(name: &ObjectName, records: &[SegmentRecord]) -> Option<Vec<SegmentRecord>> {
    let run = run_from(name.first, name.lineage, records, u64::MAX);
    let end = run.iter().position(|record| record.last == name.last && record.checksum_after == name.checksum_after)?;
    (run.first()?.first == name.first).then(|| run[..=end].to_vec())
}

/// Adjacent records of one page size from the one that holds `txid` on, of at most `bytes`, or one larger.
fn run_from(txid: Txid, lineage: Lineage, records: &[SegmentRecord], bytes: u64) -> &[SegmentRecord] {
    let holds = |record: &SegmentRecord| record.lineage == lineage && record.first <= txid && txid <= record.last;
    let Some(start) = records.iter().position(holds) else { return &[] };
    let mut total = records[start].bytes;
    let mut end = start + 1;
    while let Some(next) = records.get(end) {
        let last = &records[end - 1];
        total = total.saturating_add(next.bytes);
        let joins = next.lineage == lineage && next.first == last.last.next() && next.page_size == last.page_size;
        if !joins || total > bytes {
            break;
        }
        end += 1;
    }
    &records[start..end]
}

/// How a hole is filled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filling {
    /// What has to be created, in order.
    pub(super) objects: Vec<Source>,
    /// What nobody has any more.
    pub(super) unfilled: Vec<Hole>,
}

/// Fills `hole` from the log, and where that has nothing, from other destinations' objects of level 0; what these hold
/// beside it does no harm.
pub(super) fn fill(
    hole: Hole,
    lineage: Lineage,
    records: &[SegmentRecord],
    others: &[(usize, Vec<ObjectName>)],
) -> Filling {
    let mut filling = Filling::default();
    let of_others = || {
        let all = others.iter().flat_map(|(place, names)| names.iter().map(move |name| (*place, name)));
        all.filter(|(_, name)| name.level == Level::Log && name.lineage == lineage)
    };
    let mut next = hole.first;
    while next <= hole.last {
        let run = run_from(next, lineage, records, WINDOW_BYTES);
        let run = &run[..run.iter().position(|record| record.last >= hole.last).map_or(run.len(), |end| end + 1)];
        if let Some(last) = run.last() {
            filling.objects.push(Source::Log(run.to_vec()));
            next = last.last.next();
            continue;
        }
        let longest = of_others().filter(|(_, name)| name.first <= next && next <= name.last);
        if let Some((place, name)) = longest.max_by_key(|(_, name)| name.last) {
            filling.objects.push(Source::Place(place, *name));
            next = name.last.next();
            continue;
        }
        let logged = records.iter().filter(|record| record.lineage == lineage).map(|record| record.first);
        let ahead = logged.chain(of_others().map(|(_, name)| name.first)).filter(|first| *first > next).min();
        let last = ahead.map_or(hole.last, |ahead| Txid(ahead.0 - 1).min(hole.last));
        filling.unfilled.push(Hole { first: next, last });
        next = last.next();
    }
    filling
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use seawall_proto::checksum::Checksum;
    use seawall_proto::position::{Epoch, PageSize};

    use super::*;

    fn object(level: Level, first: u64, last: u64) -> ObjectName {
        let (lineage, first, last) = (Lineage(1), Txid(first), Txid(last));
        ObjectName { lineage, level, first, last, checksum_after: Checksum(last.0) }
    }

    fn record(first: u64, last: u64) -> SegmentRecord {
        SegmentRecord {
            lineage: Lineage(1),
            epoch: Epoch(1),
            first: Txid(first),
            last: Txid(last),
            checksum_before: Checksum(first - 1),
            checksum_after: Checksum(last),
            commit_time_ms: 0,
            page_size: PageSize::new(4096).unwrap(),
            page_count: 1,
            bytes: 1 << 20,
            entries: vec![first],
        }
    }

    fn hole(first: u64, last: u64) -> Hole {
        Hole { first: Txid(first), last: Txid(last) }
    }

    #[test]
    fn the_log_gives_an_object_only_if_it_holds_exactly_its_transactions() {
        let records = [record(3, 4), record(5, 5), record(6, 9)];
        let log = |name: &ObjectName| sources(name, &records, None, &[]);
        assert_eq!(log(&object(Level::Log, 3, 5)), [Source::Log(records[..2].to_vec())]);
        for (first, last) in [(4, 5), (3, 6), (1, 5), (10, 11)] {
            assert_eq!(log(&object(Level::Log, first, last)), [], "{first}-{last}");
        }
        assert_eq!(log(&object(Level::One, 3, 5)), []);
        let other_content = ObjectName { checksum_after: Checksum(99), ..object(Level::Log, 3, 5) };
        assert_eq!(log(&other_content), []);
        let mut resized = records.clone();
        resized[1].page_size = PageSize::new(512).unwrap();
        assert_eq!(sources(&object(Level::Log, 3, 5), &resized, None, &[]), []);
    }

    #[test]
    fn an_image_gives_the_snapshot_of_its_state_and_others_what_they_list() {
        let name = object(Level::Snapshot, 1, 7);
        let at = |txid| Some(Position { lineage: Lineage(1), txid: Txid(txid), checksum: Checksum(txid) });
        let others = [(0, vec![object(Level::Log, 1, 7)]), (2, vec![name])];
        assert_eq!(sources(&name, &[], at(7), &others), [Source::Image(name), Source::Place(2, name)]);
        assert_eq!(sources(&name, &[], at(8), &others), [Source::Place(2, name)]);
        assert_eq!(sources(&object(Level::Log, 1, 7), &[], at(7), &others)[0], Source::Place(0, others[0].1[0]));
    }

    #[test]
    fn a_hole_is_filled_from_the_log_first_and_its_rest_is_lost_once() {
        let others = [(1, vec![object(Level::Log, 2, 3), object(Level::Log, 2, 5), object(Level::Snapshot, 1, 9)])];
        let filling = fill(hole(1, 12), Lineage(1), &[record(6, 6), record(7, 8), record(11, 14)], &others);
        assert_eq!(
            filling.objects,
            [
                Source::Place(1, object(Level::Log, 2, 5)),
                Source::Log(vec![record(6, 6), record(7, 8)]),
                Source::Log(vec![record(11, 14)]),
            ]
        );
        assert_eq!(filling.unfilled, [hole(1, 1), hole(9, 10)]);
    }

    #[test]
    fn windows_cut_anew_are_bounded() {
        let records: Vec<SegmentRecord> = (1..=40).map(|txid| record(txid, txid)).collect();
        let filling = fill(hole(2, 40), Lineage(1), &records, &[]);
        let lengths: Vec<usize> = filling
            .objects
            .iter()
            .map(|source| match source {
                Source::Log(records) => records.len(),
                _ => 0,
            })
            .collect();
        assert_eq!(lengths, [16, 16, 7]);
        assert_eq!(filling.unfilled, []);
    }

    proptest! {
        #[test]
        fn what_is_not_filled_is_what_nobody_has(
            logged in prop::collection::vec((1_u64..30, 0_u64..5), 0..6),
            listed in prop::collection::vec((1_u64..30, 0_u64..5), 0..6),
            first in 1_u64..30,
            more in 0_u64..20,
        ) {
            let mut records: Vec<SegmentRecord> = Vec::new();
            for (first, more) in logged {
                let first = records.last().map_or(first, |last| last.last.0 + first);
                records.push(record(first, first + more));
            }
            let names: Vec<ObjectName> = listed.iter().map(|(first, more)| object(Level::Log, *first, first + more)).collect();
            let others = [(0, names.clone())];
            let hole = hole(first, first + more);
            let filling = fill(hole, Lineage(1), &records, &others);
            for txid in (hole.first.0..=hole.last.0).map(Txid) {
                let is_had = records.iter().any(|record| record.first <= txid && txid <= record.last)
                    || names.iter().any(|name| name.first <= txid && txid <= name.last);
                let is_lost = filling.unfilled.iter().any(|hole| hole.first <= txid && txid <= hole.last);
                let is_filled = filling.objects.iter().any(|source| match source {
                    Source::Log(records) => records[0].first <= txid && txid <= records[records.len() - 1].last,
                    Source::Place(_, name) => name.first <= txid && txid <= name.last,
                    Source::Image(_) => false,
                });
                prop_assert_eq!(is_had, is_filled, "{}", txid);
                prop_assert_eq!(is_had, !is_lost, "{}", txid);
            }
        }
    }
}
