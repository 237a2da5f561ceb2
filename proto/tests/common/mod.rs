//! What the tests of segments share: random histories, and a naive model of what they mean.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use seawall_proto::checksum::Checksum;
use seawall_proto::position::{Lineage, PageNumber, PageSize, Txid};
use seawall_proto::segment::{
    SegmentDecoder, SegmentEncoder, SegmentError, SegmentEvent, SegmentHeader, SegmentKind, SegmentSummary,
};

pub const PAGE_SIZE: u32 = 512;

/// One transaction to encode.
#[derive(Clone, Debug)]
pub struct Commit {
    pub page_count: u32,
    pub time: i64,
    pub checksum: u64,
    pub pages: Vec<(u32, Vec<u8>)>,
}

fn page_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => any::<u8>().prop_map(|byte| vec![byte; PAGE_SIZE as usize]),
        1 => any::<u64>().prop_map(noise),
    ]
}

/// A page that does not compress.
pub fn noise(mut seed: u64) -> Vec<u8> {
    let mut page = Vec::new();
    while page.len() < PAGE_SIZE as usize {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        page.push((seed >> 56) as u8);
    }
    page
}

fn commit() -> impl Strategy<Value = Commit> {
    (prop_oneof![1..12_u32, 1..2000_u32], 0..5_i64, any::<u64>()).prop_flat_map(|(page_count, time, checksum)| {
        let pages = prop::collection::vec((1..=page_count, page_bytes()), 0..12);
        pages.prop_map(move |pages| Commit { page_count, time, checksum, pages })
    })
}

/// Transactions with commit times that never decrease.
pub fn history(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Commit>> {
    (any::<i32>(), prop::collection::vec(commit(), len)).prop_map(|(start, mut commits)| {
        let mut time = i64::from(start);
        for commit in &mut commits {
            time += commit.time;
            commit.time = time;
        }
        commits
    })
}

pub fn header(kind: SegmentKind, first: u64, transactions: usize, before: u64) -> SegmentHeader {
    SegmentHeader {
        page_size: PageSize::new(PAGE_SIZE).unwrap(),
        lineage: Lineage(3),
        first: Txid(first),
        last: Txid(first.wrapping_add(transactions as u64).wrapping_sub(1)),
        checksum_before: Checksum(before),
        kind,
    }
}

pub fn encode(header: SegmentHeader, commits: &[Commit]) -> (Vec<Bytes>, SegmentSummary) {
    let mut encoder = SegmentEncoder::new(header);
    let mut pieces = Vec::new();
    for commit in commits {
        for (page, bytes) in &commit.pages {
            encoder.page(PageNumber(*page), bytes).unwrap();
        }
        encoder.commit(commit.page_count, commit.time, Checksum(commit.checksum)).unwrap();
        if commit.checksum % 3 == 0 {
            pieces.extend(encoder.take());
        }
    }
    let (rest, summary) = encoder.finish().unwrap();
    pieces.extend(rest);
    (pieces, summary)
}

/// The segment of a history from transaction `first` on.
pub fn log(first: u64, before: u64, commits: &[Commit]) -> (Vec<Bytes>, SegmentSummary) {
    encode(header(SegmentKind::Log, first, commits.len(), before), commits)
}

/// Decodes pieces, all events up to and with the end.
pub fn decode(pieces: impl IntoIterator<Item = Bytes>) -> Result<Vec<SegmentEvent>, SegmentError> {
    let mut decoder = SegmentDecoder::new();
    let mut events = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        while let Some(event) = decoder.next()? {
            events.push(event);
        }
    }
    decoder.finish()?;
    Ok(events)
}

/// The events that decoding a log segment has to give, without header and end.
pub fn events(first: u64, commits: &[Commit]) -> Vec<SegmentEvent> {
    let mut events = Vec::new();
    for (commit, txid) in commits.iter().zip(first..) {
        let txid = Txid(txid);
        for (page, bytes) in &commit.pages {
            events.push(SegmentEvent::Page { txid, page: PageNumber(*page), bytes: bytes.clone().into() });
        }
        events.push(SegmentEvent::Commit(seawall_proto::segment::Transaction {
            txid,
            page_count: commit.page_count,
            commit_time_ms: commit.time,
            checksum_after: Checksum(commit.checksum),
            pages: commit.pages.len() as u32,
            resync: false,
        }));
    }
    events
}

/// What a history changes: the last version of each page, none beyond the end of the database.
pub fn squashed(commits: &[Commit]) -> BTreeMap<u32, Vec<u8>> {
    let mut pages = BTreeMap::new();
    for commit in commits {
        pages.extend(commit.pages.iter().cloned());
        pages.retain(|page, _| *page <= commit.page_count);
    }
    pages
}
