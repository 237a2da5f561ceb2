//! Randomness.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::world;

/// Fills `buffer` with random bytes.
pub fn fill(buffer: &mut [u8]) {
    world::current().fill_random(buffer);
}

/// A random number.
pub fn u64() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// A random number below `bound` (0 if the bound is 0).
pub fn below(bound: u64) -> u64 {
    if bound == 0 { 0 } else { ((u128::from(u64()) * u128::from(bound)) >> 64) as u64 }
}

/// A random duration between half of `duration` and the whole of it: back-off with jitter.
pub fn jitter(duration: Duration) -> Duration {
    let half = duration / 2;
    half + Duration::from_nanos(below(u64::try_from(half.as_nanos()).unwrap_or(u64::MAX)))
}

/// A generator for libraries that want one of their own, seeded from the world.
pub fn generator() -> SmallRng {
    SmallRng::seed_from_u64(u64())
}
