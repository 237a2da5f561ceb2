//! Zstandard, one-shot, with contexts that are used again.

use std::cell::RefCell;

use zstd::zstd_safe::{CCtx, DCtx, compress_bound};

/// The cheapest regular level: the agent's speed counts for more than the last percent.
const LEVEL: i32 = 1;

struct Compressor {
    context: CCtx<'static>,
    output: Vec<u8>,
}

// Setting up a context costs more than compressing a page. What one leaves behind does not show in the next result, so
// sharing them within a thread shares no state.
thread_local! {
    static COMPRESSOR: RefCell<Compressor> =
        RefCell::new(Compressor { context: CCtx::create(), output: Vec::new() });
    static DECOMPRESSOR: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// Calls `use_it` with the compressed bytes, or with `bytes` themselves if compression does not make them smaller.
pub(super) fn compress<R>(bytes: &[u8], use_it: impl FnOnce(&[u8]) -> R) -> R {
    COMPRESSOR.with_borrow_mut(|Compressor { context, output }| {
        output.clear();
        output.reserve(compress_bound(bytes.len()));
        match context.compress(output, bytes, LEVEL) {
            Ok(length) if length < bytes.len() => use_it(&output[..length]),
            _ => use_it(bytes),
        }
    })
}

/// Decompresses to exactly `length` bytes; `None` if that is not what `bytes` hold.
pub(super) fn decompress(bytes: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut output = Vec::with_capacity(length);
    let result = DECOMPRESSOR.with_borrow_mut(|context| context.decompress(&mut output, bytes));
    (result == Ok(length) && output.len() == length).then_some(output)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn content() -> impl Strategy<Value = Vec<u8>> {
        // Few different bytes, so that there is something to find and to remember.
        prop_oneof![prop::collection::vec(0..4_u8, 1..2000), prop::collection::vec(0..3_u8, 30_000..60_000)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn used_contexts_give_what_new_ones_give(before in prop::collection::vec(content(), 0..3), bytes in content()) {
            before.iter().for_each(|bytes| compress(bytes, |_| ()));
            let used = compress(&bytes, <[u8]>::to_vec);
            let again = bytes.clone();
            #[allow(clippy::disallowed_methods, reason = "a new thread has new contexts")]
            let new = std::thread::spawn(move || compress(&again, <[u8]>::to_vec)).join().unwrap();
            prop_assert_eq!(&used, &new);
            if used.len() < bytes.len() {
                prop_assert_eq!(decompress(&used, bytes.len()), Some(bytes.clone()));
                prop_assert_eq!(decompress(&used, bytes.len() - 1), None);
                prop_assert_eq!(decompress(&used, bytes.len() + 1), None);
            }
        }

        #[test]
        fn any_bytes_decompress_or_not(bytes: Vec<u8>, length in 0..5000_usize) {
            prop_assert!(decompress(&bytes, length).is_none_or(|content| content.len() == length));
        }
    }
}
