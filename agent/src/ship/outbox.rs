//! What was sent and is not acknowledged yet.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use seawall_proto::MAX_PART_BYTES;
use seawall_proto::checksum::Checksum;
use seawall_proto::position::Txid;
use seawall_proto::segment::SegmentKind;
use seawall_proto::v1::{Head, SegmentPart};

use super::source::Piece;
use crate::AgentSizes;

/// A segment of which parts were made.
#[derive(Debug)]
struct Segment {
    last: Txid,
    /// Set once the last part was made.
    checksum_after: Option<Checksum>,
    parts: Vec<SegmentPart>,
    next_part: u32,
    bytes: usize,
    kept: bool,
    /// Encoded bytes that don't fill a part yet.
    rest: BytesMut,
}

/// The segments on their way, in order.
#[derive(Debug)]
pub(super) struct Outbox {
    segments: VecDeque<Segment>,
    acknowledged: (Txid, Checksum),
    sizes: AgentSizes,
}

/// How the outbox stands to the cluster's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reconciled {
    /// What the head covers was dropped; the rest can be sent again.
    Resend,
    /// Parts that would have to be sent again were not kept.
    NotKept,
    /// The head is no state of ours.
    Foreign,
}

impl Outbox {
    /// Nothing is on its way; the cluster has this state.
    pub(super) fn new(txid: Txid, checksum: Checksum, sizes: &AgentSizes) -> Self {
        let sizes = AgentSizes { part_bytes: sizes.part_bytes.clamp(1, MAX_PART_BYTES), ..sizes.clone() };
        Self { segments: VecDeque::new(), acknowledged: (txid, checksum), sizes }
    }

    /// The newest acknowledged state.
    pub(super) const fn acknowledged(&self) -> (Txid, Checksum) {
        self.acknowledged
    }

    /// Segments on their way.
    pub(super) fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Bytes kept in memory.
    pub(super) fn bytes(&self) -> usize {
        self.segments.iter().filter(|segment| segment.kept).map(|segment| segment.bytes).sum()
    }

    /// Whether an acknowledgement is due: a segment is complete, kept or not.
    pub(super) fn is_awaiting(&self) -> bool {
        self.segments.front().is_some_and(|segment| segment.checksum_after.is_some())
    }

    /// Whether nothing should be added before something is acknowledged. A segment that is alone and not complete must
    /// go on: nobody acknowledges a part of it.
    pub(super) fn is_full(&self) -> bool {
        let AgentSizes { in_flight_bytes, in_flight_segments, .. } = self.sizes;
        self.is_awaiting() && (self.bytes() >= in_flight_bytes || self.segments() >= in_flight_segments)
    }

    /// Takes in encoded bytes; answers the parts that are complete by them.
    pub(super) fn add(&mut self, piece: Piece) -> Vec<SegmentPart> {
        let header = piece.header;
        let begins = self.segments.back().is_none_or(|segment| segment.checksum_after.is_some());
        if begins {
            self.segments.push_back(Segment {
                last: header.last,
                checksum_after: None,
                parts: Vec::new(),
                next_part: 0,
                bytes: 0,
                kept: true,
                rest: BytesMut::new(),
            });
        }
        let Some(segment) = self.segments.back_mut() else { return Vec::new() };
        let mut payloads: Vec<Bytes> = Vec::new();
        let whole = begins && piece.end.is_some();
        match <[Bytes; 1]>::try_from(piece.bytes) {
            // A segment in one piece travels as it was encoded.
            Ok([bytes]) if whole && bytes.len() <= self.sizes.part_bytes => {
                segment.bytes += bytes.len();
                payloads.push(bytes);
            }
            other => {
                let pieces = other.map_or_else(|pieces| pieces, Vec::from);
                for bytes in pieces {
                    segment.bytes += bytes.len();
                    segment.rest.extend_from_slice(&bytes);
                }
                while segment.rest.len() > self.sizes.part_bytes {
                    payloads.push(segment.rest.split_to(self.sizes.part_bytes).freeze());
                }
                if piece.end.is_some() {
                    payloads.push(segment.rest.split().freeze());
                }
            }
        }
        let mut parts: Vec<SegmentPart> = payloads
            .into_iter()
            .map(|payload| {
                let part = segment.next_part;
                segment.next_part += 1;
                SegmentPart {
                    first: header.first.0,
                    last: header.last.0,
                    checksum_before: header.checksum_before.0,
                    page_size: header.page_size.bytes(),
                    part,
                    resync: header.kind == SegmentKind::Resync,
                    payload,
                    ..SegmentPart::default()
                }
            })
            .collect();
        if let (Some(end), Some(last)) = (piece.end, parts.last_mut()) {
            last.is_last = true;
            last.checksum_after = end.summary.checksum_after.0;
            last.page_count = end.summary.page_count;
            last.commit_time_ms = end.summary.last_commit_time_ms;
            last.wal = end.wal;
            segment.checksum_after = Some(end.summary.checksum_after);
        }
        segment.kept &= segment.bytes <= self.sizes.kept_bytes;
        if segment.kept {
            segment.parts.extend(parts.iter().cloned());
        } else {
            segment.parts = Vec::new();
        }
        parts
    }

    /// Everything up to `txid` is acknowledged.
    pub(super) fn acknowledge(&mut self, txid: Txid) {
        while let Some(segment) = self.segments.front() {
            match segment.checksum_after {
                Some(checksum) if segment.last <= txid => {
                    self.acknowledged = (segment.last, checksum);
                    self.segments.pop_front();
                }
                _ => break,
            }
        }
    }

    /// Drops what `head` covers, if it is a state of ours.
    pub(super) fn reconcile(&mut self, head: &Head) -> Reconciled {
        let head = (Txid(head.txid), Checksum(head.checksum));
        let ours = |segment: &Segment| Some(head) == segment.checksum_after.map(|checksum| (segment.last, checksum));
        if head != self.acknowledged && !self.segments.iter().any(ours) {
            return Reconciled::Foreign;
        }
        self.acknowledge(head.0);
        if self.segments.iter().all(|segment| segment.kept) { Reconciled::Resend } else { Reconciled::NotKept }
    }

    /// All parts on their way, in order.
    pub(super) fn parts(&self) -> Vec<SegmentPart> {
        self.segments.iter().flat_map(|segment| segment.parts.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use seawall_proto::position::{Lineage, PageSize};
    use seawall_proto::segment::{SegmentHeader, SegmentSummary};

    use super::super::source::PieceEnd;
    use super::*;

    fn piece(first: u64, last: u64, sizes: &[usize], ends: bool) -> Piece {
        let header = SegmentHeader {
            page_size: PageSize::new(4096).unwrap(),
            lineage: Lineage(1),
            first: Txid(first),
            last: Txid(last),
            checksum_before: Checksum(first - 1),
            kind: SegmentKind::Log,
        };
        let summary = SegmentSummary {
            header,
            checksum_after: Checksum(last),
            page_count: 7,
            first_commit_time_ms: 1,
            last_commit_time_ms: 2,
            transactions: last - first + 1,
            pages: 1,
            frames: 1,
            bytes: 0,
        };
        let bytes = sizes.iter().map(|size| Bytes::from(vec![first as u8; *size])).collect();
        Piece { header, bytes, end: ends.then_some(PieceEnd { summary, wal: None }) }
    }

    fn head(txid: u64) -> Head {
        Head { txid, checksum: txid, ..Head::default() }
    }

    #[test]
    fn small_segments_are_one_part_and_kept_until_acknowledged() {
        let mut outbox = Outbox::new(Txid::NONE, Checksum::EMPTY, &AgentSizes::default());
        for (first, last) in [(1, 3), (4, 4), (5, 9)] {
            let parts = outbox.add(piece(first, last, &[100, 50], true));
            assert_eq!(parts.len(), 1);
            assert!(parts[0].is_last && parts[0].checksum_after == last && parts[0].payload.len() == 150);
        }
        assert_eq!(outbox.bytes(), 450);
        outbox.acknowledge(Txid(4));
        assert_eq!((outbox.acknowledged(), outbox.bytes()), ((Txid(4), Checksum(4)), 150));
        assert_eq!(outbox.reconcile(&head(4)), Reconciled::Resend);
        assert_eq!(outbox.parts().len(), 1);
        assert_eq!(outbox.reconcile(&head(9)), Reconciled::Resend);
        assert!(outbox.parts().is_empty());
    }

    #[test]
    fn a_head_that_is_no_state_of_ours_is_foreign() {
        let mut outbox = Outbox::new(Txid(3), Checksum(3), &AgentSizes::default());
        outbox.add(piece(4, 6, &[10], true));
        assert_eq!(outbox.reconcile(&head(5)), Reconciled::Foreign);
        assert_eq!(outbox.reconcile(&head(7)), Reconciled::Foreign);
        assert_eq!(outbox.reconcile(&Head { checksum: 1, ..head(6) }), Reconciled::Foreign);
        assert_eq!(outbox.reconcile(&head(3)), Reconciled::Resend);
    }

    #[test]
    fn large_segments_travel_in_parts_and_are_not_kept() {
        let mut outbox = Outbox::new(Txid::NONE, Checksum::EMPTY, &AgentSizes::default());
        let mut parts = Vec::new();
        for step in 0..10 {
            assert!(!outbox.is_awaiting());
            parts.extend(outbox.add(piece(1, 1, &[700_000], step == 9)));
        }
        let numbers: Vec<u32> = parts.iter().map(|part| part.part).collect();
        assert_eq!(numbers, (0..14).collect::<Vec<u32>>());
        assert_eq!(parts.iter().map(|part| part.payload.len()).sum::<usize>(), 7_000_000);
        assert!(parts.iter().all(|part| part.payload.len() <= MAX_PART_BYTES));
        assert!(parts[..13].iter().all(|part| !part.is_last) && parts[13].is_last);
        assert!(outbox.bytes() == 0 && outbox.is_awaiting());
        assert_eq!(outbox.reconcile(&head(0)), Reconciled::NotKept);
        assert_eq!(outbox.reconcile(&head(1)), Reconciled::Resend);
    }

    #[test]
    fn a_full_outbox_lets_a_segment_that_was_begun_go_on() {
        let sizes = AgentSizes { in_flight_segments: 1, in_flight_bytes: 100, ..AgentSizes::default() };
        let mut outbox = Outbox::new(Txid::NONE, Checksum::EMPTY, &sizes);
        assert!(!outbox.is_full());
        outbox.add(piece(1, 1, &[200], false));
        assert!(!outbox.is_full());
        outbox.add(piece(1, 1, &[200], true));
        assert!(outbox.is_full());
        outbox.acknowledge(Txid(1));
        assert!(!outbox.is_full());
    }
}
