//! Records: what the frames of a segment hold.

use bytes::Bytes;

use crate::checksum::Checksum;
use crate::position::{PageNumber, PageSize};

const PAGE: u8 = 1;
const COMMIT: u8 = 2;

/// Bytes of a page's record before the page itself.
pub(super) const PAGE_PREFIX: usize = 5;
/// Bytes of a commit's record.
pub(super) const COMMIT_LEN: usize = 26;

const RESYNC: u8 = 1;

/// One record.
pub(super) enum Record {
    Page { page: PageNumber, bytes: Bytes },
    Commit(Commit),
}

/// The record that ends a transaction. It names no txid, so that frames can be copied from segment to segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Commit {
    pub(super) page_count: u32,
    pub(super) pages: u32,
    pub(super) commit_time_ms: i64,
    pub(super) checksum_after: Checksum,
    pub(super) resync: bool,
}

/// The length of a page's record.
pub(super) const fn page_len(page_size: PageSize) -> usize {
    PAGE_PREFIX + page_size.bytes() as usize
}

pub(super) fn write_page(out: &mut Vec<u8>, page: PageNumber, bytes: &[u8]) {
    out.push(PAGE);
    out.extend_from_slice(&page.0.to_le_bytes());
    out.extend_from_slice(bytes);
}

impl Commit {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(COMMIT);
        out.push(if self.resync { RESYNC } else { 0 });
        out.extend_from_slice(&self.page_count.to_le_bytes());
        out.extend_from_slice(&self.pages.to_le_bytes());
        out.extend_from_slice(&self.commit_time_ms.to_le_bytes());
        out.extend_from_slice(&self.checksum_after.0.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (&[_, flags], rest) = bytes.split_first_chunk()?;
        let (page_count, rest) = rest.split_first_chunk()?;
        let (pages, rest) = rest.split_first_chunk()?;
        let (time, rest) = rest.split_first_chunk()?;
        let (checksum, _) = rest.split_first_chunk()?;
        (flags <= RESYNC).then_some(Self {
            page_count: u32::from_le_bytes(*page_count),
            pages: u32::from_le_bytes(*pages),
            commit_time_ms: i64::from_le_bytes(*time),
            checksum_after: Checksum(u64::from_le_bytes(*checksum)),
            resync: flags == RESYNC,
        })
    }
}

/// The records of one frame's content, one after the other.
pub(super) struct Records {
    content: Bytes,
    at: usize,
    page_size: PageSize,
}

impl Records {
    pub(super) const fn new(content: Bytes, page_size: PageSize) -> Self {
        Self { content, at: 0, page_size }
    }

    /// Goes on from the record at `offset` of the content.
    pub(super) const fn starting_at(mut self, offset: usize) -> Self {
        self.at = offset;
        self
    }

    /// Takes the next record; `None` at the end.
    ///
    /// # Errors
    /// The rule that the content breaks.
    pub(super) fn next(&mut self) -> Result<Option<Record>, &'static str> {
        const CUT_OFF: &str = "a frame ends within a record";
        let rest = self.content.get(self.at..).ok_or(CUT_OFF)?;
        let Some(&tag) = rest.first() else { return Ok(None) };
        let length = match tag {
            PAGE => page_len(self.page_size),
            COMMIT => COMMIT_LEN,
            _ => return Err("a record is neither a page nor a commit"),
        };
        let record = rest.get(..length).ok_or(CUT_OFF)?;
        let start = self.at;
        self.at += length;
        if tag == COMMIT {
            return Commit::read(record).map(|commit| Some(Record::Commit(commit))).ok_or("a commit has unknown flags");
        }
        let (number, _) = record[1..].split_first_chunk().ok_or(CUT_OFF)?;
        let page = PageNumber(u32::from_le_bytes(*number));
        Ok(Some(Record::Page { page, bytes: self.content.slice(start + PAGE_PREFIX..start + length) }))
    }
}
