//! S3 and whatever speaks like it.

mod body;
mod client;
mod error;
mod options;
mod upload;

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::put_object::PutObjectError;
use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::sync::OnceCell;

use super::{ByteStream, Creation, Destination, DestinationError, ListedObject, parts, probe};
pub use options::{Encryption, S3Options};

/// Larger objects are created by multipart upload.
const SINGLE_PUT_BYTES: u64 = 64 << 20;

/// Objects in a bucket, below a prefix.
///
/// Nothing is connected to before the first call. The SDK retries little: whoever calls does, with a wider view.
/// Objects are created with `If-None-Match: *`; at a store that ignores or refuses this (see
/// [`Destination::probe`]) existence is asked for before each creation, which leaves a gap between the two.
pub struct S3Destination {
    options: S3Options,
    client: OnceCell<Client>,
    conditional: AtomicBool,
}

impl std::fmt::Debug for S3Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Destination").field("options", &self.options).finish_non_exhaustive()
    }
}

impl S3Destination {
    /// The destination that `options` describes.
    pub fn new(options: S3Options) -> Self {
        Self { options, client: OnceCell::new(), conditional: AtomicBool::new(true) }
    }

    async fn client(&self) -> Result<&Client, DestinationError> {
        let connected = self.client.get_or_try_init(|| client::connect(&self.options)).await;
        connected.map_err(|cause| DestinationError::Refused {
            destination: self.options.url.clone(),
            action: "connect".to_owned(),
            cause,
        })
    }

    /// The key that the store encrypts with and forgets, as requests carry it: algorithm, key, MD5.
    fn customer_key(&self) -> (Option<String>, Option<String>, Option<String>) {
        match &self.options.encryption {
            Some(Encryption::Customer { key, md5 }) => {
                (Some("AES256".to_owned()), Some(key.reveal().to_owned()), Some(md5.clone()))
            }
            _ => (None, None, None),
        }
    }

    /// How the store is to encrypt by itself: algorithm and key.
    fn store_encryption(&self) -> (Option<ServerSideEncryption>, Option<String>) {
        match &self.options.encryption {
            Some(Encryption::Store { sse, kms_key_id }) => (Some(sse.as_str().into()), kms_key_id.clone()),
            _ => (None, None),
        }
    }

    /// The client's settings for a request that sends so many bytes.
    fn patience_for(&self, bytes: u64) -> Builder {
        Builder::new().timeout_config(client::timeouts(&self.options, bytes))
    }

    fn storage_class(&self) -> Option<StorageClass> {
        self.options.storage_class.as_deref().map(StorageClass::from)
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.options.prefix)
    }

    fn failed<E>(&self, action: &str, name: &str, error: &SdkError<E>) -> DestinationError
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        error::describe(&self.options, action, name, error)
    }

    async fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<Creation, DestinationError> {
        let conditional = self.creates_conditionally();
        if !conditional && self.exists(name).await? {
            return Ok(Creation::AlreadyExists);
        }
        match self.put_object(name, parts, conditional).await? {
            Ok(()) => Ok(Creation::Created),
            Err(error) if conditional && error::already_exists(&error) => Ok(Creation::AlreadyExists),
            Err(error) => Err(self.failed("create", name, &error)),
        }
    }

    /// Creates an empty object only if none exists; a store that does not know the condition counts as one that takes no
    /// notice of it.
    async fn put_once(&self, name: &str) -> Result<Creation, DestinationError> {
        match self.put_object(name, Vec::new(), true).await? {
            Ok(()) => Ok(Creation::Created),
            Err(error) if error::already_exists(&error) => Ok(Creation::AlreadyExists),
            Err(error) if error::condition_unknown(&error) => Ok(Creation::Created),
            Err(error) => Err(self.failed("create", name, &error)),
        }
    }

    async fn put_object(
        &self,
        name: &str,
        parts: Vec<Bytes>,
        conditional: bool,
    ) -> Result<Result<(), SdkError<PutObjectError>>, DestinationError> {
        let (algorithm, key, md5) = self.customer_key();
        let (sse, kms_key_id) = self.store_encryption();
        let patience = self.patience_for(parts::length(&parts));
        let request = self
            .client()
            .await?
            .put_object()
            .set_storage_class(self.storage_class())
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(kms_key_id)
            .set_sse_customer_algorithm(algorithm)
            .set_sse_customer_key(key)
            .set_sse_customer_key_md5(md5)
            .bucket(&self.options.bucket)
            .key(self.key(name))
            .content_type("application/octet-stream")
            .content_length(body::length(&parts))
            .checksum_crc32_c(body::crc32c(&parts))
            .set_if_none_match(conditional.then(|| "*".to_owned()))
            .body(body::stream(parts));
        Ok(request.customize().config_override(patience).send().await.map(drop))
    }

    async fn exists(&self, name: &str) -> Result<bool, DestinationError> {
        let (algorithm, key, md5) = self.customer_key();
        let request = self
            .client()
            .await?
            .head_object()
            .bucket(&self.options.bucket)
            .key(self.key(name))
            .set_sse_customer_algorithm(algorithm)
            .set_sse_customer_key(key)
            .set_sse_customer_key_md5(md5);
        match request.send().await {
            Ok(_) => Ok(true),
            Err(error) => match self.failed("look for", name, &error) {
                DestinationError::NotFound { .. } => Ok(false),
                other => Err(other),
            },
        }
    }

    fn unavailable(&self, action: &str, name: &str, cause: &str) -> DestinationError {
        DestinationError::Unavailable {
            destination: self.options.url.clone(),
            action: format!("{action} {name}"),
            cause: cause.to_owned(),
        }
    }
}

#[async_trait]
impl Destination for S3Destination {
    fn url(&self) -> &str {
        &self.options.url
    }

    async fn probe(&self) -> Result<(), DestinationError> {
        let name = probe::name();
        let conditional = probe::creates_once(self, &name, self.put_once(&name), self.put_once(&name)).await?;
        self.conditional.store(conditional, Ordering::Relaxed);
        if !conditional {
            tracing::warn!(
                destination = self.options.url,
                "this store cannot create objects only if none exists: one more request goes before each upload, and \
                     a node that wrongly takes itself for the leader may replace an object by another of the same state"
            );
        }
        Ok(())
    }

    fn creates_conditionally(&self) -> bool {
        self.conditional.load(Ordering::Relaxed)
    }

    async fn create(&self, name: &str, parts: Vec<Bytes>) -> Result<Creation, DestinationError> {
        let length = parts::length(&parts);
        if length > SINGLE_PUT_BYTES {
            return self.upload(name, Some(length), stream::iter(parts.into_iter().map(Ok)).boxed()).await;
        }
        self.put(name, parts).await
    }

    async fn create_streaming(
        &self,
        name: &str,
        size_hint: Option<u64>,
        content: ByteStream,
    ) -> Result<Creation, DestinationError> {
        self.upload(name, size_hint, content).await
    }

    async fn read(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, DestinationError> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        // Stores count in signed numbers.
        let last = offset.saturating_add(length - 1).min(i64::MAX as u64);
        let (algorithm, key, md5) = self.customer_key();
        let request = self
            .client()
            .await?
            .get_object()
            .set_sse_customer_algorithm(algorithm)
            .set_sse_customer_key(key)
            .set_sse_customer_key_md5(md5)
            .bucket(&self.options.bucket)
            .key(self.key(name))
            .range(format!("bytes={offset}-{last}"));
        let response = match request.send().await {
            Ok(response) => response,
            // The range begins where the object ends, or beyond.
            Err(error) if error::status(&error) == Some(416) => return Ok(Bytes::new()),
            Err(error) => return Err(self.failed("read", name, &error)),
        };
        if offset > 0 && response.content_range().is_none() {
            return Err(self.unavailable("read", name, "it answered the whole object where a range was asked for"));
        }
        let mut content = response.body;
        let mut pieces = Vec::new();
        let mut received = 0_u64;
        while let Some(piece) = content.next().await {
            let piece = piece.map_err(|error| self.unavailable("read", name, &error.to_string()))?;
            received += piece.len() as u64;
            if received > length {
                return Err(self.unavailable("read", name, "it answered more bytes than were asked for"));
            }
            pieces.push(piece);
        }
        Ok(parts::join(pieces))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ListedObject>, DestinationError> {
        let mut found = Vec::new();
        let mut token = None;
        loop {
            let request = self
                .client()
                .await?
                .list_objects_v2()
                .bucket(&self.options.bucket)
                .prefix(self.key(prefix))
                .set_continuation_token(token.take());
            let page = request.send().await.map_err(|error| self.failed("list", prefix, &error))?;
            for object in page.contents() {
                let name = object.key().and_then(|key| key.strip_prefix(&self.options.prefix));
                if let Some(name) = name {
                    let size = object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
                    found.push(ListedObject { name: name.to_owned(), size });
                }
            }
            token = page.next_continuation_token().filter(|_| page.is_truncated() == Some(true)).map(str::to_owned);
            if token.is_none() {
                found.sort();
                return Ok(found);
            }
        }
    }

    async fn delete(&self, name: &str) -> Result<(), DestinationError> {
        let request = self.client().await?.delete_object().bucket(&self.options.bucket).key(self.key(name));
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => match self.failed("delete", name, &error) {
                DestinationError::NotFound { .. } => Ok(()),
                other => Err(other),
            },
        }
    }
}
