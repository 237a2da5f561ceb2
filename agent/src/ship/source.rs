//! Capture and encoding, together where blocking is allowed.

use bytes::Bytes;
use seawall_host::time::{Instant, UnixMillis};
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{Lineage, PageNumber, PageSize, Txid};
use seawall_proto::segment::{EncodeError, SegmentEncoder, SegmentHeader, SegmentKind, SegmentSummary};
use seawall_proto::v1::{Head, WalPosition};

use crate::capture::{
    Base, Capture, CaptureError, Look, Maintained, PageVector, Progress, Resumption, Resync, Sink, known_defects,
};

/// Encoded bytes of a segment: all of it, or what came since the last piece.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) header: SegmentHeader,
    pub(super) bytes: Vec<Bytes>,
    /// Set in the last piece.
    pub(super) end: Option<PieceEnd>,
}

/// What is known once a segment is complete.
#[derive(Debug)]
pub(super) struct PieceEnd {
    pub(super) summary: SegmentSummary,
    pub(super) wal: Option<WalPosition>,
}

/// Encodes what is captured, numbering the transactions.
struct Writer {
    lineage: Lineage,
    page_size: PageSize,
    kind: SegmentKind,
    last: Txid,
    checksum: Checksum,
    open: Option<(SegmentHeader, SegmentEncoder)>,
    pieces: Vec<Piece>,
    transactions: u64,
}

impl Sink for Writer {
    fn begin(&mut self, transactions: u32) -> Result<(), EncodeError> {
        let header = SegmentHeader {
            page_size: self.page_size,
            lineage: self.lineage,
            first: self.last.next(),
            last: Txid(self.last.0 + u64::from(transactions)),
            checksum_before: self.checksum,
            kind: self.kind,
        };
        self.open = Some((header, SegmentEncoder::new(header)));
        Ok(())
    }

    fn page(&mut self, page: PageNumber, bytes: &[u8]) -> Result<(), EncodeError> {
        self.open.as_mut().map_or(Ok(()), |(_, encoder)| encoder.page(page, bytes))
    }

    fn commit(&mut self, page_count: u32, time: UnixMillis, checksum_after: Checksum) -> Result<(), EncodeError> {
        self.last = self.last.next();
        self.checksum = checksum_after;
        self.transactions += 1;
        self.open.as_mut().map_or(Ok(()), |(_, encoder)| encoder.commit(page_count, time.0, checksum_after))
    }

    fn end(&mut self, wal: Option<WalPosition>) -> Result<(), EncodeError> {
        if let Some((header, encoder)) = self.open.take() {
            let (bytes, summary) = encoder.finish()?;
            self.pieces.push(Piece { header, bytes, end: Some(PieceEnd { summary, wal }) });
        }
        Ok(())
    }
}

/// What one step gave.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) pieces: Vec<Piece>,
    /// Transactions that ended in it.
    pub(super) transactions: u64,
    /// Everything that was committed when the step began is in the pieces up to here.
    pub(super) caught_up: bool,
    /// Something new was found.
    pub(super) found: bool,
    /// A lock was missing: nothing was done.
    pub(super) busy: bool,
    pub(super) maintained: Maintained,
    /// The last transaction captured.
    pub(super) last: Txid,
    /// Frames stand in the WAL that are not committed yet.
    pub(super) frames_pending: bool,
    /// Nothing needs to be done for the WAL before the next commit.
    pub(super) at_rest: bool,
}

/// A database on its way into segments.
pub(super) struct Source {
    capture: Capture,
    resync: Option<Resync>,
    writer: Writer,
    step_bytes: usize,
}

/// A guard that was not taken.
#[derive(Debug)]
pub(super) struct StartFailed {
    pub(super) error: CaptureError,
    /// To try again with, if a lock was missing.
    pub(super) again: Option<Box<Capture>>,
}

impl Source {
    /// Takes the guard of a database and goes on from `head`: by the WAL if it proves that nothing is missing,
    /// otherwise by comparing. `base` is the state at the head, if it has pages of this database's page size.
    /// Answers why a comparison is needed, if it is.
    ///
    /// # Errors
    /// [`StartFailed`].
    pub(super) fn start(
        mut capture: Capture,
        head: &Head,
        base: Option<PageVector>,
        hold: bool,
        step_bytes: usize,
    ) -> Result<(Self, Option<&'static str>), StartFailed> {
        if let Err(error) = capture.attach() {
            let again = matches!(error, CaptureError::Busy).then(|| Box::new(capture));
            return Err(StartFailed { error, again });
        }
        if head.txid > 0 {
            capture.floor_commit_time(UnixMillis(head.commit_time_ms));
        }
        let compare_because = match (&head.wal, &base) {
            (Some(wal), Some(base)) => {
                match capture.resume(wal, base).map_err(|error| StartFailed { error, again: None })? {
                    Resumption::Continued => None,
                    Resumption::OtherWal => Some("wal-restarted"),
                    Resumption::LostTail => Some("source-lost-its-tail"),
                }
            }
            (None, Some(_)) => Some("no-wal-position"),
            (_, None) if head.txid > 0 && head.page_size != capture.page_size().bytes() => Some("page-size-changed"),
            (_, None) if head.txid > 0 => Some("no-copy"),
            (_, None) => Some("first-time"),
        };
        let base = base.map_or(Base::Nothing, Base::State);
        let resync = compare_because.map(|_| Resync::new(base, hold));
        if hold {
            capture.note_urgent();
        }
        let writer = Writer {
            lineage: Lineage(head.lineage),
            page_size: capture.page_size(),
            kind: if compare_because.is_none() { SegmentKind::Log } else { SegmentKind::Resync },
            last: Txid(head.txid),
            checksum: Checksum(head.checksum),
            open: None,
            pieces: Vec::new(),
            transactions: 0,
        };
        Ok((Self { capture, resync, writer, step_bytes }, compare_because))
    }

    /// Whether the comparison is still going on.
    pub(super) fn resyncing(&self) -> bool {
        self.resync.is_some()
    }

    /// Whether the guard lets the WAL restart.
    pub(super) fn at_rest(&self) -> bool {
        self.capture.gives_way()
    }

    /// Does one step: at most about `step_bytes` are read.
    ///
    /// # Errors
    /// [`CaptureError`], never `Busy`.
    pub(super) fn step(&mut self) -> Result<Step, CaptureError> {
        let now = Instant::now();
        let mut step = Step {
            pieces: Vec::new(),
            transactions: 0,
            caught_up: false,
            found: false,
            busy: false,
            maintained: Maintained::Nothing,
            last: self.writer.last,
            frames_pending: false,
            at_rest: false,
        };
        match self.work(now, &mut step) {
            Err(CaptureError::Busy) => step.busy = true,
            outcome => outcome?,
        }
        if let Some((header, encoder)) = &mut self.writer.open {
            let bytes = encoder.take();
            if !bytes.is_empty() {
                self.writer.pieces.push(Piece { header: *header, bytes, end: None });
            }
        }
        step.pieces = std::mem::take(&mut self.writer.pieces);
        step.transactions = std::mem::take(&mut self.writer.transactions);
        step.last = self.writer.last;
        step.at_rest = self.capture.gives_way();
        Ok(step)
    }

    fn work(&mut self, now: Instant, step: &mut Step) -> Result<(), CaptureError> {
        if let Some(resync) = &mut self.resync {
            step.found = true;
            if resync.step(&mut self.capture, now, &mut self.writer, self.step_bytes)? == Progress::CaughtUp {
                self.resync = None;
                self.writer.kind = SegmentKind::Log;
            }
            return Ok(());
        }
        let fresh = !self.capture.is_advancing();
        if self.capture.look()? == Look::Found {
            step.found = true;
            self.capture.note_commit(now);
            if self.capture.advance(&mut self.writer, self.step_bytes)? == Progress::More {
                return Ok(());
            }
        }
        step.caught_up = fresh;
        step.frames_pending = self.capture.frames_pending();
        match self.capture.maintain(now, &mut self.writer) {
            Ok(maintained) => step.maintained = maintained,
            // A checkpoint of somebody else is under way: ours can wait.
            Err(CaptureError::Busy) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Makes the guard harmless to an application that writes while nothing can be shipped.
    ///
    /// # Errors
    /// [`CaptureError`], never `Busy`.
    pub(super) fn stand_guard(&mut self) -> Result<(), CaptureError> {
        // A resync keeps to the snapshot it has.
        if self.resync.is_some() {
            return Ok(());
        }
        match self.capture.stand_guard() {
            Err(CaptureError::Busy) => Ok(()),
            outcome => outcome,
        }
    }

    /// The barrier was busy and may be tried again at once.
    pub(super) fn retry_barrier(&mut self) {
        self.capture.retry_barrier();
    }

    /// What is known of the SQLite version that wrote the database last; `None` if that can't be told now.
    ///
    /// # Errors
    /// [`CaptureError`].
    pub(super) fn warnings(&self) -> Result<Option<Vec<String>>, CaptureError> {
        Ok(self.capture.last_writer()?.map(known_defects))
    }

    /// Compares the next pages with what was captured; answers where to go on.
    ///
    /// # Errors
    /// [`CaptureError`].
    pub(super) fn scrub(&self, first: PageNumber) -> Result<Option<PageNumber>, CaptureError> {
        let pages = u32::try_from(self.step_bytes).unwrap_or(u32::MAX) / self.capture.page_size().bytes();
        self.capture.scrub(first, pages.max(1))
    }
}
