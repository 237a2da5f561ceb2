//! How fast segments are encoded, decoded, joined and squashed, and pages hashed.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{Lineage, PageNumber, PageSize, Txid};
use seawall_proto::segment::{SegmentDecoder, SegmentEncoder, SegmentHeader, SegmentKind, concat, squash};

const PAGE_SIZE: usize = 4096;
const PAGES: u32 = 4096;
const PAGES_PER_TRANSACTION: u32 = 8;

/// Pages that look like a table's leaves: cells of a key, a number and some words, the rest free space.
fn pages() -> Vec<Vec<u8>> {
    const WORDS: [&str; 8] = ["order", "customer", "pending", "shipped", "street", "amount", "2026-11-22", "note"];
    let mut seed = 1_u64;
    let mut draw = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    (0..PAGES)
        .map(|_| {
            let mut page = vec![0; PAGE_SIZE];
            let mut end = PAGE_SIZE;
            while end > 1000 {
                let words = [draw(), draw(), draw()].map(|word| WORDS[word as usize % WORDS.len()]);
                let cell = format!("{:x}|{}|{}|{}", draw(), words.join(" "), draw() % 1000, draw());
                end -= cell.len();
                page[end..end + cell.len()].copy_from_slice(cell.as_bytes());
            }
            page
        })
        .collect()
}

fn encode(pages: &[Vec<u8>], per_transaction: u32, first: u64) -> Vec<Bytes> {
    let transactions = (pages.len() as u64).div_ceil(per_transaction.into());
    let mut encoder = SegmentEncoder::new(SegmentHeader {
        page_size: PageSize::new(PAGE_SIZE as u32).unwrap(),
        lineage: Lineage(1),
        first: Txid(first),
        last: Txid(first + transactions - 1),
        checksum_before: Checksum(0),
        kind: SegmentKind::Log,
    });
    let mut number = 0;
    for transaction in pages.chunks(per_transaction as usize) {
        for page in transaction {
            // Spread, so that there are no runs of consecutive pages.
            number = (number + 1_637) % PAGES;
            encoder.page(PageNumber(number + 1), page).unwrap();
        }
        encoder.commit(PAGES, 1_700_000_000_000, Checksum(0)).unwrap();
    }
    encoder.finish().unwrap().0
}

fn decode(segment: &[Bytes]) {
    let mut decoder = SegmentDecoder::new();
    for piece in segment {
        decoder.push(piece.clone());
        while let Some(event) = decoder.next().unwrap() {
            black_box(event);
        }
    }
    decoder.finish().unwrap();
}

fn segments(c: &mut Criterion) {
    let pages = pages();
    let whole = encode(&pages, PAGES_PER_TRANSACTION, 1);
    let per_segment = 64 * PAGES_PER_TRANSACTION as usize;
    let parts: Vec<_> =
        (1..).step_by(64).zip(pages.chunks(per_segment)).map(|(first, part)| encode(part, 8, first)).collect();
    let small = encode(&pages[..1], 1, 1);

    let mut group = c.benchmark_group("segment of 16 MiB in pages of 4 KiB");
    group.sample_size(20).throughput(Throughput::Bytes((pages.len() * PAGE_SIZE) as u64));
    group.bench_function("encode", |b| b.iter(|| encode(&pages, PAGES_PER_TRANSACTION, 1)));
    group.bench_function("decode", |b| b.iter(|| decode(&whole)));
    let clone = || parts.clone();
    group.bench_function("concat 8", |b| b.iter_batched(clone, |parts| concat(parts).unwrap(), BatchSize::SmallInput));
    group.bench_function("squash 8", |b| b.iter_batched(clone, |parts| squash(parts).unwrap(), BatchSize::SmallInput));
    group.finish();

    let mut group = c.benchmark_group("segment of one page of 4 KiB");
    group.throughput(Throughput::Bytes(PAGE_SIZE as u64));
    group.bench_function("encode", |b| b.iter(|| encode(&pages[..1], 1, 1)));
    group.bench_function("decode", |b| b.iter(|| decode(&small)));
    group.finish();
    let sizes = [&whole, &small].map(|segment| segment.iter().map(Bytes::len).sum::<usize>());
    println!("encoded: 16 MiB to {} bytes, 4 KiB to {} bytes", sizes[0], sizes[1]);
}

fn page_hashes(c: &mut Criterion) {
    let pages = pages();
    let mut group = c.benchmark_group("page hashing");
    group.throughput(Throughput::Bytes((pages.len() * PAGE_SIZE) as u64));
    group.bench_function("XXH3 of pages of 4 KiB", |b| {
        b.iter(|| {
            (1..).zip(&pages).fold(Checksum::EMPTY, |sum, (number, page)| {
                sum ^ Checksum::of_page(PageNumber(number), black_box(page))
            })
        });
    });
    group.finish();
}

criterion_group!(benches, segments, page_hashes);
criterion_main!(benches);
