//! The contents of a file: what programs read, and what of it would survive a cut of power.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::{Rng, RngExt};

use super::lost::Lost;
use super::survival::Survival;

/// Bytes that the page cache handles as one.
pub(super) const PAGE: usize = 4096;
/// Bytes that a disk writes wholly or not at all.
pub(super) const SECTOR: usize = 512;

/// A page; `None` is a hole, read as zeros.
type Slot = Option<Arc<[u8; PAGE]>>;

/// The contents of a file. A page's durable form is that in `dirty`, else in `given_up`, else the live one.
#[derive(Default)]
pub(super) struct Contents {
    live: Vec<Slot>,
    len: u64,
    /// Durable forms of the pages that the next sync writes.
    dirty: BTreeMap<usize, Slot>,
    /// Durable forms of the pages that a failed sync gave up: no sync writes them unless they are written again.
    given_up: BTreeMap<usize, Slot>,
    durable_len: u64,
    /// The smallest length since the durable one: all from here on was cut off at least once.
    low: u64,
    /// How many of the live pages are no holes.
    allocated: u64,
    /// Number of the newest sync that began.
    begun: u64,
    /// Number of the newest sync that is done.
    done: u64,
    /// Syncs up to this number must not report success any more.
    failed: u64,
    /// The smallest length since each running sync began.
    running: BTreeMap<u64, u64>,
}

/// A sync that has begun.
pub(super) struct Sync {
    number: u64,
    len: u64,
    pages: Vec<(usize, Slot)>,
}

fn same(one: &Slot, other: &Slot) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

fn bytes_of(slot: &Slot) -> [u8; PAGE] {
    slot.as_deref().copied().unwrap_or([0; PAGE])
}

/// `slot` with zeros from `cut` on.
fn zeroed_from(slot: &Slot, cut: usize) -> Slot {
    slot.as_deref().map(|page| {
        let mut page = *page;
        page[cut..].fill(0);
        Arc::new(page)
    })
}

impl Contents {
    /// The length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Pages that take space.
    pub(super) fn allocated(&self) -> u64 {
        self.allocated
    }

    fn slot(&self, page: usize) -> Slot {
        self.live.get(page).cloned().flatten()
    }

    /// Notes the durable form of a page that is about to change.
    fn soil(&mut self, page: usize) {
        if !self.dirty.contains_key(&page) {
            let durable = self.given_up.remove(&page).unwrap_or_else(|| self.slot(page));
            self.dirty.insert(page, durable);
        }
    }

    /// Up to `len` bytes from `offset`; fewer only where the file ends.
    pub(super) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let end = self.len.min(offset.saturating_add(len as u64));
        let mut bytes = Vec::with_capacity(end.saturating_sub(offset) as usize);
        let mut at = offset;
        while at < end {
            let start = (at % PAGE as u64) as usize;
            let count = (PAGE - start).min((end - at) as usize);
            match self.live.get((at / PAGE as u64) as usize) {
                Some(Some(page)) => bytes.extend_from_slice(&page[start..start + count]),
                _ => bytes.resize(bytes.len() + count, 0),
            }
            at += count as u64;
        }
        bytes
    }

    /// Writes what of `bytes` fits before `free_pages` more pages are taken; says how many bytes that were.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8], free_pages: u64) -> usize {
        let limit = self.allocated.saturating_add(free_pages);
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let (page, start) = ((at / PAGE as u64) as usize, (at % PAGE as u64) as usize);
            if self.slot(page).is_none() && self.allocated >= limit {
                break;
            }
            if self.live.len() <= page {
                self.live.resize(page + 1, None);
            }
            self.soil(page);
            let (now, later) = rest.split_at(rest.len().min(PAGE - start));
            let slot = &mut self.live[page];
            if slot.is_none() {
                self.allocated += 1;
            }
            Arc::make_mut(slot.get_or_insert_with(|| Arc::new([0; PAGE])))[start..start + now.len()]
                .copy_from_slice(now);
            at += now.len() as u64;
            self.len = self.len.max(at);
            rest = later;
        }
        bytes.len() - rest.len()
    }

    /// Cuts or extends (with a hole).
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let whole = len.div_ceil(PAGE as u64) as usize;
            for page in whole..self.live.len() {
                if self.live[page].is_some() {
                    self.soil(page);
                    self.allocated -= 1;
                }
            }
            self.live.truncate(whole);
            let cut = (len % PAGE as u64) as usize;
            if cut != 0 && self.slot(whole - 1).is_some() {
                self.soil(whole - 1);
                self.live[whole - 1] = zeroed_from(&self.live[whole - 1], cut);
            }
            self.low = self.low.min(len);
            self.running.values_mut().for_each(|low| *low = len.min(*low));
        }
        self.len = len;
    }

    /// Begins a sync of what is written so far; what is written from now on is not in it.
    pub(super) fn begin_sync(&mut self) -> Sync {
        self.begun += 1;
        self.running.insert(self.begun, self.len);
        let pages = self.dirty.keys().map(|&page| (page, self.slot(page))).collect();
        Sync { number: self.begun, len: self.len, pages }
    }

    /// Ends a sync; `false` if another one that failed meanwhile took its pages, or the power was cut.
    pub(super) fn finish_sync(&mut self, sync: Sync) -> bool {
        let Some(low) = self.running.remove(&sync.number) else { return false };
        if sync.number <= self.failed {
            return false;
        }
        // A sync that began later and is done had all of this one's pages, or newer forms of them.
        if sync.number < self.done {
            return true;
        }
        self.done = sync.number;
        for (page, written) in sync.pages {
            let live = self.slot(page);
            let Some(durable) = self.dirty.get_mut(&page) else { continue };
            if same(&live, &written) {
                self.dirty.remove(&page);
            } else {
                *durable = written;
            }
        }
        (self.durable_len, self.low) = (sync.len, low);
        true
    }

    /// Ends a sync in an error: its pages are given up. They can be read until the power is cut, but count as clean, as they do
    /// in Linux.
    pub(super) fn fail_sync(&mut self, sync: Sync) {
        if self.running.remove(&sync.number).is_none() {
            return;
        }
        self.failed = self.begun;
        for (page, written) in sync.pages {
            if same(&self.slot(page), &written)
                && let Some(durable) = self.dirty.remove(&page)
            {
                self.given_up.insert(page, durable);
            }
        }
    }

    /// The power is cut: what was pending takes one of the forms that it could have on the disk, and is durable.
    pub(super) fn lose_power(&mut self, survival: Survival, rng: &mut dyn Rng, lost: &mut Lost) {
        let (newest, length_is_pending) = (self.len, self.len != self.durable_len || self.low < self.durable_len);
        let was_cut = self.low < self.durable_len;
        let cut_survives = was_cut && survival.keeps(rng);
        // Pages from here on were wholly cut off.
        let (beyond, cut) = (self.low.div_ceil(PAGE as u64) as usize, (self.low % PAGE as u64) as usize);
        let len = if was_cut && !cut_survives { self.durable_len } else { self.surviving_len(survival, rng) };
        lost.pending_pages += self.dirty.len() as u64;
        lost.given_up_pages += self.given_up.len() as u64;
        let pages = std::mem::take(&mut self.dirty).into_iter().map(|(page, durable)| (page, durable, true));
        let given_up = std::mem::take(&mut self.given_up).into_iter().map(|(page, durable)| (page, durable, false));
        for (page, durable, pending) in pages.chain(given_up) {
            let base = match cut_survives {
                true if page >= beyond => None,
                true if page + 1 == beyond && cut != 0 => zeroed_from(&durable, cut),
                _ => durable,
            };
            if self.live.len() <= page {
                self.live.resize(page + 1, None);
            }
            // What was written behind a cut went to blocks that nothing refers to if the cut is undone.
            let undone = was_cut && !cut_survives && page >= beyond;
            if !pending || undone || !survival.keeps(rng) {
                self.live[page] = base;
                lost.dropped_pages += u64::from(pending);
            } else if survival.tears(rng) {
                self.live[page] = torn(&self.live[page], &base, rng);
                lost.torn_pages += 1;
            }
        }
        self.live.truncate(len.div_ceil(PAGE as u64) as usize);
        let end = (len % PAGE as u64) as usize;
        if end != 0 && self.live.len() as u64 == len.div_ceil(PAGE as u64) {
            let last = self.live.len() - 1;
            self.live[last] = zeroed_from(&self.live[last], end);
        }
        lost.pending_lengths += u64::from(length_is_pending);
        lost.lost_lengths += u64::from(len != newest);
        (self.len, self.durable_len, self.low) = (len, len, len);
        self.allocated = self.live.iter().flatten().count() as u64;
        self.running.clear();
    }

    fn surviving_len(&self, survival: Survival, rng: &mut dyn Rng) -> u64 {
        let (low, high) = (self.low, self.len);
        if low >= high || survival.keeps(rng) {
            return high;
        }
        if rng.random_bool(0.5) {
            return low;
        }
        // Lengths grow as pages get to the disk, and writes may end anywhere.
        let between = rng.random_range(low..high);
        if rng.random_bool(0.5) { (between - between % SECTOR as u64).max(low) } else { between }
    }
}

/// Some sectors of a page new, the others old.
fn torn(new: &Slot, old: &Slot, rng: &mut dyn Rng) -> Slot {
    let (mut new, mut old) = (bytes_of(new), bytes_of(old));
    let boundary = rng.random_range(1..PAGE / SECTOR) * SECTOR;
    if rng.random_bool(0.3) {
        std::mem::swap(&mut new, &mut old);
    }
    new[boundary..].copy_from_slice(&old[boundary..]);
    Some(Arc::new(new))
}
