//! An image at work: its vector, and the folded pages that are not in its files yet. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use seawall_host::probe::mutant;
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{PageNumber, PageSize, Position, Txid};
use seawall_proto::segment::{SegmentDecoder, SegmentError, SegmentEvent, SegmentHeader, SegmentKind, Transaction};

use super::ImageManifest;
use super::meta::Meta;
use super::vector::{MisfitError, PageEntry, PageVector};

/// Entries of the vector that are written together: 4 KiB of them.
pub(super) const BLOCK_ENTRIES: usize = 256;

/// What folding needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The next bytes of the segment.
    NeedBytes,
    /// Pages written out of memory.
    Full,
    /// Nothing: the segment is folded.
    Done,
}

/// Why a segment can't be folded.
#[derive(Debug, thiserror::Error)]
pub(super) enum FoldError {
    /// The segment is damaged, or belongs elsewhere: the image is as good as before.
    #[error("{0}")]
    Segment(String),
    /// The image and the segment contradict each other.
    #[error("{0}")]
    Mismatch(String),
}

impl From<SegmentError> for FoldError {
    fn from(error: SegmentError) -> Self {
        Self::Segment(error.to_string())
    }
}

#[derive(Debug)]
pub(super) struct Working {
    pub(super) position: Position,
    pub(super) page_size: Option<PageSize>,
    pub(super) page_count: u32,
    pub(super) commit_time_ms: i64,
    /// Of `page_size`; `None` while there is none.
    vector: Option<PageVector<PageEntry>>,
    /// Before this txid the files may be ahead of the position, in part: checksums prove nothing yet.
    until: Txid,
    /// The newest transaction with pages in `dirty`; it may be one that is still open.
    newest: Txid,
    dirty: BTreeMap<u32, Bytes>,
    dirty_bytes: usize,
    dirty_blocks: BTreeSet<usize>,
    /// The pages got another size: nothing in the files counts any more.
    restarted: bool,
    incoming: Option<PageSize>,
}

/// What is to be written to the files.
pub(super) struct Dirty {
    pub(super) page_size: PageSize,
    /// Empty the files first.
    pub(super) restarted: bool,
    pub(super) pages: BTreeMap<u32, Bytes>,
    /// Index of the first entry, and entries.
    pub(super) entries: Vec<(usize, Bytes)>,
}

impl Working {
    /// Goes on from what the files hold.
    pub(super) fn new(meta: &Meta, entries: Vec<PageEntry>) -> Self {
        Self {
            position: meta.position,
            page_size: meta.page_size,
            page_count: meta.page_count,
            commit_time_ms: meta.commit_time_ms,
            vector: meta.page_size.map(|size| PageVector::from_records(size, entries)),
            until: meta.reach,
            newest: meta.position.txid,
            dirty: BTreeMap::new(),
            dirty_bytes: 0,
            dirty_blocks: BTreeSet::new(),
            restarted: false,
            incoming: None,
        }
    }

    /// Puts right those entries that are not what the pages in the files say, from page 1 on, if all of these together
    /// are the position's state: then only the vector was damaged. When such a page last changed is not known any more,
    /// so it counts as changed by the newest transaction. Whether it did.
    pub(super) fn mend(&mut self, hashes: &[Checksum]) -> bool {
        let sum = hashes.iter().fold(Checksum::EMPTY, |sum, hash| sum ^ *hash);
        let (Some(page_size), Some(vector)) = (self.page_size, &self.vector) else { return false };
        if sum != self.position.checksum || hashes.len() != vector.records().len() {
            return false;
        }
        let mut entries = vector.records().to_vec();
        for (index, (entry, hash)) in entries.iter_mut().zip(hashes).enumerate() {
            if entry.hash != *hash {
                *entry = PageEntry { hash: *hash, changed: self.position.txid };
                self.dirty_blocks.insert(index / BLOCK_ENTRIES);
            }
        }
        self.vector = Some(PageVector::from_records(page_size, entries));
        true
    }

    /// Whether checksums are verified at the position; not while a fold that a crash interrupted is done again.
    pub(super) fn is_exact(&self) -> bool {
        self.position.txid >= self.until
    }

    /// Whether the vector is that of the position. In an exact image it always is, unless it is damaged.
    pub(super) fn is_consistent(&self) -> bool {
        self.sum() == self.position.checksum
    }

    /// Consistent from here on.
    pub(super) fn until(&self) -> Txid {
        self.until
    }

    /// The newest transaction any of whose pages may get into the files when they are written now.
    pub(super) fn reach(&self) -> Txid {
        self.newest.max(self.until).max(self.position.txid)
    }

    /// From page 1 on.
    pub(super) fn entries(&self) -> &[PageEntry] {
        self.vector.as_ref().map_or(&[], PageVector::records)
    }

    pub(super) fn dirty_bytes(&self) -> usize {
        self.dirty_bytes
    }

    /// Folds events of `decoder` until it needs more, or until `limit` bytes of pages wait to be written.
    pub(super) fn fold(&mut self, decoder: &mut SegmentDecoder, limit: usize) -> Result<Step, FoldError> {
        while self.dirty_bytes < limit {
            match decoder.next()? {
                None => return Ok(Step::NeedBytes),
                Some(SegmentEvent::Header(header)) => self.begin(&header)?,
                Some(SegmentEvent::Page { txid, page, bytes }) => self.page(txid, page, &bytes)?,
                Some(SegmentEvent::Commit(transaction)) => self.commit(&transaction)?,
                Some(SegmentEvent::End(_)) => return Ok(Step::Done),
            }
        }
        Ok(Step::Full)
    }

    fn begin(&mut self, header: &SegmentHeader) -> Result<(), FoldError> {
        let Position { lineage, txid, checksum } = self.position;
        let wrong = |what: String| Err(FoldError::Segment(what));
        if header.lineage != lineage {
            return wrong(format!("it is of lineage {}, the image of {lineage}", header.lineage));
        }
        if header.first > txid.next() || (header.kind == SegmentKind::Squashed && header.first != txid.next()) {
            let (first, last) = (header.first, header.last);
            return wrong(format!("transactions {first} to {last} do not continue the image at txid {txid}"));
        }
        if header.first == txid.next() && self.is_exact() && header.checksum_before != checksum {
            return Err(FoldError::Mismatch(format!(
                "at txid {txid} its checksum is {checksum}, but the log continues {}",
                header.checksum_before
            )));
        }
        self.incoming = Some(header.page_size);
        Ok(())
    }

    fn is_folded(&self, txid: Txid) -> bool {
        txid <= self.position.txid
    }

    /// The vector for the pages of a transaction; anew if they have another size than those so far.
    fn open(&mut self, txid: Txid) -> Result<&mut PageVector<PageEntry>, FoldError> {
        let incoming = self.incoming.ok_or_else(|| FoldError::Segment("it has no header".to_owned()))?;
        self.newest = txid;
        if self.page_size != Some(incoming) {
            self.page_size = Some(incoming);
            self.vector = None;
            self.dirty.clear();
            self.dirty_bytes = 0;
            self.dirty_blocks.clear();
            self.restarted = true;
        }
        Ok(self.vector.get_or_insert_with(|| PageVector::new(incoming)))
    }

    fn page(&mut self, txid: Txid, page: PageNumber, bytes: &Bytes) -> Result<(), FoldError> {
        if self.is_folded(txid) {
            return Ok(());
        }
        let entry = PageEntry { hash: Checksum::of_page(page, bytes), changed: txid };
        self.open(txid)?.put(page, entry).map_err(|error| misfit(txid, &error))?;
        self.dirty_blocks.insert((page.0 as usize - 1) / BLOCK_ENTRIES);
        if mutant("fold-skips-a-page") && page.0 % 4 == 2 {
            return Ok(());
        }
        // A copy: the decoder's bytes keep a whole frame in memory.
        if self.dirty.insert(page.0, Bytes::copy_from_slice(bytes)).is_none() {
            self.dirty_bytes += bytes.len();
        }
        Ok(())
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), FoldError> {
        let Transaction { txid, page_count, commit_time_ms, checksum_after, .. } = *transaction;
        if self.is_folded(txid) {
            return Ok(());
        }
        self.open(txid)?.commit(page_count).map_err(|error| misfit(txid, &error))?;
        for page in self.dirty.split_off(&page_count.saturating_add(1)).into_values() {
            self.dirty_bytes -= page.len();
        }
        let sum = self.sum();
        if txid >= self.until && sum != checksum_after {
            return Err(FoldError::Mismatch(format!(
                "after transaction {txid} its checksum is {sum}, the log says {checksum_after}"
            )));
        }
        self.position = Position { txid, checksum: checksum_after, ..self.position };
        self.page_count = page_count;
        self.commit_time_ms = commit_time_ms;
        Ok(())
    }

    fn sum(&self) -> Checksum {
        self.vector.as_ref().map_or(Checksum::EMPTY, PageVector::sum)
    }

    /// Whether there is anything to write.
    pub(super) fn is_dirty(&self) -> bool {
        self.restarted || !self.dirty_blocks.is_empty()
    }

    /// Takes what is to be written, if anything. It must be written, or this be forgotten.
    pub(super) fn take_dirty(&mut self) -> Option<Dirty> {
        let (page_size, vector) = (self.page_size?, self.vector.as_ref()?);
        if !self.is_dirty() {
            return None;
        }
        let records = vector.records();
        let entries = self.dirty_blocks.iter().filter_map(|block| {
            let first = block * BLOCK_ENTRIES;
            let block = records.get(first..records.len().min(first + BLOCK_ENTRIES))?;
            (!block.is_empty()).then(|| (first, PageEntry::encode_all(block)))
        });
        let entries = entries.collect();
        if vector.has_gap() {
            // What lies behind the gap has no place in the file yet.
            self.dirty_blocks.retain(|block| (block + 1) * BLOCK_ENTRIES > records.len());
        } else {
            self.dirty_blocks.clear();
        }
        self.dirty_bytes = 0;
        let pages = std::mem::take(&mut self.dirty);
        Some(Dirty { page_size, restarted: std::mem::take(&mut self.restarted), pages, entries })
    }

    /// What it holds; `None` while it is empty.
    pub(super) fn manifest(&self) -> Option<ImageManifest> {
        let Self { position, page_count, commit_time_ms, .. } = *self;
        let page_size = self.page_size.filter(|_| position.txid > Txid::NONE)?;
        Some(ImageManifest { position, page_size, page_count, commit_time_ms })
    }

    /// What the files hold durably once everything taken is written and synced.
    pub(super) fn meta(&self, generation: u64) -> Meta {
        Meta {
            generation,
            position: self.position,
            reach: self.until.max(self.position.txid),
            commit_time_ms: self.commit_time_ms,
            page_size: self.page_size,
            page_count: self.page_count,
            quarantined: None,
        }
    }
}

fn misfit(txid: Txid, error: &MisfitError) -> FoldError {
    FoldError::Mismatch(format!("transaction {txid}: {error}"))
}
