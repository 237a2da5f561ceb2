//! Reading frames up to a snapshot, proving each.

use std::path::Path;

use bytes::Bytes;
use seawall_host::time::UnixMillis;
use seawall_proto::checksum::Checksum;
use seawall_proto::position::PageSize;
use seawall_proto::v1::WalPosition;

use super::error::{CaptureError, OpenError, Surprise};
use super::guard::Sink;
use super::plan::Plan;
use super::vector::PageVector;
use crate::sqlite::Snapshot;
use crate::wal::{ByteOrder, FRAME_HEADER_BYTES, FrameHeader, RunningChecksum, WalFile, WalHeader};

/// The WAL read so far: every frame's checksum continues the one before.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) salts: [u8; 8],
    /// The last frame read.
    pub(super) frame: u32,
    /// The checksum at that frame. Before the first frame it is the header's, which may not be written yet.
    checksum: RunningChecksum,
    /// The header of the last frame read.
    pub(super) last_header: [u8; FRAME_HEADER_BYTES],
}

impl Chain {
    /// The chain before the first frame of a WAL.
    pub(super) const fn before_first_frame(salts: [u8; 8]) -> Self {
        let checksum = RunningChecksum { order: ByteOrder::Little, sums: [0, 0] };
        Self { salts, frame: 0, checksum, last_header: [0; FRAME_HEADER_BYTES] }
    }

    /// Whether SQLite has the same checksum for its end, if it has frames.
    pub(super) fn ends_as(&self, snapshot: &Snapshot) -> bool {
        self.frame == 0 || self.checksum.sums == snapshot.frame_checksum
    }

    /// Where it ends.
    pub(super) fn position(&self) -> WalPosition {
        let [a, b, c, d, e, f, g, h] = self.salts;
        let frame_header = if self.frame == 0 { Bytes::new() } else { Bytes::copy_from_slice(&self.last_header) };
        WalPosition {
            salt1: u32::from_be_bytes([a, b, c, d]),
            salt2: u32::from_be_bytes([e, f, g, h]),
            frame: self.frame,
            frame_header,
        }
    }
}

/// Headers read at most in one call while looking for the end of a large transaction.
const HEADERS_PER_CALL: u32 = 4096;
/// Frames are read in pieces of about this many bytes.
const READ_BYTES: usize = 256 << 10;
/// Transactions are grouped up to this many bytes of pages, so that a group's segment fits one part.
const GROUP_BYTES: usize = 448 << 10;

/// The frames of the WAL and how far they are read.
pub(super) struct Frames {
    pub(super) wal: WalFile,
    page_size: PageSize,
    pub(super) chain: Option<Chain>,
    plan: Option<Plan>,
    buffer: Vec<u8>,
}

impl Frames {
    pub(super) fn new(wal: WalFile, page_size: PageSize) -> Self {
        Self { wal, page_size, chain: None, plan: None, buffer: Vec::new() }
    }

    /// The WAL was restarted with new salts.
    pub(super) fn restart(&mut self, salts: [u8; 8]) {
        self.chain = Some(Chain::before_first_frame(salts));
        self.plan = None;
    }

    /// The chain at the end of `snapshot`, taken on SQLite's word.
    pub(super) fn chain_at(&self, snapshot: &Snapshot, path: &Path) -> Result<Chain, CaptureError> {
        let header = self.header(snapshot.salts, path)?;
        let last = self.wal.frame_header_bytes(self.page_size, snapshot.max_frame);
        let last_header = last.map_err(|cause| unreadable(path, cause))?.unwrap_or([0; FRAME_HEADER_BYTES]);
        let checksum = RunningChecksum { order: header.checksum.order, sums: snapshot.frame_checksum };
        Ok(Chain { salts: snapshot.salts, frame: snapshot.max_frame, checksum, last_header })
    }

    /// Goes back to a frame of the same WAL, known by its header.
    pub(super) fn rewind_to(&mut self, frame: u32, header: [u8; FRAME_HEADER_BYTES]) {
        if let Some(chain) = &mut self.chain {
            chain.frame = frame;
            chain.checksum.sums = FrameHeader::parse(&header).sums;
            chain.last_header = header;
        }
        self.plan = None;
    }

    /// The file's header, which must be that of the WAL with these salts.
    fn header(&self, salts: [u8; 8], path: &Path) -> Result<WalHeader, CaptureError> {
        let header = self.wal.header().map_err(|cause| unreadable(path, cause))?.map_err(Surprise::from)?;
        if header.salts != salts {
            return Err(Surprise::LostGuard.into());
        }
        if header.page_size != self.page_size {
            return Err(Surprise::PageSize { expected: self.page_size, found: header.page_size }.into());
        }
        Ok(header)
    }

    /// Captures the next frames towards `snapshot`; answers whether its end is reached, and proven.
    pub(super) fn capture_to(
        &mut self,
        snapshot: &Snapshot,
        path: &Path,
        vector: &mut PageVector,
        time: UnixMillis,
        sink: &mut dyn Sink,
        budget: usize,
    ) -> Result<bool, CaptureError> {
        let mut left = budget.max(1);
        loop {
            let frame = self.chain.as_ref().map_or(0, |chain| chain.frame);
            if frame >= snapshot.max_frame {
                self.prove(snapshot, vector)?;
                return Ok(true);
            }
            if frame == 0 {
                let checksum = self.header(snapshot.salts, path)?.checksum;
                self.chain = Some(Chain { checksum, ..Chain::before_first_frame(snapshot.salts) });
            }
            if left == 0 || !self.plan_group(snapshot, path, sink)? {
                return Ok(false);
            }
            let read = self.capture_some(snapshot, path, vector, time, sink, left)?;
            left = left.saturating_sub(read);
        }
    }

    /// Reads ahead until the next group of transactions is known; answers whether it is.
    fn plan_group(&mut self, snapshot: &Snapshot, path: &Path, sink: &mut dyn Sink) -> Result<bool, CaptureError> {
        let captured = self.chain.as_ref().map_or(0, |chain| chain.frame);
        let plan = self.plan.get_or_insert_with(|| Plan::after(captured));
        if plan.wanted().is_none() {
            return Ok(true);
        }
        let budget = u32::try_from(GROUP_BYTES / self.page_size.bytes() as usize).unwrap_or(u32::MAX);
        for _ in 0..HEADERS_PER_CALL {
            let Some(wanted) = plan.wanted() else { break };
            let header = self.wal.frame_header(self.page_size, wanted).map_err(|cause| unreadable(path, cause))?;
            let header = header.filter(|header| header.salts == snapshot.salts);
            let header = header.ok_or(Surprise::ShortChain { frame: wanted })?;
            plan.take(header.commit_size, captured, snapshot.max_frame, budget);
        }
        if plan.wanted().is_some() {
            return Ok(false);
        }
        if plan.group().is_empty() {
            // SQLite's last committed frame ends a transaction.
            return Err(Surprise::ShortChain { frame: snapshot.max_frame }.into());
        }
        sink.begin(u32::try_from(plan.group().len()).unwrap_or(u32::MAX))?;
        Ok(true)
    }

    /// Captures the next piece of the planned group; answers how many bytes were read.
    fn capture_some(
        &mut self,
        snapshot: &Snapshot,
        path: &Path,
        vector: &mut PageVector,
        time: UnixMillis,
        sink: &mut dyn Sink,
        budget: usize,
    ) -> Result<usize, CaptureError> {
        let (Some(chain), Some(plan)) = (&mut self.chain, &mut self.plan) else {
            return Err(Surprise::LostGuard.into());
        };
        let page_bytes = self.page_size.bytes() as usize;
        let frame_bytes = FRAME_HEADER_BYTES + page_bytes;
        let first = chain.frame + 1;
        let last = plan.group().back().map_or(first, |transaction| transaction.last_frame);
        let count = (READ_BYTES.min(budget) / frame_bytes).max(1).min((last - chain.frame) as usize);
        self.buffer.resize(count * frame_bytes, 0);
        let read = self.wal.read_frames(self.page_size, first, &mut self.buffer);
        let read = read.map_err(|cause| unreadable(path, cause))?;
        if read < count {
            let missing = first.saturating_add(u32::try_from(read).unwrap_or(u32::MAX));
            return Err(Surprise::ShortChain { frame: missing }.into());
        }
        let lock_page = self.page_size.lock_page();
        for bytes in self.buffer.chunks_exact(frame_bytes) {
            let frame = chain.frame + 1;
            let broken = Surprise::ShortChain { frame };
            let (head, page_data) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>().ok_or(broken)?;
            let header = FrameHeader::parse(head);
            chain.checksum.update(&head[..8]);
            chain.checksum.update(page_data);
            let transaction = *plan.group().front().ok_or(broken)?;
            let ends = transaction.last_frame == frame;
            let commit_size = if ends { transaction.page_count } else { 0 };
            if header.salts != snapshot.salts || header.sums != chain.checksum.sums || header.commit_size != commit_size
            {
                return Err(broken.into());
            }
            if (1..=transaction.page_count).contains(&header.page.0) && header.page != lock_page {
                vector.set(header.page, Checksum::of_page(header.page, page_data));
                sink.page(header.page, page_data)?;
            }
            chain.frame = frame;
            chain.last_header = *head;
            if ends {
                vector.commit(transaction.page_count).map_err(|missing| Surprise::GrowthGap(missing.0))?;
                sink.commit(transaction.page_count, time, vector.checksum())?;
                plan.done();
            }
        }
        if plan.group().is_empty() {
            self.plan = None;
            sink.end(Some(chain.position()))?;
        }
        Ok(count * frame_bytes)
    }

    /// That the chain ends where SQLite says, with the checksum and the size that SQLite has.
    fn prove(&self, snapshot: &Snapshot, vector: &PageVector) -> Result<(), Surprise> {
        let chain = self.chain.as_ref().ok_or(Surprise::LostGuard)?;
        if chain.frame != snapshot.max_frame || chain.checksum.sums != snapshot.frame_checksum {
            return Err(Surprise::ShortChain { frame: snapshot.max_frame });
        }
        if vector.page_count() != snapshot.page_count {
            return Err(Surprise::SizeMismatch { expected: snapshot.page_count, found: vector.page_count() });
        }
        Ok(())
    }
}

fn unreadable(path: &Path, cause: std::io::Error) -> CaptureError {
    CaptureError::Unusable(OpenError::Io { path: path.to_owned(), cause })
}
