//! What a node's log gives for a transaction is that transaction, and whatever its image lacks is there.
//!
//! Source: Seawall's design, "images … fsynced before a piece of the log file goes", and promise 2: an entry that was never
//! committed must not be read in place of the one that was.

use bytes::Bytes;
use seawall_node::replica::SegmentRecord;
use seawall_proto::position::Txid;
use seawall_proto::segment::SegmentDecoder;

/// Checks what a log gave for `record` of the position log beside it: its parts, or nothing. `folded` is how far the
/// image beside it was once the log had answered; `None` while there is no usable one.
///
/// # Errors
/// What does not hold, in words.
pub fn check(record: &SegmentRecord, parts: Option<Vec<Bytes>>, folded: Option<Txid>) -> Result<(), String> {
    let SegmentRecord { lineage, first, last, .. } = record;
    let it = format!("@{lineage}/{first} to {last}, of the log's entries {:?}", record.entries);
    let Some(parts) = parts else {
        return match folded.filter(|folded| folded < last) {
            Some(folded) => Err(format!("its image is at {folded}, and its log does not have {it}")),
            None => Ok(()),
        };
    };
    let mut decoder = SegmentDecoder::new();
    parts.into_iter().for_each(|part| decoder.push(part));
    while decoder.next().map_err(|error| format!("its log gives for {it}: {error}"))?.is_some() {}
    let summary = decoder.finish().map_err(|error| format!("its log gives for {it}: {error}"))?;
    let header = &summary.header;
    let found = (header.lineage, header.first, header.last, header.checksum_before, summary.checksum_after);
    if found == (*lineage, *first, *last, record.checksum_before, record.checksum_after) {
        return Ok(());
    }
    Err(format!(
        "its log gives for {it}: @{}/{} to {}, from {} to {} instead of {} to {}",
        header.lineage,
        header.first,
        header.last,
        header.checksum_before,
        summary.checksum_after,
        record.checksum_before,
        record.checksum_after
    ))
}

#[cfg(test)]
mod tests {
    use seawall_proto::checksum::Checksum;
    use seawall_proto::position::{Epoch, Lineage, PageNumber};
    use seawall_proto::segment::{SegmentEncoder, SegmentHeader, SegmentKind};

    use super::*;
    use crate::oracles::testing::PAGE_SIZE;

    /// The transaction 7, which makes a database of one page.
    fn segment() -> (SegmentRecord, Vec<Bytes>) {
        let page = [3; 512];
        let mut encoder = SegmentEncoder::new(SegmentHeader {
            page_size: PAGE_SIZE,
            lineage: Lineage(1),
            first: Txid(7),
            last: Txid(7),
            checksum_before: Checksum(5),
            kind: SegmentKind::Log,
        });
        encoder.page(PageNumber(1), &page).unwrap();
        encoder.commit(1, 0, Checksum(9)).unwrap();
        let (parts, summary) = encoder.finish().unwrap();
        let record = SegmentRecord {
            lineage: Lineage(1),
            epoch: Epoch(1),
            first: Txid(7),
            last: Txid(7),
            checksum_before: Checksum(5),
            checksum_after: Checksum(9),
            commit_time_ms: 0,
            page_size: PAGE_SIZE,
            page_count: 1,
            bytes: summary.bytes,
            entries: vec![12],
        };
        (record, parts)
    }

    #[test]
    fn takes_the_transaction_itself_and_nothing_where_the_image_has_it() {
        let (record, parts) = segment();
        assert_eq!(check(&record, Some(parts), Some(Txid(3))), Ok(()));
        assert_eq!(check(&record, None, Some(Txid(7))), Ok(()));
        assert_eq!(check(&record, None, None), Ok(()));
    }

    #[test]
    fn refuses_another_transaction_half_of_one_and_none_that_is_needed() {
        let (record, mut parts) = segment();
        let other = SegmentRecord { checksum_after: Checksum(8), ..record.clone() };
        assert!(check(&other, Some(parts.clone()), None).unwrap_err().contains("instead of"));
        assert!(check(&record, None, Some(Txid(6))).unwrap_err().contains("its image is at 6"));
        let last = parts.pop().unwrap();
        parts.push(last.slice(..last.len() - 1));
        assert!(check(&record, Some(parts), None).is_err());
    }
}
