//! The newest payloads, so that followers that keep up and the fan-out don't wait for the disk.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Smaller payloads are copied: they came in buffers that hold others as well, and would keep all of those.
const COPIED_BELOW: usize = 64 << 10;

/// Payloads by index; the lowest go first.
pub(super) struct PayloadCache {
    limit: usize,
    bytes: usize,
    payloads: BTreeMap<u64, Bytes>,
}

impl PayloadCache {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, bytes: 0, payloads: BTreeMap::new() }
    }

    pub(super) fn get(&self, index: u64) -> Option<Bytes> {
        self.payloads.get(&index).cloned()
    }

    pub(super) fn insert(&mut self, index: u64, payload: Bytes) {
        if payload.is_empty() {
            return;
        }
        let payload = if payload.len() < COPIED_BELOW { Bytes::copy_from_slice(&payload) } else { payload };
        self.bytes += payload.len();
        if let Some(old) = self.payloads.insert(index, payload) {
            self.bytes -= old.len();
        }
        while self.bytes > self.limit
            && let Some((_, payload)) = self.payloads.pop_first()
        {
            self.bytes -= payload.len();
        }
    }

    /// Forgets payloads from `index` on.
    pub(super) fn truncate(&mut self, index: u64) {
        let removed = self.payloads.split_off(&index);
        self.bytes -= removed.values().map(Bytes::len).sum::<usize>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_newest_payloads_within_its_limit() {
        let mut cache = PayloadCache::new(10);
        for index in 0..5 {
            cache.insert(index, Bytes::from_static(b"1234"));
        }
        let kept: Vec<u64> = (0..5).filter(|index| cache.get(*index).is_some()).collect();
        assert_eq!((kept, cache.bytes), (vec![3, 4], 8));
        cache.truncate(4);
        assert_eq!((cache.get(4), cache.bytes), (None, 4));
        cache.insert(5, Bytes::from(vec![0; 11]));
        assert_eq!(cache.bytes, 0);
    }

    #[test]
    fn keeps_no_buffer_of_others() {
        let mut cache = PayloadCache::new(1000);
        let buffer = Bytes::from(vec![7; 4000]);
        cache.insert(1, buffer.slice(10..20));
        assert!(buffer.is_unique());
        assert_eq!(cache.get(1).unwrap(), vec![7; 10]);
    }
}
