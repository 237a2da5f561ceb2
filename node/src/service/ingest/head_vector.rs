//! The hashes of a database's pages at its head, against which appends are verified before they are proposed.

use bytes::Bytes;
use seawall_host::probe::mutant;
use seawall_proto::MAX_PART_BYTES;
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{Lineage, PageNumber, PageSize, Position, Txid};
use seawall_proto::segment::{SegmentDecoder, SegmentEvent, SegmentHeader, SegmentKind, Transaction};
use seawall_proto::v1;

use crate::store::image::PageVector;

/// Why a part of a segment is not proposed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum VerifyError {
    /// It does not continue the head.
    #[error("transaction {first} on {before} does not continue the head {head}")]
    NotAdjacent { first: Txid, before: Checksum, head: Position },
    /// It is damaged or contradicts itself or the pages it replaces.
    #[error("{0}")]
    Invalid(String),
}

fn invalid(what: impl ToString) -> VerifyError {
    VerifyError::Invalid(what.to_string())
}

/// Page hashes at the newest verified state. Worthless after an error.
pub(super) struct HeadVector {
    position: Position,
    commit_time_ms: i64,
    page_size: Option<PageSize>,
    /// Of `page_size`.
    vector: Option<PageVector<Checksum>>,
    open: Option<OpenSegment>,
}

/// A segment of which some parts came.
struct OpenSegment {
    header: SegmentHeader,
    decoder: SegmentDecoder,
    next_part: u32,
}

impl HeadVector {
    /// The vector at `head` from the hashes of its pages, which must prove it.
    ///
    /// # Errors
    /// In words, if they don't.
    pub(super) fn new(head: &v1::Head, hashes: Vec<u64>) -> Result<Self, String> {
        let position =
            Position { lineage: Lineage(head.lineage), txid: Txid(head.txid), checksum: Checksum(head.checksum) };
        let mut this = Self { position, commit_time_ms: i64::MIN, page_size: None, vector: None, open: None };
        if position.txid > Txid::NONE {
            let page_size = PageSize::new(head.page_size).map_err(|error| error.to_string())?;
            let vector = PageVector::from_records(page_size, hashes.into_iter().map(Checksum).collect());
            if vector.sum() != position.checksum || vector.records().len() != head.page_count as usize {
                return Err(format!(
                    "{} page hashes sum up to {}, not {position}",
                    vector.records().len(),
                    vector.sum()
                ));
            }
            (this.page_size, this.vector, this.commit_time_ms) = (Some(page_size), Some(vector), head.commit_time_ms);
        }
        Ok(this)
    }

    /// Whether a segment is incomplete.
    pub(super) fn is_within_segment(&self) -> bool {
        self.open.is_some()
    }

    /// Verifies the next part. After the last part of a segment the vector is at the segment's end.
    ///
    /// # Errors
    /// [`VerifyError`]; nothing of the segment that was not proposed may be.
    pub(super) fn verify(&mut self, part: &v1::SegmentPart) -> Result<(), VerifyError> {
        if mutant("retry-without-dedupe") && part.first <= self.position.txid.0 && self.open.is_none() {
            return Ok(());
        }
        if part.payload.is_empty() || part.payload.len() > MAX_PART_BYTES {
            return Err(invalid(format!("a part has {} bytes, not 1 to {MAX_PART_BYTES}", part.payload.len())));
        }
        let header = self.claimed_header(part)?;
        let mut open = match self.open.take() {
            Some(open) if open.next_part == part.part && open.header == header => open,
            Some(open) => {
                let (expected, found) = (open.next_part, part.part);
                return Err(invalid(format!("part {expected} of the open segment was expected, not part {found}")));
            }
            None => self.open_segment(header, part.part)?,
        };
        open.decoder.push(part.payload.clone());
        let mut is_complete = false;
        while let Some(event) = open.decoder.next().map_err(invalid)? {
            match event {
                SegmentEvent::Header(found) if found == open.header => {}
                SegmentEvent::Header(_) => return Err(invalid("the segment's header is not what its parts say")),
                SegmentEvent::Page { page, bytes, .. } => self.put(open.header.page_size, page, &bytes)?,
                SegmentEvent::Commit(transaction) => self.commit(&transaction)?,
                SegmentEvent::End(_) => is_complete = true,
            }
        }
        if is_complete != part.is_last {
            return Err(invalid("the segment does not end with its last part"));
        }
        open.next_part = open.next_part.checked_add(1).ok_or_else(|| invalid("too many parts"))?;
        if part.is_last {
            return self.close(open, part);
        }
        self.open = Some(open);
        Ok(())
    }

    /// Goes on by the next piece of a segment that is in the log, in `decoder` from its first piece on.
    ///
    /// # Errors
    /// [`VerifyError`], if the segment does not continue the vector or is damaged.
    pub(super) fn replay(&mut self, decoder: &mut SegmentDecoder, piece: Bytes) -> Result<(), VerifyError> {
        decoder.push(piece);
        while let Some(event) = decoder.next().map_err(invalid)? {
            match event {
                SegmentEvent::Header(header) => self.continue_with(&header)?,
                SegmentEvent::Page { page, bytes, .. } => {
                    let page_size = self.page_size.ok_or_else(|| invalid("a page comes before the header"))?;
                    self.put(page_size, page, &bytes)?;
                }
                SegmentEvent::Commit(transaction) => self.commit(&transaction)?,
                SegmentEvent::End(_) => {}
            }
        }
        Ok(())
    }

    /// The state it is at.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    fn put(&mut self, page_size: PageSize, page: PageNumber, bytes: &[u8]) -> Result<(), VerifyError> {
        let vector = self.vector.get_or_insert_with(|| PageVector::new(page_size));
        vector.put(page, Checksum::of_page(page, bytes)).map_err(invalid)
    }

    fn claimed_header(&self, part: &v1::SegmentPart) -> Result<SegmentHeader, VerifyError> {
        let header = SegmentHeader {
            page_size: PageSize::new(part.page_size).map_err(invalid)?,
            lineage: self.position.lineage,
            first: Txid(part.first),
            last: Txid(part.last),
            checksum_before: Checksum(part.checksum_before),
            kind: if part.resync { SegmentKind::Resync } else { SegmentKind::Log },
        };
        header.validate().map_err(invalid)?;
        Ok(header)
    }

    fn open_segment(&mut self, header: SegmentHeader, part: u32) -> Result<OpenSegment, VerifyError> {
        if part != 0 {
            self.check_adjacent(&header)?;
            return Err(invalid(format!("a segment begins with part 0, not {part}")));
        }
        self.continue_with(&header)?;
        Ok(OpenSegment { header, decoder: SegmentDecoder::new(), next_part: 0 })
    }

    fn check_adjacent(&self, header: &SegmentHeader) -> Result<(), VerifyError> {
        let SegmentHeader { first, checksum_before: before, .. } = *header;
        if first != self.position.txid.next() || before != self.position.checksum {
            return Err(VerifyError::NotAdjacent { first, before, head: self.position });
        }
        Ok(())
    }

    fn continue_with(&mut self, header: &SegmentHeader) -> Result<(), VerifyError> {
        self.check_adjacent(header)?;
        if self.page_size != Some(header.page_size) {
            // All pages come anew.
            self.page_size = Some(header.page_size);
            self.vector = Some(PageVector::new(header.page_size));
        }
        Ok(())
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), VerifyError> {
        let Transaction { txid, page_count, commit_time_ms, checksum_after, .. } = *transaction;
        if let Some(vector) = &mut self.vector {
            vector.commit(page_count).map_err(|error| invalid(format!("transaction {txid}: {error}")))?;
        }
        let sum = self.vector.as_ref().map_or(Checksum::EMPTY, PageVector::sum);
        if sum != checksum_after {
            return Err(invalid(format!("transaction {txid} leads to checksum {sum}, but says {checksum_after}")));
        }
        if commit_time_ms < self.commit_time_ms {
            return Err(invalid(format!("transaction {txid} is said to be earlier than the one before")));
        }
        self.position = Position { txid, checksum: sum, ..self.position };
        self.commit_time_ms = commit_time_ms;
        Ok(())
    }

    fn close(&self, open: OpenSegment, part: &v1::SegmentPart) -> Result<(), VerifyError> {
        let summary = open.decoder.finish().map_err(invalid)?;
        let said = (Checksum(part.checksum_after), part.page_count, part.commit_time_ms);
        if said != (summary.checksum_after, summary.page_count, summary.last_commit_time_ms) {
            return Err(invalid("the segment's end is not what its last part says"));
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::image::testing::{Change, Model, change};

    /// The parts that an agent sends of a segment after which the database is `after`.
    pub(in crate::service::ingest) fn parts(
        before: &Model,
        after: &Model,
        segment: &[Bytes],
        part_bytes: usize,
    ) -> Vec<v1::SegmentPart> {
        let whole: Bytes = segment.concat().into();
        let head = after.head();
        let count = whole.len().div_ceil(part_bytes);
        let part = |number: usize| {
            let is_last = number + 1 == count;
            let payload = whole.slice(number * part_bytes..whole.len().min((number + 1) * part_bytes));
            let common = v1::SegmentPart {
                first: before.txid.0 + 1,
                last: after.txid.0,
                checksum_before: before.checksum().0,
                page_size: after.page_size.bytes(),
                part: number as u32,
                is_last,
                payload,
                ..v1::SegmentPart::default()
            };
            if !is_last {
                return common;
            }
            let (checksum_after, commit_time_ms) = (head.checksum, head.commit_time_ms);
            v1::SegmentPart { checksum_after, page_count: head.page_count, commit_time_ms, ..common }
        };
        (0..count).map(part).collect()
    }

    fn verify_all(vector: &mut HeadVector, parts: &[v1::SegmentPart]) -> Result<(), VerifyError> {
        parts.iter().try_for_each(|part| vector.verify(part))
    }

    fn vector(model: &Model) -> HeadVector {
        HeadVector::new(&model.head(), model.hashes()).unwrap()
    }

    fn write(size: u32) -> Change {
        Change { size, writes: vec![(1, 2), (5, 9)], other_page_size: false }
    }

    /// A database of ten pages, the next state, and the segment between.
    fn example() -> (Model, Model, Vec<Bytes>) {
        let mut model = Model::new();
        model.segment(&[write(10)]);
        let before = model.clone();
        let segment = model.segment(&[write(12), write(9)]);
        (before, model, segment)
    }

    proptest! {
        #[test]
        fn accepts_what_an_agent_sends_in_parts_of_any_size(
            segments in proptest::collection::vec(proptest::collection::vec(change(), 1..4), 1..5), size in 1..2000_usize
        ) {
            let mut model = Model::new();
            let mut vector = vector(&model);
            for changes in segments {
                let before = model.clone();
                let segment = model.segment(&changes);
                prop_assert_eq!(verify_all(&mut vector, &parts(&before, &model, &segment, size)), Ok(()));
                prop_assert!(!vector.is_within_segment());
                prop_assert_eq!(vector.position, model.position());
            }
        }

        #[test]
        fn refuses_any_flipped_bit(flip: proptest::sample::Index, size in 20..2000_usize) {
            let (before, after, segment) = example();
            let mut damaged = segment.concat();
            let bit = flip.index(damaged.len() * 8);
            damaged[bit / 8] ^= 1 << (bit % 8);
            let parts = parts(&before, &after, &[damaged.into()], size);
            prop_assert!(verify_all(&mut vector(&before), &parts).is_err());
        }
    }

    #[test]
    fn refuses_a_whole_segment_that_does_not_lead_where_it_says() {
        let (before, _, _) = example();
        let mut after = before.clone();
        after.txid = after.txid.next();
        // Well-formed, and every claim beside it agrees: only the pages it replaces tell.
        let poison = before.claim(&[(3, 77)], 10, before.checksum());
        let mut parts = parts(&before, &after, &poison, 1 << 19);
        parts[0].commit_time_ms = before.commit_time_ms() + 1;
        let refused = verify_all(&mut vector(&before), &parts).unwrap_err();
        assert!(matches!(&refused, VerifyError::Invalid(what) if what.contains("leads to checksum")), "{refused}");
        // The same with its true checksum is fine.
        after.pages[2] = vec![77; after.page_size.bytes() as usize];
        let honest = before.claim(&[(3, 77)], 10, after.checksum());
        assert_eq!(verify_all(&mut vector(&before), &self::parts(&before, &after, &honest, 1 << 19)), Ok(()));
    }

    #[test]
    fn refuses_growth_without_all_of_its_pages() {
        let (before, _, _) = example();
        let mut after = before.clone();
        after.txid = after.txid.next();
        let hash = Checksum::of_page(seawall_proto::position::PageNumber(12), &[5; 1024]);
        let poison = before.claim(&[(12, 5)], 12, before.checksum() ^ hash);
        let refused = verify_all(&mut vector(&before), &parts(&before, &after, &poison, 1 << 19)).unwrap_err();
        assert!(matches!(&refused, VerifyError::Invalid(what) if what.contains("missing")), "{refused}");
    }

    #[test]
    fn refuses_what_does_not_continue_the_head() {
        let (before, after, segment) = example();
        let parts = parts(&before, &after, &segment, 1 << 19);
        let mut elsewhere = vector(&after);
        assert!(matches!(verify_all(&mut elsewhere, &parts), Err(VerifyError::NotAdjacent { .. })));
        let wrong = v1::SegmentPart { checksum_before: 5, ..parts[0].clone() };
        assert!(matches!(vector(&before).verify(&wrong), Err(VerifyError::NotAdjacent { .. })));
    }

    #[test]
    fn refuses_parts_that_contradict_the_segment_or_each_other() {
        let (before, after, segment) = example();
        let good = parts(&before, &after, &segment, 300);
        assert!(good.len() >= 3);
        let last = good.len() - 1;
        let spoilt: [fn(&mut Vec<v1::SegmentPart>, usize); 12] = [
            |parts, last| parts[last].checksum_after ^= 1,
            |parts, last| parts[last].page_count += 1,
            |parts, last| parts[last].commit_time_ms += 1,
            |parts, last| parts[last].is_last = false,
            |parts, _| parts[0].is_last = true,
            |parts, _| parts[1].part = 2,
            |parts, _| _ = parts.remove(1),
            |parts, _| parts.swap(0, 1),
            |parts, _| parts.iter_mut().for_each(|part| part.last += 1),
            |parts, _| parts.iter_mut().for_each(|part| part.page_size = 4096),
            |parts, _| parts.iter_mut().for_each(|part| part.resync = true),
            |parts, _| parts[1].payload = Bytes::new(),
        ];
        for (number, spoil) in spoilt.iter().enumerate() {
            let mut parts = good.clone();
            spoil(&mut parts, last);
            let outcome = verify_all(&mut vector(&before), &parts);
            assert!(matches!(outcome, Err(VerifyError::Invalid(_))), "{number}: {outcome:?}");
        }
        let extra = v1::SegmentPart { payload: [&good[last].payload[..], b"x"].concat().into(), ..good[last].clone() };
        let parts = [&good[..last], &[extra]].concat();
        assert!(verify_all(&mut vector(&before), &parts).is_err());
    }

    #[test]
    fn hashes_must_prove_the_head() {
        let (before, _, _) = example();
        let mut hashes = before.hashes();
        hashes[3] ^= 1;
        assert!(HeadVector::new(&before.head(), hashes).is_err());
        assert!(HeadVector::new(&before.head(), Vec::new()).is_err());
    }
}
