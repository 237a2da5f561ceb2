//! The contents of a file: what programs read, and what of it would survive a loss of power.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::state::Survival;
use crate::random::Random;

/// Bytes that the page cache handles as one.
pub(super) const PAGE: usize = 4096;
/// Bytes that a disk writes wholly or not at all.
const SECTOR: usize = 512;

/// A page; `None` is a hole, read as zeros.
type Slot = Option<Arc<[u8; PAGE]>>;

/// The contents of a file. A page's durable form is that in `dirty`, else in `lost`, else the live one.
#[derive(Default)]
pub(super) struct Contents {
    live: Vec<Slot>,
    len: u64,
    /// Durable forms of the pages that the next sync writes.
    dirty: BTreeMap<usize, Slot>,
    /// Durable forms of the pages that a failed sync gave up: no sync writes them unless they are written again.
    lost: BTreeMap<usize, Slot>,
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

/// The disk is full.
#[derive(Debug)]
pub(super) struct Full;

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
            let durable = self.lost.remove(&page).unwrap_or_else(|| self.slot(page));
            self.dirty.insert(page, durable);
        }
    }

    pub(super) fn read(&self, offset: u64, len: usize) -> Bytes {
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
        bytes.into()
    }

    /// Writes `parts` one behind the other; what fits before the disk is full is written even then.
    pub(super) fn write(&mut self, offset: u64, parts: &[Bytes], free_pages: u64) -> Result<(), Full> {
        let limit = self.allocated.saturating_add(free_pages);
        let mut at = offset;
        for part in parts {
            let mut rest = &part[..];
            while !rest.is_empty() {
                let (page, start) = ((at / PAGE as u64) as usize, (at % PAGE as u64) as usize);
                if self.live.len() <= page {
                    self.live.resize(page + 1, None);
                }
                if self.live[page].is_none() && self.allocated >= limit {
                    return Err(Full);
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
        }
        Ok(())
    }

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

    /// Ends a sync; `false` if another one that failed meanwhile took its pages.
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

    /// Ends a sync in an error: some of its pages, at least the first, are given up.
    pub(super) fn fail_sync(&mut self, sync: Sync, random: &mut Random) {
        if self.running.remove(&sync.number).is_none() {
            return;
        }
        self.failed = self.begun;
        let mut spared = false;
        for (page, written) in sync.pages {
            if !same(&self.slot(page), &written) {
                continue;
            }
            if let Some(durable) = self.dirty.remove(&page)
                && !spared
            {
                self.lost.insert(page, durable);
            }
            spared = random.chance(0.5);
        }
    }

    /// The machine loses power: what was pending takes one of the forms that it could have on the disk.
    pub(super) fn lose_power(&mut self, survival: Survival, random: &mut Random) {
        let was_cut = self.low < self.durable_len;
        let cut_survives = was_cut && survival.keeps(random);
        // Pages from here on were wholly cut off.
        let (beyond, cut) = (self.low.div_ceil(PAGE as u64) as usize, (self.low % PAGE as u64) as usize);
        let len = if was_cut && !cut_survives { self.durable_len } else { self.surviving_len(survival, random) };
        let pages = std::mem::take(&mut self.dirty).into_iter().map(|(page, durable)| (page, durable, true));
        let lost = std::mem::take(&mut self.lost).into_iter().map(|(page, durable)| (page, durable, false));
        for (page, durable, pending) in pages.chain(lost) {
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
            if !pending || undone || !survival.keeps(random) {
                self.live[page] = base;
            } else if survival.tears(random) {
                self.live[page] = torn(&self.live[page], &base, random);
            }
        }
        self.live.truncate(len.div_ceil(PAGE as u64) as usize);
        let end = (len % PAGE as u64) as usize;
        if end != 0 && self.live.len() as u64 == len.div_ceil(PAGE as u64) {
            let last = self.live.len() - 1;
            if self.live[last].as_deref().is_some_and(|page| page[end..].iter().any(|byte| *byte != 0)) {
                self.live[last] = zeroed_from(&self.live[last], end);
            }
        }
        (self.len, self.durable_len, self.low) = (len, len, len);
        self.allocated = self.live.iter().flatten().count() as u64;
        self.running.clear();
    }

    fn surviving_len(&self, survival: Survival, random: &mut Random) -> u64 {
        let (low, high) = (self.low, self.len);
        if low == high || survival.keeps(random) {
            return high;
        }
        if random.chance(0.5) {
            return low;
        }
        // Lengths grow as pages get to the disk, and writes may end anywhere.
        let between = random.range(low..high);
        if random.chance(0.5) { (between - between % SECTOR as u64).max(low) } else { between }
    }

    /// The program dies: its syncs are over, all else stays.
    pub(super) fn lose_program(&mut self) {
        self.running.clear();
    }

    /// Flips a bit among the first `bytes` bytes, in a durable page that has bytes; says where.
    pub(super) fn rot(&mut self, bytes: u64, random: &mut Random) -> Option<(u64, u8)> {
        let clean = |page: usize| !self.dirty.contains_key(&page) && !self.lost.contains_key(&page);
        let bytes = self.durable_len.min(self.len).min(bytes);
        let durable_pages = bytes.div_ceil(PAGE as u64) as usize;
        let pages: Vec<usize> =
            (0..durable_pages.min(self.live.len())).filter(|&page| self.live[page].is_some() && clean(page)).collect();
        let page = *random.pick(&pages)?;
        let end = bytes.min((page as u64 + 1) * PAGE as u64);
        let offset = random.range(page as u64 * PAGE as u64..end);
        let bit = random.below(8) as u8;
        if let Some(slot) = &mut self.live[page] {
            Arc::make_mut(slot)[(offset % PAGE as u64) as usize] ^= 1 << bit;
        }
        Some((offset, bit))
    }
}

/// Some sectors of a page new, the others old.
fn torn(new: &Slot, old: &Slot, random: &mut Random) -> Slot {
    let (mut new, mut old) = (bytes_of(new), bytes_of(old));
    let boundary = random.range(1..(PAGE / SECTOR) as u64) as usize * SECTOR;
    if random.chance(0.3) {
        std::mem::swap(&mut new, &mut old);
    }
    new[boundary..].copy_from_slice(&old[boundary..]);
    Some(Arc::new(new))
}
