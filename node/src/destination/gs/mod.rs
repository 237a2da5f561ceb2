//! Google Cloud Storage, through its JSON API.

mod client;
mod credentials;
mod error;
mod options;
mod upload;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::header::RANGE;
use reqwest::Method;
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::{ByteStream, Creation, Destination, DestinationError, ListedObject, parts, probe};
use client::StoreClient;
use error::Failure;
pub use options::{GoogleCredentials, GoogleOptions};

/// Larger objects are uploaded in chunks of this size (a multiple of 256 KiB, as the API wants it); memory holds two.
const CHUNK_BYTES: u64 = 8 << 20;
/// The longest page of a listing, in bytes.
const MAX_PAGE_BYTES: u64 = 64 << 20;

/// Objects in a bucket, below a prefix.
///
/// Nothing is connected to before the first call. Objects are created with `ifGenerationMatch=0`, large ones by
/// resumable uploads, which go on after a broken connection.
pub struct GoogleDestination {
    options: GoogleOptions,
    client: OnceCell<Arc<StoreClient>>,
    conditional: AtomicBool,
}

impl std::fmt::Debug for GoogleDestination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GoogleDestination").field("options", &self.options).finish_non_exhaustive()
    }
}

/// A page of a listing.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    items: Vec<Item>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    name: String,
    /// A number, written as text or not.
    #[serde(default)]
    size: serde_json::Value,
}

impl GoogleDestination {
    /// The destination that `options` describes.
    pub fn new(options: GoogleOptions) -> Self {
        Self { options, client: OnceCell::new(), conditional: AtomicBool::new(true) }
    }

    async fn client(&self, action: &str, name: &str) -> Result<&Arc<StoreClient>, DestinationError> {
        let made = self.client.get_or_try_init(|| async { StoreClient::new(&self.options).await.map(Arc::new) });
        made.await.map_err(|failure| self.failed(action, name, &failure))
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.options.prefix)
    }

    fn failed(&self, action: &str, name: &str, failure: &Failure) -> DestinationError {
        failure.describe(&self.options, action, name)
    }

    async fn exists(&self, name: &str) -> Result<bool, DestinationError> {
        let client = self.client("look for", name).await?;
        let mut url = client.objects(Some(&self.key(name)));
        url.query_pairs_mut().append_pair("fields", "name");
        match client.ask(Method::GET, url, 0, |request| request).await {
            Ok(_) => Ok(true),
            Err(failure) => match self.failed("look for", name, &failure) {
                DestinationError::NotFound { .. } => Ok(false),
                other => Err(other),
            },
        }
    }
}

#[async_trait]
impl Destination for GoogleDestination {
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
        if parts::length(&parts) > CHUNK_BYTES {
            return self.upload(name, stream::iter(parts.into_iter().map(Ok)).boxed()).await;
        }
        if !self.creates_conditionally() && self.exists(name).await? {
            return Ok(Creation::AlreadyExists);
        }
        self.put(name, parts).await
    }

    async fn create_streaming(
        &self,
        name: &str,
        _size_hint: Option<u64>,
        content: ByteStream,
    ) -> Result<Creation, DestinationError> {
        self.upload(name, content).await
    }

    async fn read(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, DestinationError> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let client = self.client("read", name).await?;
        let last = offset.saturating_add(length - 1).min(i64::MAX as u64);
        let mut url = client.objects(Some(&self.key(name)));
        url.query_pairs_mut().append_pair("alt", "media");
        let asked = client.ask(Method::GET, url, 0, |request| request.header(RANGE, format!("bytes={offset}-{last}")));
        let response = match asked.await {
            Ok(response) => response,
            // The range begins where the object ends, or beyond.
            Err(failure) if failure.status() == Some(416) => return Ok(Bytes::new()),
            Err(failure) => return Err(self.failed("read", name, &failure)),
        };
        if offset > 0 && response.status().as_u16() != 206 {
            let failure = Failure::Nonsense("the whole object where a range was asked for".to_owned());
            return Err(self.failed("read", name, &failure));
        }
        let body = client.body(response, length).await;
        body.map(parts::join).map_err(|failure| self.failed("read", name, &failure))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ListedObject>, DestinationError> {
        let client = self.client("list", prefix).await?;
        let mut found = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut url = client.objects(None);
            url.query_pairs_mut()
                .append_pair("prefix", &self.key(prefix))
                .append_pair("maxResults", "1000")
                .append_pair("fields", "items(name,size),nextPageToken")
                .extend_pairs(token.as_ref().map(|token| ("pageToken", token)));
            let page = async {
                let response = client.ask(Method::GET, url, 0, |request| request).await?;
                let body = parts::join(client.body(response, MAX_PAGE_BYTES).await?);
                serde_json::from_slice::<Page>(&body)
                    .map_err(|error| Failure::Nonsense(format!("no listing ({error})")))
            };
            let page = page.await.map_err(|failure| self.failed("list", prefix, &failure))?;
            for item in page.items {
                if let Some(name) = item.name.strip_prefix(&self.options.prefix) {
                    let size = item.size.as_u64().or_else(|| item.size.as_str()?.parse().ok()).unwrap_or(0);
                    found.push(ListedObject { name: name.to_owned(), size });
                }
            }
            token = page.next_page_token.filter(|token| !token.is_empty());
            if token.is_none() {
                found.sort();
                return Ok(found);
            }
        }
    }

    async fn delete(&self, name: &str) -> Result<(), DestinationError> {
        let client = self.client("delete", name).await?;
        let url = client.objects(Some(&self.key(name)));
        match client.ask(Method::DELETE, url, 0, |request| request).await {
            Ok(_) => Ok(()),
            Err(failure) => match self.failed("delete", name, &failure) {
                DestinationError::NotFound { .. } => Ok(()),
                other => Err(other),
            },
        }
    }
}
