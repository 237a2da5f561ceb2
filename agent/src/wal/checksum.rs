//! The cumulative checksum of WAL files.

/// The byte order in which a WAL's checksums read its words: that of the machine which created the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// Magic number 0x377f0682.
    Little,
    /// Magic number 0x377f0683.
    Big,
}

/// The running checksum of a WAL: every frame's continues the one before, so one value vouches for all up to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunningChecksum {
    /// How words are read.
    pub order: ByteOrder,
    /// Both sums.
    pub sums: [u32; 2],
}

impl RunningChecksum {
    /// Continues over `bytes`; what does not fill a pair of words at the end is left out.
    pub fn update(&mut self, bytes: &[u8]) {
        let [mut first, mut second] = self.sums;
        let (pairs, _rest) = bytes.as_chunks::<8>();
        let mut add = |x: u32, y: u32| {
            first = first.wrapping_add(x).wrapping_add(second);
            second = second.wrapping_add(y).wrapping_add(first);
        };
        match self.order {
            ByteOrder::Little => {
                for [a, b, c, d, e, f, g, h] in pairs {
                    add(u32::from_le_bytes([*a, *b, *c, *d]), u32::from_le_bytes([*e, *f, *g, *h]));
                }
            }
            ByteOrder::Big => {
                for [a, b, c, d, e, f, g, h] in pairs {
                    add(u32::from_be_bytes([*a, *b, *c, *d]), u32::from_be_bytes([*e, *f, *g, *h]));
                }
            }
        }
        self.sums = [first, second];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_the_same_in_pieces(words in proptest::collection::vec(any::<[u8; 8]>(), 0..64), cut in 0_usize..64, big: bool) {
            let order = if big { ByteOrder::Big } else { ByteOrder::Little };
            let bytes = words.concat();
            let cut = cut.min(words.len()) * 8;
            let start = RunningChecksum { order, sums: [3, 5] };
            let (mut whole, mut parts) = (start, start);
            whole.update(&bytes);
            parts.update(&bytes[..cut]);
            parts.update(&bytes[cut..]);
            prop_assert_eq!(whole, parts);
        }
    }

    #[test]
    fn follows_the_published_recurrence() {
        let mut sum = RunningChecksum { order: ByteOrder::Little, sums: [0, 0] };
        sum.update(&[1, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(sum.sums, [1, 3]);
        sum.update(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(sum.sums, [3, 6]);
    }
}
