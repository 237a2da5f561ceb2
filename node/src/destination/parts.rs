//! The bytes of an object on their way through requests and answers, in pieces that are never joined needlessly.

// Each kind of destination uses some of it.
#![cfg_attr(not(all(feature = "abs", feature = "gs", feature = "s3", feature = "sftp")), allow(dead_code))]

use std::io;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use super::ByteStream;

/// Collects from `content` until there are `wanted` bytes, or it ends. `carry` keeps what was too much.
pub(super) async fn collect(
    content: &mut ByteStream,
    carry: &mut Bytes,
    wanted: u64,
) -> io::Result<(Vec<Bytes>, bool)> {
    let mut parts = Vec::new();
    let mut missing = usize::try_from(wanted).unwrap_or(usize::MAX);
    loop {
        let take = carry.split_to(carry.len().min(missing));
        missing -= take.len();
        if !take.is_empty() {
            parts.push(take);
        }
        if missing == 0 {
            return Ok((parts, false));
        }
        match content.next().await {
            Some(piece) => *carry = piece?,
            None => return Ok((parts, true)),
        }
    }
}

/// The length of `parts` together, in bytes.
pub(super) fn length(parts: &[Bytes]) -> u64 {
    parts.iter().map(|part| part.len() as u64).sum()
}

/// CRC32C over `parts`.
pub(super) fn crc32c(parts: &[Bytes]) -> u32 {
    parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part))
}

/// A CRC32C as S3 and Google write it: big-endian, base64.
#[cfg(any(feature = "gs", feature = "s3"))]
pub(super) fn base64_of(crc: u32) -> String {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;

    BASE64_STANDARD.encode(crc.to_be_bytes())
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

#[cfg(any(feature = "gs", feature = "s3"))]
mod body {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll};

    use http_body::{Body, Frame, SizeHint};

    use super::*;

    /// The body of a request: parts, sent one behind the other.
    pub(in super::super) struct Parts {
        parts: Arc<[Bytes]>,
        next: usize,
        remaining: u64,
    }

    impl Parts {
        /// A body of `parts`, none of which is empty.
        pub(in super::super) fn new(parts: Arc<[Bytes]>) -> Self {
            let remaining = length(&parts);
            Self { parts, next: 0, remaining }
        }
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
}

#[cfg(any(feature = "gs", feature = "s3"))]
pub(super) use body::Parts;

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[test]
    #[cfg(any(feature = "gs", feature = "s3"))]
    fn checksums_are_base64_of_big_endian_bytes() {
        // RFC 3720, appendix B.4: the CRC32C of 32 zeros is 0x8a9136aa.
        let zeros = [Bytes::from_static(&[0; 16]), Bytes::from_static(&[0; 16])];
        assert_eq!(base64_of(crc32c(&zeros)), "ipE2qg==");
        assert_eq!(base64_of(0), "AAAAAA==");
        assert_eq!(base64_of(u32::MAX), "/////w==");
    }

    #[tokio::test]
    async fn parts_are_cut_exactly_and_nothing_is_lost() {
        let pieces = ["abc", "", "defgh", "i"].map(|text| Ok(Bytes::from_static(text.as_bytes())));
        let mut content = stream::iter(pieces).boxed();
        let mut carry = Bytes::new();
        let mut seen = Vec::new();
        loop {
            let (parts, ended) = collect(&mut content, &mut carry, 4).await.unwrap();
            seen.push(String::from_utf8(parts.concat()).unwrap());
            if ended {
                break;
            }
        }
        assert_eq!(seen, ["abcd", "efgh", "i"]);
    }
}
