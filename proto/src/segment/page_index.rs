//! The page index: which records each frame holds, from which every page's place follows.

use super::frame::FrameLengths;
use super::record;
use super::varint;
use crate::position::{PageNumber, PageSize};

/// Consecutive records of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// `len` pages, `first`, `first + 1` …
    Pages { first: PageNumber, len: u32 },
    /// The end of a transaction.
    Commit,
}

/// Writes the index's content, frame by frame. Runs of consecutive pages are as long as they can be, so that the same
/// frames always give the same bytes.
pub(super) struct PageIndexWriter {
    content: Vec<u8>,
    runs: Vec<u8>,
    /// The page after the last one of this frame.
    expected: u64,
    open: Option<(u64, u64)>,
}

const FIRST_EXPECTED: u64 = 1;

impl PageIndexWriter {
    pub(super) const fn new() -> Self {
        Self { content: Vec::new(), runs: Vec::new(), expected: FIRST_EXPECTED, open: None }
    }

    /// The next record is a page.
    pub(super) fn page(&mut self, page: PageNumber) {
        let page = u64::from(page.0);
        match &mut self.open {
            Some((first, len)) if *first + *len == page => *len += 1,
            _ => {
                self.end_run();
                self.open = Some((page, 1));
            }
        }
    }

    /// The next record is a commit.
    pub(super) fn commit(&mut self) {
        self.end_run();
        varint::write(&mut self.runs, 0);
    }

    /// The frame ends.
    pub(super) fn end_frame(&mut self, lengths: FrameLengths) {
        self.end_run();
        varint::write(&mut self.content, lengths.content.into());
        varint::write(&mut self.content, lengths.stored.into());
        self.content.append(&mut self.runs);
        self.expected = FIRST_EXPECTED;
    }

    fn end_run(&mut self) {
        let Some((first, len)) = self.open.take() else { return };
        let step = varint::zigzag(first as i64 - self.expected as i64);
        varint::write(&mut self.runs, 1 + (step << 1 | u64::from(len > 1)));
        if len > 1 {
            varint::write(&mut self.runs, len - 2);
        }
        self.expected = first + len;
    }

    /// What the frames that have ended added since the last call.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.content)
    }

    /// Hands over what the frames that have ended added since the last call, keeping the memory.
    pub(super) fn drain(&mut self, use_it: impl FnOnce(&[u8])) {
        use_it(&self.content);
        self.content.clear();
    }
}

/// What the index says of one thing after the other.
pub(super) enum Entry {
    /// A frame begins.
    Frame(FrameLengths),
    /// Records of that frame, the first of them at `offset` of its content.
    Run { run: Run, offset: u32 },
}

/// Reads the index's content, entry by entry.
pub(super) struct PageIndexReader<'a> {
    content: &'a [u8],
    page_size: PageSize,
    frame_len: u64,
    offset: u64,
    expected: i64,
}

impl<'a> PageIndexReader<'a> {
    pub(super) const fn new(content: &'a [u8], page_size: PageSize) -> Self {
        Self { content, page_size, frame_len: 0, offset: 0, expected: 0 }
    }

    /// The next entry; `Ok(None)` at the end.
    ///
    /// # Errors
    /// `Err(())` if the content breaks the rules.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, ()> {
        if self.offset == self.frame_len {
            return if self.content.is_empty() { Ok(None) } else { self.frame().map(Some).ok_or(()) };
        }
        self.run().map(Some).ok_or(())
    }

    fn frame(&mut self) -> Option<Entry> {
        let content = varint::read(&mut self.content)?;
        let stored = varint::read(&mut self.content)?;
        let lengths = FrameLengths::new(content, stored)?;
        (self.frame_len, self.offset, self.expected) = (content, 0, FIRST_EXPECTED as i64);
        Some(Entry::Frame(lengths))
    }

    fn run(&mut self) -> Option<Entry> {
        let offset = self.offset as u32;
        let Some(token) = varint::read(&mut self.content)?.checked_sub(1) else {
            self.advance(record::COMMIT_LEN as u64)?;
            return Some(Entry::Run { run: Run::Commit, offset });
        };
        let first = self.expected.checked_add(varint::unzigzag(token >> 1))?;
        let len = if token & 1 == 1 { varint::read(&mut self.content)?.checked_add(2)? } else { 1 };
        self.advance(len.checked_mul(record::page_len(self.page_size) as u64)?)?;
        let end = first.checked_add(len as i64)?;
        self.expected = end;
        let first = PageNumber(u32::try_from(first).ok()?);
        u32::try_from(end - 1).ok()?;
        Some(Entry::Run { run: Run::Pages { first, len: len as u32 }, offset })
    }

    fn advance(&mut self, by: u64) -> Option<()> {
        self.offset = self.offset.checked_add(by).filter(|&end| end <= self.frame_len)?;
        Some(())
    }
}
