//! Bodies of requests and answers.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

/// Parts of a body, sent one behind the other without being joined.
struct Parts {
    parts: Arc<[Bytes]>,
    next: usize,
    remaining: u64,
}

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let part = self.parts.get(self.next).cloned();
        Poll::Ready(part.map(|part| {
            self.next += 1;
            self.remaining -= part.len() as u64;
            Ok(Frame::data(part))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.next == self.parts.len()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

/// A body of `parts` that the SDK can send again.
pub(super) fn stream(parts: Vec<Bytes>) -> ByteStream {
    let remaining = parts.iter().map(|part| part.len() as u64).sum();
    let parts: Arc<[Bytes]> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return ByteStream::from_static(b"");
    }
    ByteStream::new(SdkBody::retryable(move || {
        SdkBody::from_body_1_x(Parts { parts: Arc::clone(&parts), next: 0, remaining })
    }))
}

/// The length of `parts` together, as the SDK wants it.
pub(super) fn length(parts: &[Bytes]) -> i64 {
    i64::try_from(parts.iter().map(Bytes::len).sum::<usize>()).unwrap_or(i64::MAX)
}

/// CRC32C over `parts` as the `x-amz-checksum-crc32c` header has it: big-endian, base64.
pub(super) fn crc32c(parts: &[Bytes]) -> String {
    base64_of(parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part)))
}

fn base64_of(crc: u32) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    // 32 bits and 4 zeros make six digits; two `=` fill the last group.
    let bits = u64::from(crc) << 4;
    let digits = (0..6).rev().map(|digit| char::from(DIGITS[(bits >> (6 * digit)) as usize & 63]));
    digits.chain(['=', '=']).collect()
}

/// Pieces of an answer as one.
pub(super) fn join(mut pieces: Vec<Bytes>) -> Bytes {
    if pieces.len() == 1 {
        return pieces.swap_remove(0);
    }
    let mut joined = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    for piece in pieces {
        joined.extend_from_slice(&piece);
    }
    joined.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_base64_of_big_endian_bytes() {
        // RFC 3720, appendix B.4: the CRC32C of 32 zeros is 0x8a9136aa.
        assert_eq!(crc32c(&[Bytes::from_static(&[0; 16]), Bytes::from_static(&[0; 16])]), "ipE2qg==");
        assert_eq!(base64_of(0), "AAAAAA==");
        assert_eq!(base64_of(u32::MAX), "/////w==");
    }

    #[tokio::test]
    async fn parts_arrive_in_order() {
        let parts = ["ab", "", "c"].map(|text| Bytes::from_static(text.as_bytes())).to_vec();
        assert_eq!(length(&parts), 3);
        let collected = stream(parts).collect().await.unwrap();
        assert_eq!(collected.into_bytes(), "abc");
    }
}
