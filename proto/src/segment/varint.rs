//! Unsigned LEB128 numbers: seven bits a byte, the lowest first; the high bit says that more follow.

/// Appends `value` in as few bytes as it takes.
pub(super) fn write(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a number off the front. `None` if it is cut off, longer than 64 bits, or not written in as few bytes as it takes.
pub(super) fn read(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (i, &byte) in input.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if i == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * i);
        if byte < 0x80 {
            *input = &input[i + 1..];
            return (byte != 0 || i == 0).then_some(value);
        }
    }
    None
}

/// Maps signed numbers to unsigned ones so that those near 0 stay small.
pub(super) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
pub(super) const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_read_back(value: u64, shift in 0..64, rest: Vec<u8>) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            write(&mut bytes, value);
            bytes.extend(&rest);
            let mut input = &bytes[..];
            prop_assert_eq!(read(&mut input), Some(value));
            prop_assert_eq!(input, &rest[..]);
        }

        #[test]
        fn each_number_has_one_spelling(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut input = &bytes[..];
            if let Some(value) = read(&mut input) {
                let mut again = Vec::new();
                write(&mut again, value);
                prop_assert_eq!(&again[..], &bytes[..bytes.len() - input.len()]);
            }
        }

        #[test]
        fn zigzag_turns_back(value: i64) {
            prop_assert_eq!(unzigzag(zigzag(value)), value);
        }
    }

    #[test]
    fn signed_numbers_near_zero_stay_small() {
        assert_eq!([0, -1, 1, -2, 2].map(zigzag), [0, 1, 2, 3, 4]);
    }
}
