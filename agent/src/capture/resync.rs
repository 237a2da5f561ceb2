//! Comparing the database with the last state shipped, and shipping what differs as one transaction.

use seawall_host::probe::sometimes;
use seawall_host::time::{Instant, UnixMillis};
use seawall_proto::checksum::Checksum;
use seawall_proto::position::PageNumber;
use seawall_proto::segment::EncodeError;
use seawall_proto::v1::WalPosition;

use super::error::{CaptureError, Surprise};
use super::guard::{Capture, Look, Progress, Sink};
use super::vector::PageVector;

/// What the cluster has.
#[derive(Clone, Debug)]
pub enum Base {
    /// Nothing, or pages of another size: every page is shipped.
    Nothing,
    /// A state: the pages that differ from it are shipped.
    State(PageVector),
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Finding out what the database holds, page by page.
    Hash {
        next: PageNumber,
    },
    /// Shipping what differs, in one snapshot.
    Ship {
        next: PageNumber,
    },
    Done,
}

/// A resync on its way. Between its steps the application goes on; the guard captures what it commits, so that the
/// hashes found at different times add up to one state.
#[derive(Debug)]
pub struct Resync {
    base: Base,
    /// Keep to one snapshot from beginning to end: for a WAL whose frames can't be trusted.
    hold: bool,
    phase: Phase,
    shipped: bool,
}

/// Captures without shipping: what is committed while pages are hashed is part of what the resync will find.
struct HashesOnly;

impl Sink for HashesOnly {
    fn begin(&mut self, _transactions: u32) -> Result<(), EncodeError> {
        Ok(())
    }
    fn page(&mut self, _page: PageNumber, _bytes: &[u8]) -> Result<(), EncodeError> {
        Ok(())
    }
    fn commit(&mut self, _page_count: u32, _time: UnixMillis, _checksum_after: Checksum) -> Result<(), EncodeError> {
        Ok(())
    }
    fn end(&mut self, _wal: Option<WalPosition>) -> Result<(), EncodeError> {
        Ok(())
    }
}

impl Resync {
    /// Begins a resync on top of `base`. With `hold` the whole comparison happens in one snapshot: the WAL grows
    /// meanwhile, but nothing rests on reading its frames.
    pub fn new(base: Base, hold: bool) -> Self {
        let first = PageNumber(1);
        let phase = match base {
            Base::Nothing => Phase::Ship { next: first },
            Base::State(_) => Phase::Hash { next: first },
        };
        Self { base, hold, phase, shipped: false }
    }

    /// Whether a transaction was shipped, now that the resync is done.
    pub fn shipped(&self) -> bool {
        self.shipped
    }

    /// Does about `budget` bytes' worth of it. Once caught up the capture is live, in the state that the sink got (or
    /// in the base's, if nothing differed).
    ///
    /// # Errors
    /// [`CaptureError`]; with `Busy` the step can be repeated.
    pub fn step(
        &mut self,
        capture: &mut Capture,
        now: Instant,
        sink: &mut dyn Sink,
        budget: usize,
    ) -> Result<Progress, CaptureError> {
        let pages = (budget / capture.page_size().bytes() as usize).max(1);
        match self.phase {
            Phase::Hash { next } => {
                if !self.hold {
                    if capture.look()? == Look::Found {
                        capture.note_commit(now);
                        if capture.advance(&mut HashesOnly, budget)? == Progress::More {
                            return Ok(Progress::More);
                        }
                    }
                    capture.maintain(now, &mut HashesOnly)?;
                }
                self.phase = match hash(capture, next, pages)? {
                    Some(next) => Phase::Hash { next },
                    None if self.nothing_differs(capture) => {
                        sometimes("resync without a difference");
                        Phase::Done
                    }
                    None => Phase::Ship { next: PageNumber(1) },
                };
            }
            Phase::Ship { next } => {
                if next == PageNumber(1) && !self.shipped {
                    capture.floor_commit_time(capture.clock.now());
                    sink.begin(1)?;
                    self.shipped = true;
                }
                let next = match &self.base {
                    Base::Nothing => ship_all(capture, next, pages, sink)?,
                    Base::State(base) => ship_differing(capture, base, next, pages, sink)?,
                };
                if let Some(next) = next {
                    self.phase = Phase::Ship { next };
                } else {
                    let count = capture.vector.page_count();
                    capture.vector.commit(count).map_err(|missing| Surprise::GrowthGap(missing.0))?;
                    sink.commit(count, capture.last_commit_time, capture.vector.checksum())?;
                    sink.end(capture.position())?;
                    self.phase = Phase::Done;
                }
            }
            Phase::Done => {}
        }
        Ok(if matches!(self.phase, Phase::Done) { Progress::CaughtUp } else { Progress::More })
    }

    fn nothing_differs(&self, capture: &Capture) -> bool {
        matches!(&self.base, Base::State(base) if *base == capture.vector)
    }
}

/// Hashes `count` pages from `next` on; answers where to go on.
fn hash(capture: &mut Capture, next: PageNumber, count: usize) -> Result<Option<PageNumber>, CaptureError> {
    let mut found = Vec::with_capacity(count);
    let read = capture.read_pages(next, |page, bytes| {
        found.push((page, Checksum::of_page(page, bytes)));
        found.len() < count
    })?;
    if !read {
        return Err(Surprise::LostGuard.into());
    }
    Ok(take_in(capture, &found))
}

fn take_in(capture: &mut Capture, found: &[(PageNumber, Checksum)]) -> Option<PageNumber> {
    for (page, hash) in found {
        capture.vector.set(*page, *hash);
    }
    let last = found.last()?.0;
    (last.0 < capture.vector.page_count()).then(|| PageNumber(last.0 + 1))
}

/// Ships the next `count` pages as they are.
fn ship_all(
    capture: &mut Capture,
    next: PageNumber,
    count: usize,
    sink: &mut dyn Sink,
) -> Result<Option<PageNumber>, CaptureError> {
    let mut found = Vec::with_capacity(count);
    let mut refused = Ok(());
    let read = capture.read_pages(next, |page, bytes| {
        found.push((page, Checksum::of_page(page, bytes)));
        refused = sink.page(page, bytes);
        refused.is_ok() && found.len() < count
    })?;
    refused?;
    if !read {
        return Err(Surprise::LostGuard.into());
    }
    Ok(take_in(capture, &found))
}

/// Ships those of the pages from `next` on that differ from `base`, at most `count` of them.
fn ship_differing(
    capture: &Capture,
    base: &PageVector,
    next: PageNumber,
    count: usize,
    sink: &mut dyn Sink,
) -> Result<Option<PageNumber>, CaptureError> {
    /// Hashes compared at most in one step.
    const COMPARED: usize = 1 << 20;
    let mut looked_at = next.0;
    let end = capture.vector.page_count();
    let differing: Vec<PageNumber> = (next.0..=end)
        .take(COMPARED)
        .map(PageNumber)
        .inspect(|page| looked_at = page.0 + 1)
        .filter(|page| base.get(*page) != capture.vector.get(*page))
        .take(count)
        .collect();
    let mut refused = Ok(());
    let mut differs = None;
    capture.guard.pages(differing, |page, bytes| {
        if Checksum::of_page(page, bytes).0 != capture.vector.get(page) {
            differs = Some(page);
            return false;
        }
        refused = sink.page(page, bytes);
        refused.is_ok()
    })?;
    refused?;
    match differs {
        Some(page) => Err(Surprise::PageDiffers(page).into()),
        None => Ok((looked_at <= end).then_some(PageNumber(looked_at))),
    }
}
