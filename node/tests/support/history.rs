//! A made-up history of a database, and segments of it.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;

use bytes::Bytes;
use seawall_proto::checksum::Checksum;
use seawall_proto::object_name::{Level, ObjectName};
use seawall_proto::position::{Lineage, PageNumber, PageSize, Position, Txid};
use seawall_proto::segment::{SegmentEncoder, SegmentHeader, SegmentKind};

/// One state: its pages (the lock page is never among them), its size and when it came to be.
#[derive(Clone, Default)]
pub struct State {
    pub pages: BTreeMap<u32, Vec<u8>>,
    pub page_count: u32,
    pub page_size: u32,
    pub time: i64,
    /// The pages of the transaction that led here.
    pub written: Vec<u32>,
}

impl State {
    pub fn checksum(&self) -> Checksum {
        self.pages.iter().fold(Checksum::EMPTY, |sum, (page, bytes)| sum ^ Checksum::of_page(PageNumber(*page), bytes))
    }

    /// The database file.
    pub fn file(&self) -> Vec<u8> {
        let size = self.page_size as usize;
        let mut file = vec![0; size * self.page_count as usize];
        for (page, bytes) in &self.pages {
            file[(*page as usize - 1) * size..][..size].copy_from_slice(bytes);
        }
        file
    }
}

/// States by txid; 0 is the empty database.
pub struct History {
    pub lineage: u64,
    pub states: Vec<State>,
}

/// Commit time of the first transaction, in milliseconds since 1970; each next one is a second later.
pub const EPOCH: i64 = 1_700_000_000_000;

impl History {
    pub fn new() -> Self {
        Self { lineage: 1, states: vec![State { page_size: 512, ..State::default() }] }
    }

    /// A history of `transactions` small changes with growth and shrinking, from the numbers of `seed`.
    pub fn random(transactions: u64, seed: u64) -> Self {
        let mut history = Self::new();
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = move |bound: u32| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 33) as u32 % bound
        };
        for _ in 0..transactions {
            let old = history.states.last().unwrap().page_count;
            let new = match next(4) {
                0 => old + next(6) + 1,
                1 if old > 3 => old - next(3),
                _ => old.max(2),
            };
            let mut written: Vec<u32> = (old + 1..=new).collect();
            written.extend((0..next(4)).map(|_| next(new) + 1));
            written.sort_unstable();
            written.dedup();
            let fill = next(256) as u8;
            history.commit(&written, new, fill);
        }
        history
    }

    pub fn head(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    /// Adds a transaction that writes `written` and leaves `page_count` pages.
    pub fn commit(&mut self, written: &[u32], page_count: u32, fill: u8) {
        let txid = self.states.len() as u64;
        let mut state = self.states.last().unwrap().clone();
        for page in written {
            let mut bytes = vec![fill; state.page_size as usize];
            bytes[..8].copy_from_slice(&txid.to_le_bytes());
            bytes[8..12].copy_from_slice(&page.to_le_bytes());
            state.pages.insert(*page, bytes);
        }
        state.pages.split_off(&(page_count + 1));
        state.page_count = page_count;
        state.time = EPOCH + txid as i64 * 1000;
        state.written = written.to_vec();
        self.states.push(state);
    }

    /// Adds a transaction that rewrites everything with another page size.
    pub fn change_page_size(&mut self, page_size: u32, page_count: u32) {
        let txid = self.states.len() as u64;
        self.states.push(State { page_size, ..State::default() });
        // Built on a state without pages: nothing of the old size remains.
        let base = self.states.len() - 1;
        let written: Vec<u32> = (1..=page_count).collect();
        self.commit(&written, page_count, 7);
        self.states.remove(base);
        self.states.last_mut().unwrap().time = EPOCH + txid as i64 * 1000;
    }

    pub fn position(&self, txid: u64) -> Position {
        let checksum = self.states[txid as usize].checksum();
        Position { lineage: Lineage(self.lineage), txid: Txid(txid), checksum }
    }

    pub fn name(&self, level: Level, first: u64, last: u64) -> ObjectName {
        ObjectName {
            lineage: Lineage(self.lineage),
            level,
            first: Txid(first),
            last: Txid(last),
            checksum_after: self.states[last as usize].checksum(),
        }
    }

    fn header(&self, kind: SegmentKind, first: u64, last: u64) -> SegmentHeader {
        SegmentHeader {
            page_size: PageSize::new(self.states[last as usize].page_size).unwrap(),
            lineage: Lineage(self.lineage),
            first: Txid(first),
            last: Txid(last),
            checksum_before: self.states[first as usize - 1].checksum(),
            kind,
        }
    }

    /// Every transaction from `first` to `last`.
    pub fn log(&self, first: u64, last: u64) -> (ObjectName, Bytes) {
        let mut encoder = SegmentEncoder::new(self.header(SegmentKind::Log, first, last));
        for txid in first..=last {
            let state = &self.states[txid as usize];
            for page in &state.written {
                // A page beyond the size it commits may be in the WAL, and must not survive.
                let bytes = state.pages.get(page).cloned().unwrap_or_else(|| vec![0xee; state.page_size as usize]);
                encoder.page(PageNumber(*page), &bytes).unwrap();
            }
            encoder.commit(state.page_count, state.time, state.checksum()).unwrap();
        }
        let (parts, _) = encoder.finish().unwrap();
        (self.name(Level::Log, first, last), parts.concat().into())
    }

    /// The last version of each page changed from `first` to `last`.
    pub fn squashed(&self, level: Level, first: u64, last: u64) -> (ObjectName, Bytes) {
        let mut encoder = SegmentEncoder::new(self.header(SegmentKind::Squashed, first, last));
        let (before, after) = (&self.states[first as usize - 1], &self.states[last as usize]);
        for (page, bytes) in &after.pages {
            if before.pages.get(page) != Some(bytes) {
                encoder.page(PageNumber(*page), bytes).unwrap();
            }
        }
        encoder.commit(after.page_count, after.time, after.checksum()).unwrap();
        let (parts, _) = encoder.finish().unwrap();
        (self.name(level, first, last), parts.concat().into())
    }

    pub fn snapshot(&self, last: u64) -> (ObjectName, Bytes) {
        self.squashed(Level::Snapshot, 1, last)
    }
}
