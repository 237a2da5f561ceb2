//! Damaged and forged segments never make a reader allocate more than their length justifies.

#![allow(unsafe_code, missing_docs, clippy::unwrap_used)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use seawall_proto::segment::{
    MAX_FRAME_BYTES, SegmentFooter, SegmentHeader, SegmentIndex, SegmentKind, concat, squash,
};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn peak_of(run: impl FnOnce()) -> usize {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    run();
    PEAK.load(Relaxed) - before
}

fn read_in_every_way(bytes: &Bytes) {
    let _ = common::decode([bytes.clone()]);
    let _ = SegmentIndex::parse(bytes);
    let _ = concat([vec![bytes.clone()]]);
    let _ = squash([vec![bytes.clone()]]);
}

fn seal(bytes: &mut [u8], start: usize, end: usize) {
    let crc = crc32c::crc32c(&bytes[start..end]).to_le_bytes();
    bytes[end..end + 4].copy_from_slice(&crc);
}

/// Every field of eight, four or two bytes set to large numbers, all checksums made right again.
#[test]
fn large_numbers_in_any_place_allocate_little() {
    let commits: Vec<common::Commit> = (0..3)
        .map(|i| {
            let pages = (1..4).map(|page| (page * 3, common::noise(u64::from(page) + i))).collect();
            common::Commit { page_count: 9, time: 5, checksum: i, pages }
        })
        .collect();
    let (pieces, _) = common::encode(common::header(SegmentKind::Log, 1, 3, 0), &commits);
    let good = pieces.concat();
    let footer = SegmentFooter::parse(good.last_chunk().unwrap()).unwrap();
    let tables = good.len() - footer.tail_len() as usize;
    let table_len = u64::from_le_bytes(good[tables + 1..tables + 9].try_into().unwrap()) as usize;
    let index = tables + 9 + table_len + 4;
    let end = good.len() - SegmentFooter::LEN;

    // Contexts and scratch memory of the compression are made once.
    read_in_every_way(&good.clone().into());
    let mut worst = 0;
    for at in 0..good.len() - 8 {
        for (width, value) in [(1, u64::MAX), (2, u64::MAX), (4, u64::MAX), (8, u64::MAX), (4, 1 << 30), (8, 1 << 50)] {
            let mut forged = good.clone();
            forged[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
            seal(&mut forged, 0, SegmentHeader::LEN - 4);
            seal(&mut forged, SegmentHeader::LEN, tables - 4);
            seal(&mut forged, tables, index - 4);
            seal(&mut forged, index, end - 4);
            let crc = crc32c::crc32c(&forged[..end]).to_le_bytes();
            forged[end + 68..end + 72].copy_from_slice(&crc);
            let length = forged.len();
            seal(&mut forged, end, length - 8);
            let forged = Bytes::from(forged);
            worst = worst.max(peak_of(|| read_in_every_way(&forged)));
        }
    }
    // Twice the largest frame for its content and the copies of its pages, and a multiple of the input.
    assert!(worst < 2 * MAX_FRAME_BYTES + 16 * good.len(), "{worst}");
}
