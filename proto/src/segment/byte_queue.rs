//! Bytes that come in pieces of any size and go in pieces of the reader's choice.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// Pieces of one byte string, in order. Taking out copies only what spans pieces.
#[derive(Clone, Default)]
pub(super) struct ByteQueue {
    pieces: VecDeque<Bytes>,
    len: usize,
}

impl ByteQueue {
    /// Adds to the end.
    pub(super) fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.len += bytes.len();
            self.pieces.push_back(bytes);
        }
    }

    /// Bytes waiting.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The first `N` bytes, left in place; `None` if there are fewer.
    pub(super) fn peek<const N: usize>(&self) -> Option<[u8; N]> {
        let mut bytes = self.pieces.iter().flat_map(|piece| piece.iter().copied());
        if self.len < N {
            return None;
        }
        let mut out = [0; N];
        out.iter_mut().zip(&mut bytes).for_each(|(to, from)| *to = from);
        Some(out)
    }

    /// The first `n` bytes as one; `None` if there are fewer.
    pub(super) fn take(&mut self, n: usize) -> Option<Bytes> {
        if self.len < n {
            return None;
        }
        match self.pieces.front() {
            Some(front) if front.len() < n => {
                let mut out = Vec::with_capacity(n);
                self.take_pieces(n).iter().for_each(|piece| out.extend_from_slice(piece));
                Some(out.into())
            }
            _ => Some(self.take_some(n)),
        }
    }

    /// At most `n` of the first bytes, without copying; empty only if there are none or `n` is 0.
    pub(super) fn take_some(&mut self, n: usize) -> Bytes {
        let Some(front) = self.pieces.front_mut() else { return Bytes::new() };
        let taken = front.split_to(n.min(front.len()));
        if front.is_empty() {
            self.pieces.pop_front();
        }
        self.len -= taken.len();
        taken
    }

    /// The first `n` bytes (or all, if there are fewer) in pieces, without copying.
    pub(super) fn take_pieces(&mut self, mut n: usize) -> Vec<Bytes> {
        let mut out = Vec::new();
        while n > 0 && self.len > 0 {
            let piece = self.take_some(n);
            n -= piece.remaining();
            out.push(piece);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn gives_back_what_was_pushed(pieces: Vec<Vec<u8>>, sizes in prop::collection::vec(0..20_usize, 0..50)) {
            let mut queue = ByteQueue::default();
            pieces.iter().for_each(|piece| queue.push(piece.clone().into()));
            let whole = pieces.concat();
            let mut at = 0;
            for size in sizes {
                prop_assert_eq!(queue.len(), whole.len() - at);
                prop_assert_eq!(queue.peek::<3>().map(Vec::from), whole[at..].get(..3).map(Vec::from));
                match queue.take(size) {
                    Some(bytes) => prop_assert_eq!(&bytes[..], &whole[at..at + size]),
                    None => {
                        prop_assert!(whole.len() - at < size);
                        break;
                    }
                }
                at += size;
            }
            prop_assert_eq!(queue.take_pieces(usize::MAX).concat(), &whole[at..]);
        }
    }
}
