//! Bodies of requests, as the SDK wants them.

use std::sync::Arc;

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;

use super::super::parts::{self, Parts};

/// A body of `parts` that the SDK can send again.
pub(super) fn stream(parts: Vec<Bytes>) -> ByteStream {
    let parts: Arc<[Bytes]> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return ByteStream::from_static(b"");
    }
    ByteStream::new(SdkBody::retryable(move || SdkBody::from_body_1_x(Parts::new(Arc::clone(&parts)))))
}

/// The length of `parts` together, as the SDK wants it.
pub(super) fn length(parts: &[Bytes]) -> i64 {
    i64::try_from(parts::length(parts)).unwrap_or(i64::MAX)
}

/// CRC32C over `parts` as the `x-amz-checksum-crc32c` header has it.
pub(super) fn crc32c(parts: &[Bytes]) -> String {
    parts::base64_of(parts::crc32c(parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn parts_arrive_in_order() {
        let parts = ["ab", "", "c"].map(|text| Bytes::from_static(text.as_bytes())).to_vec();
        assert_eq!(length(&parts), 3);
        let collected = stream(parts).collect().await.unwrap();
        assert_eq!(collected.into_bytes(), "abc");
    }
}
