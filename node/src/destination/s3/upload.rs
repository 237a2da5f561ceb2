//! Objects too large for one request.

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use seawall_host::task;

use super::super::{ByteStream, Creation, Destination, DestinationError, parts};
use super::{S3Destination, body, error};

/// The smallest part; memory holds one at a time.
const PART_BYTES: u64 = 16 << 20;
/// S3 takes 10 000 parts; a few are kept free, because hints are rough.
const MOST_PARTS: u64 = 9_000;

/// How large the part of this number (from 0) is, so that 10 000 of them suffice for an object of the hinted size,
/// and, without a hint, for 4 TiB.
fn part_bytes(size_hint: Option<u64>, number: u64) -> u64 {
    let hinted = size_hint.unwrap_or(0) / MOST_PARTS + 1;
    let grown = PART_BYTES << (number / 1_000).min(6);
    hinted.next_multiple_of(1 << 20).max(grown)
}

/// An upload under way: the parts of one that is given up are deleted, also when it is dropped.
struct Multipart {
    client: Client,
    bucket: String,
    key: String,
    upload: Option<String>,
}

impl Drop for Multipart {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.take() {
            let request = self.client.abort_multipart_upload().bucket(&self.bucket).key(&self.key).upload_id(upload);
            task::spawn(async move {
                if let Err(error) = request.send().await {
                    tracing::debug!(%error, "parts of an unfinished upload stay behind");
                }
            });
        }
    }
}

impl S3Destination {
    /// Creates an object from a stream: by one request if it is short, in parts otherwise.
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
        let mut carry = Bytes::new();
        let (mut pieces, mut ended) =
            parts::collect(&mut content, &mut carry, part_bytes(size_hint, 0)).await.map_err(unreadable)?;
        if ended {
            return self.put(name, pieces).await;
        }
        // A completion that finds the object there has uploaded everything in vain: look first.
        if self.exists(name).await? {
            return Ok(Creation::AlreadyExists);
        }
        let mut multipart = self.begin(name).await?;
        let mut completed = Vec::new();
        loop {
            completed.push(self.upload_part(name, &multipart, completed.len(), pieces).await?);
            if ended {
                break;
            }
            let wanted = part_bytes(size_hint, completed.len() as u64);
            (pieces, ended) = parts::collect(&mut content, &mut carry, wanted).await.map_err(unreadable)?;
            if pieces.is_empty() {
                break;
            }
        }
        self.complete(name, &mut multipart, completed).await
    }

    async fn begin(&self, name: &str) -> Result<Multipart, DestinationError> {
        let client = self.client().await?.clone();
        let (algorithm, customer_key, md5) = self.customer_key();
        let (sse, kms_key_id) = self.store_encryption();
        let (bucket, key) = (self.options.bucket.clone(), self.key(name));
        let request = client
            .create_multipart_upload()
            .bucket(&bucket)
            .key(&key)
            .content_type("application/octet-stream")
            .set_storage_class(self.storage_class())
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(kms_key_id)
            .set_sse_customer_algorithm(algorithm)
            .set_sse_customer_key(customer_key)
            .set_sse_customer_key_md5(md5)
            .checksum_algorithm(ChecksumAlgorithm::Crc32C);
        let answer = request.send().await.map_err(|error| self.failed("create", name, &error))?;
        let upload = answer.upload_id().map(str::to_owned);
        if upload.is_none() {
            return Err(self.unavailable("create", name, "it began an upload without telling its id"));
        }
        Ok(Multipart { client, bucket, key, upload })
    }

    async fn upload_part(
        &self,
        name: &str,
        multipart: &Multipart,
        number: usize,
        pieces: Vec<Bytes>,
    ) -> Result<CompletedPart, DestinationError> {
        let number = i32::try_from(number + 1).unwrap_or(i32::MAX);
        let checksum = body::crc32c(&pieces);
        let patience = self.patience_for(parts::length(&pieces));
        let (algorithm, key, md5) = self.customer_key();
        let request = multipart
            .client
            .upload_part()
            .bucket(&multipart.bucket)
            .key(&multipart.key)
            .set_upload_id(multipart.upload.clone())
            .part_number(number)
            .set_sse_customer_algorithm(algorithm)
            .set_sse_customer_key(key)
            .set_sse_customer_key_md5(md5)
            .content_length(body::length(&pieces))
            .checksum_crc32_c(&checksum)
            .body(body::stream(pieces));
        let answer = request.customize().config_override(patience).send().await;
        let answer = answer.map_err(|error| self.failed("upload a part of", name, &error))?;
        let part = CompletedPart::builder().part_number(number).set_e_tag(answer.e_tag);
        Ok(part.checksum_crc32_c(checksum).build())
    }

    async fn complete(
        &self,
        name: &str,
        multipart: &mut Multipart,
        parts: Vec<CompletedPart>,
    ) -> Result<Creation, DestinationError> {
        let conditional = self.creates_conditionally();
        let (algorithm, key, md5) = self.customer_key();
        let request = multipart
            .client
            .complete_multipart_upload()
            .bucket(&multipart.bucket)
            .key(&multipart.key)
            .set_upload_id(multipart.upload.clone())
            .set_if_none_match(conditional.then(|| "*".to_owned()))
            .set_sse_customer_algorithm(algorithm)
            .set_sse_customer_key(key)
            .set_sse_customer_key_md5(md5)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build());
        match request.send().await {
            Ok(_) => {
                multipart.upload = None;
                Ok(Creation::Created)
            }
            Err(error) if conditional && error::already_exists(&error) => Ok(Creation::AlreadyExists),
            Err(error) => Err(self.failed("complete", name, &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_parts_suffice() {
        for hint in [0, 1, 1 << 30, 1 << 40, 5 << 40] {
            let total: u64 = (0..10_000).map(|number| part_bytes(Some(hint), number)).sum();
            assert!(total >= hint + hint / 20, "{hint}");
        }
        let unhinted: u64 = (0..10_000).map(|number| part_bytes(None, number)).sum();
        assert!(unhinted >= 4 << 40, "{unhinted}");
        assert_eq!(part_bytes(Some(1 << 30), 0), PART_BYTES);
    }
}
