//! Azure Blob Storage.

mod error;
mod options;
mod store;
mod upload;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use seawall_host::time;
use tokio::sync::OnceCell;

use super::{ByteStream, Creation, Destination, DestinationError, ListedObject, parts, probe};
use error::Answer;
pub use options::{AzureCredentials, AzureOptions};
use store::Store;

/// Larger objects are created from blocks of this size; memory holds one at a time.
const BLOCK_BYTES: u64 = 8 << 20;

/// How slow an upload may become, in bytes a second, before it is given up.
const SLOWEST: u64 = 32 << 10;

/// Objects as blobs in a container, below a prefix.
///
/// Nothing is connected to before the first call. Objects are created with `If-None-Match: *`, also those that are put
/// together from blocks; blocks of an upload that came to nothing are removed by the store after a week.
pub struct AzureDestination {
    options: AzureOptions,
    store: OnceCell<Store>,
    conditional: AtomicBool,
}

impl std::fmt::Debug for AzureDestination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AzureDestination").field("options", &self.options).finish_non_exhaustive()
    }
}

impl AzureDestination {
    /// The destination that `options` describes.
    pub fn new(options: AzureOptions) -> Self {
        Self { options, store: OnceCell::new(), conditional: AtomicBool::new(true) }
    }

    async fn store(&self) -> Result<&Store, DestinationError> {
        self.store.get_or_try_init(|| Store::connect(&self.options)).await.map_err(|cause| DestinationError::Refused {
            destination: self.options.url.clone(),
            action: "connect".to_owned(),
            cause,
        })
    }

    fn path(&self, action: &str, name: &str) -> Result<Path, DestinationError> {
        Path::parse(format!("{}{name}", self.options.prefix)).map_err(|_| DestinationError::Refused {
            destination: self.options.url.clone(),
            action: action.to_owned(),
            cause: format!("`{name}` cannot be the name of an object"),
        })
    }

    fn failed(&self, action: &str, name: &str, error: &object_store::Error) -> DestinationError {
        Answer::from_library(error).describe(&self.options, action, name)
    }

    fn unavailable(&self, action: &str, name: &str, cause: &str) -> DestinationError {
        DestinationError::Unavailable {
            destination: self.options.url.clone(),
            action: format!("{action} {name}"),
            cause: cause.to_owned(),
        }
    }

    /// Waits for an answer as long as is fair for so many bytes to be sent.
    async fn in_time<T>(
        &self,
        action: &str,
        name: &str,
        bytes: u64,
        answer: impl Future<Output = T>,
    ) -> Result<T, DestinationError> {
        let patience = self.options.patience + Duration::from_secs(bytes / SLOWEST);
        let late = |_| self.unavailable(action, name, &format!("{} did not answer in time", self.options.endpoint));
        time::timeout(patience, answer).await.map_err(late)
    }

    async fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<Creation, DestinationError> {
        let path = self.path("create", name)?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let bytes = parts::length(&parts);
        let payload: PutPayload = parts.into_iter().collect();
        let asked = self.store().await?.library.put_opts(&path, payload, options);
        match self.in_time("create", name, bytes, asked).await? {
            Ok(_) => Ok(Creation::Created),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Creation::AlreadyExists),
            Err(error) => Err(self.failed("create", name, &error)),
        }
    }

    async fn exists(&self, name: &str) -> Result<bool, DestinationError> {
        let path = self.path("look for", name)?;
        let asked = self.store().await?.library.head(&path);
        match self.in_time("look for", name, 0, asked).await? {
            Ok(_) => Ok(true),
            // An answer without a body does not tell whether the container is missing; what comes next will.
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed("look for", name, &error)),
        }
    }
}

/// How much of a prefix every store understands in a query in the same way.
fn plain(prefix: &str) -> &str {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '@' | ':');
    prefix.split_once(|c| !fine(c)).map_or(prefix, |(plain, _)| plain)
}

#[async_trait]
impl Destination for AzureDestination {
    fn url(&self) -> &str {
        &self.options.url
    }

    async fn probe(&self) -> Result<(), DestinationError> {
        let name = probe::name();
        let conditional =
            probe::creates_once(self, &name, self.put(&name, Vec::new()), self.put(&name, Vec::new())).await?;
        self.conditional.store(conditional, Ordering::Relaxed);
        if !conditional {
            tracing::warn!(
                destination = self.options.url,
                "this store does not create blobs only if none exists: a node that wrongly takes itself for the \
                     leader may replace an object by another of the same state"
            );
        }
        Ok(())
    }

    fn creates_conditionally(&self) -> bool {
        self.conditional.load(Ordering::Relaxed)
    }

    async fn create(&self, name: &str, parts: Vec<Bytes>) -> Result<Creation, DestinationError> {
        let length = parts::length(&parts);
        if length > BLOCK_BYTES {
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
        let path = self.path("read", name)?;
        let end = offset.saturating_add(length).min(i64::MAX as u64);
        let options = GetOptions { range: Some(GetRange::Bounded(offset..end)), ..GetOptions::default() };
        let asked = self.store().await?.library.get_opts(&path, options);
        let answer = match self.in_time("read", name, 0, asked).await? {
            Ok(answer) => answer,
            Err(error) => {
                let answer = Answer::from_library(&error);
                // The range begins where the object ends, or beyond.
                if answer.range_is_beyond {
                    return Ok(Bytes::new());
                }
                return Err(answer.describe(&self.options, "read", name));
            }
        };
        let mut content = answer.into_stream();
        let mut pieces = Vec::new();
        let mut received = 0_u64;
        while let Some(piece) = self.in_time("read", name, 0, content.next()).await? {
            let piece = piece.map_err(|error| self.failed("read", name, &error))?;
            received += piece.len() as u64;
            if received > length {
                return Err(self.unavailable("read", name, "it answered more bytes than were asked for"));
            }
            pieces.push(piece);
        }
        Ok(parts::join(pieces))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ListedObject>, DestinationError> {
        let whole = format!("{}{prefix}", self.options.prefix);
        let wanted = Some(plain(&whole)).filter(|plain| !plain.is_empty());
        let mut found = Vec::new();
        // The library leaves out what is named like the prefix itself.
        if wanted == Some(&whole) && !prefix.is_empty() && !prefix.ends_with('/') {
            let path = self.path("list", prefix)?;
            let asked = self.store().await?.library.head(&path);
            match self.in_time("list", prefix, 0, asked).await? {
                Ok(object) => found.push(ListedObject { name: prefix.to_owned(), size: object.size }),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.failed("list", prefix, &error)),
            }
        }
        let mut page_token = None;
        loop {
            let options = PaginatedListOptions { page_token, ..PaginatedListOptions::default() };
            let asked = self.store().await?.library.list_paginated(wanted, options);
            let page =
                self.in_time("list", prefix, 0, asked).await?.map_err(|error| self.failed("list", prefix, &error))?;
            for object in page.result.objects {
                let location = object.location.as_ref();
                if let Some(name) = location.strip_prefix(&self.options.prefix).filter(|name| name.starts_with(prefix))
                {
                    found.push(ListedObject { name: name.to_owned(), size: object.size });
                }
            }
            page_token = page.page_token;
            if page_token.is_none() {
                found.sort();
                return Ok(found);
            }
        }
    }

    async fn delete(&self, name: &str) -> Result<(), DestinationError> {
        let path = self.path("delete", name)?;
        let asked = self.store().await?.delete(&path);
        match self.in_time("delete", name, 0, asked).await? {
            Ok(()) => Ok(()),
            Err(answer) => match answer.describe(&self.options, "delete", name) {
                DestinationError::NotFound { .. } => Ok(()),
                other => Err(other),
            },
        }
    }
}
