//! Objects too large for one request.

use bytes::Bytes;
use object_store::PutPayload;
use object_store::multipart::MultipartStore;

use super::super::{ByteStream, Creation, DestinationError, parts};
use super::{AzureDestination, BLOCK_BYTES};

/// A blob has at most 50 000 blocks; a few are kept free, because hints are rough.
const MOST_BLOCKS: u64 = 45_000;

/// How large each block is, so that 50 000 of them suffice for an object of the hinted size.
fn block_bytes(size_hint: Option<u64>) -> u64 {
    BLOCK_BYTES.max((size_hint.unwrap_or(0) / MOST_BLOCKS + 1).next_multiple_of(1 << 20))
}

impl AzureDestination {
    /// Creates an object from a stream: by one request if it is short, from blocks otherwise.
    pub(super) async fn upload(
        &self,
        name: &str,
        size_hint: Option<u64>,
        mut content: ByteStream,
    ) -> Result<Creation, DestinationError> {
        let unreadable = |error: std::io::Error| DestinationError::Source {
            destination: self.options.url.clone(),
            name: name.to_owned(),
            cause: error.to_string(),
        };
        let wanted = block_bytes(size_hint);
        let mut carry = Bytes::new();
        let (mut pieces, mut ended) = parts::collect(&mut content, &mut carry, wanted).await.map_err(unreadable)?;
        if ended {
            return self.put(name, pieces).await;
        }
        // An upload that finds the object there has uploaded everything in vain: look first.
        if self.exists(name).await? {
            return Ok(Creation::AlreadyExists);
        }
        let path = self.path("create", name)?;
        let store = self.store().await?;
        let upload = store.library.create_multipart(&path).await;
        let upload = upload.map_err(|error| self.failed("create", name, &error))?;
        let mut blocks = Vec::new();
        while !pieces.is_empty() {
            let bytes = parts::length(&pieces);
            let payload: PutPayload = pieces.into_iter().collect();
            let asked = store.library.put_part(&path, &upload, blocks.len(), payload);
            let sent = self.in_time("upload a part of", name, bytes, asked).await?;
            blocks.push(sent.map_err(|error| self.failed("upload a part of", name, &error))?);
            if ended {
                break;
            }
            (pieces, ended) = parts::collect(&mut content, &mut carry, wanted).await.map_err(unreadable)?;
        }
        match self.in_time("complete", name, 0, store.commit(&path, &blocks)).await? {
            Ok(()) => Ok(Creation::Created),
            Err(answer) if answer.already_exists() => Ok(Creation::AlreadyExists),
            // Whoever was faster has thrown away our blocks together with their own.
            Err(answer) if answer.blocks_are_gone() && self.exists(name).await? => Ok(Creation::AlreadyExists),
            Err(answer) => Err(answer.describe(&self.options, "complete", name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifty_thousand_blocks_suffice() {
        assert_eq!(block_bytes(None), BLOCK_BYTES);
        for hint in [1, 1 << 30, 1 << 40, 100 << 40] {
            assert!(block_bytes(Some(hint)) * 50_000 >= hint + hint / 20, "{hint}");
        }
        // No block may be larger than 4000 MiB.
        assert!(block_bytes(Some(150 << 40)) <= 4_000 << 20);
    }
}
