//! The hashes of a database's pages at its head, against which appends are verified before they are proposed.

use seawall_proto::MAX_PART_BYTES;
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{Lineage, PageSize, Position, Txid};
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
                SegmentEvent::Page { page, bytes, .. } => {
                    let vector = self.vector.get_or_insert_with(|| PageVector::new(open.header.page_size));
                    vector.put(page, Checksum::of_page(page, &bytes)).map_err(invalid)?;
                }
                SegmentEvent::Commit(transaction) => self.commit(&transaction)?,
                SegmentEvent::End(_) => is_complete = true,
            }
        }
        if is_complete != part.is_last {
            return Err(invalid("the segment does not end with its last part"));
        }
        open.next_part = open.next_part.checked_add(1).ok_or_else(|| invalid("too many parts"))?;
        if part.is_last { self.close(open, part) } else { Ok(self.open = Some(open)) }
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
        let SegmentHeader { first, checksum_before: before, .. } = header;
        if first != self.position.txid.next() || before != self.position.checksum {
            return Err(VerifyError::NotAdjacent { first, before, head: self.position });
        }
        if part != 0 {
            return Err(invalid(format!("a segment begins with part 0, not {part}")));
        }
        if self.page_size != Some(header.page_size) {
            // All pages come anew.
            self.page_size = Some(header.page_size);
            self.vector = Some(PageVector::new(header.page_size));
        }
        Ok(OpenSegment { header, decoder: SegmentDecoder::new(), next_part: 0 })
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
