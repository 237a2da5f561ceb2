//! Seeded randomness. Every consumer has a stream of its own, so that switching one kind of fault off leaves the
//! draws of the others as they were.

use std::ops::Range;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Who draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stream {
    /// Which ready task runs next.
    Schedule,
    /// What the product draws for itself.
    Product,
    /// Delays and faults of calls.
    Network,
    /// Latency and faults of disks.
    Disk,
    /// Latency and faults of destinations.
    Destination,
    /// What applications write.
    Application,
    /// When which fault strikes.
    Faults,
    /// What oracles choose to look at.
    Oracles,
    /// The configuration of a run.
    Configuration,
    /// Whose wall clocks may be wrong.
    Clocks,
}

impl Stream {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Schedule,
        Self::Product,
        Self::Network,
        Self::Disk,
        Self::Destination,
        Self::Application,
        Self::Faults,
        Self::Oracles,
        Self::Configuration,
        Self::Clocks,
    ];
}

/// One stream of random draws.
#[derive(Clone, Debug)]
pub struct Random(SmallRng);

impl Random {
    /// The stream `stream` of `seed`.
    pub fn new(seed: u64, stream: Stream) -> Self {
        let mut key = [0; 9];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8] = stream as u8;
        Self(SmallRng::seed_from_u64(xxhash_rust::xxh3::xxh3_64(&key)))
    }

    /// A number that tells how far the stream is, without drawing from it.
    pub(crate) fn mark(&self) -> u64 {
        self.0.clone().next_u64()
    }

    /// Any number.
    pub fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `range`; its start if it is empty.
    pub fn range(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end.saturating_sub(range.start))
    }

    /// Yes with probability `share` (0 to 1).
    pub fn chance(&mut self, share: f64) -> bool {
        ((self.u64() >> 11) as f64) < share * (1_u64 << 53) as f64
    }

    /// A duration in `range`.
    pub fn duration(&mut self, range: Range<Duration>) -> Duration {
        Duration::from_nanos(self.range(range.start.as_nanos() as u64..range.end.as_nanos() as u64))
    }

    /// An index below `len`, which must not be 0.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// One of `choices`, or `None` if there are none.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        if choices.is_empty() { None } else { Some(&choices[self.index(choices.len())]) }
    }

    /// Fills `buffer`.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        self.0.fill_bytes(buffer);
    }
}
