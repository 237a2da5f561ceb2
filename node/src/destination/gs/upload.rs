//! Creating objects: by one request, or by an upload that can be resumed.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use reqwest::{Body, Method, Response};
use seawall_host::{random, task};
use serde_json::{Value, json};
use url::Url;

use super::super::parts::{self, Parts};
use super::super::{ByteStream, Creation, Destination, DestinationError};
use super::client::StoreClient;
use super::error::Failure;
use super::{CHUNK_BYTES, GoogleDestination};

/// How often the same bytes of an upload are tried.
const ATTEMPTS: u32 = 3;
/// The longest answer to an upload, in bytes.
const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// An upload under way. One that is given up is cancelled, also when it is dropped.
struct Upload {
    client: Arc<StoreClient>,
    session: Option<Url>,
    /// How many bytes the store has.
    stored: u64,
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let client = Arc::clone(&self.client);
            task::spawn(async move {
                // It answers 499 to that; and a week later the upload is gone in any case.
                let _ = client.ask_once(Method::DELETE, session, 0, false, |request| request).await;
            });
        }
    }
}

impl GoogleDestination {
    /// Creates a short object by one request.
    pub(super) async fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<Creation, DestinationError> {
        let mut metadata = self.metadata(name);
        // The store compares it with what arrives.
        metadata["crc32c"] = parts::base64_of(parts::crc32c(&parts)).into();
        let boundary = format!("seawall-{:016x}", random::u64());
        let head = format!(
            "--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{metadata}\r\n--{boundary}\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        let body: Arc<[Bytes]> = [head.into()].into_iter().chain(parts).chain([tail.into()]).collect();
        let bytes = parts::length(&body);
        let client = self.client("create", name).await?;
        let mut url = client.uploads();
        url.query_pairs_mut().append_pair("uploadType", "multipart").append_pair("ifGenerationMatch", "0");
        let asked = client.ask(Method::POST, url, bytes, |request| {
            let body = Body::wrap(Parts::new(Arc::clone(&body)));
            request.header(CONTENT_TYPE, format!("multipart/related; boundary={boundary}")).body(body)
        });
        match asked.await {
            Ok(_) => Ok(Creation::Created),
            Err(failure) if failure.status() == Some(412) => Ok(Creation::AlreadyExists),
            Err(failure) => Err(self.failed("create", name, &failure)),
        }
    }

    /// Creates an object from a stream.
    pub(super) async fn upload(&self, name: &str, mut content: ByteStream) -> Result<Creation, DestinationError> {
        let unreadable = |error: std::io::Error| DestinationError::Source {
            destination: self.options.url.clone(),
            name: name.to_owned(),
            cause: error.to_string(),
        };
        let mut carry = Bytes::new();
        let (mut chunk, mut ended) = parts::collect(&mut content, &mut carry, CHUNK_BYTES).await.map_err(unreadable)?;
        if ended {
            return self.create(name, chunk).await;
        }
        // An upload that finds the object there has uploaded everything in vain: look first.
        if self.exists(name).await? {
            return Ok(Creation::AlreadyExists);
        }
        let mut upload = self.begin(name).await?;
        let mut crc = 0;
        loop {
            // The last chunk must be known to be the last when it is sent.
            let next = if ended {
                Vec::new()
            } else {
                let (next, at_end) = parts::collect(&mut content, &mut carry, CHUNK_BYTES).await.map_err(unreadable)?;
                ended = at_end;
                next
            };
            crc = chunk.iter().fold(crc, |crc, part| crc32c::crc32c_append(crc, part));
            let sent = upload.send(parts::join(chunk), ended && next.is_empty()).await;
            match sent {
                Ok(None) => chunk = next,
                Ok(Some(object)) => return self.verify(name, &object, crc).await,
                Err(failure) if failure.status() == Some(412) => {
                    upload.session = None;
                    return Ok(Creation::AlreadyExists);
                }
                Err(failure) => return Err(self.failed("upload a part of", name, &failure)),
            }
        }
    }

    async fn begin(&self, name: &str) -> Result<Upload, DestinationError> {
        let client = self.client("create", name).await?;
        let mut url = client.uploads();
        url.query_pairs_mut()
            .append_pair("uploadType", "resumable")
            .append_pair("ifGenerationMatch", "0")
            .append_pair("name", &self.key(name));
        let metadata = self.metadata(name);
        let asked = client.ask(Method::POST, url, 0, |request| {
            request.header("X-Upload-Content-Type", "application/octet-stream").json(&metadata)
        });
        let response = asked.await.map_err(|failure| self.failed("create", name, &failure))?;
        let session = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()?.parse().ok());
        if session.is_none() {
            let failure = Failure::Nonsense("without saying where to upload to".to_owned());
            return Err(self.failed("create", name, &failure));
        }
        Ok(Upload { client: Arc::clone(client), session, stored: 0 })
    }

    /// Compares what the store has with what was sent; takes it back if it differs.
    async fn verify(&self, name: &str, object: &Value, crc: u32) -> Result<Creation, DestinationError> {
        match object["crc32c"].as_str() {
            Some(stored) if stored != parts::base64_of(crc) => {
                self.delete(name).await?;
                let failure = Failure::Nonsense("that it holds other bytes than were sent".to_owned());
                Err(self.failed("create", name, &failure))
            }
            _ => Ok(Creation::Created),
        }
    }

    fn metadata(&self, name: &str) -> Value {
        let mut metadata = json!({ "name": self.key(name), "contentType": "application/octet-stream" });
        if let Some(class) = &self.options.storage_class {
            metadata["storageClass"] = class.as_str().into();
        }
        metadata
    }
}

/// How much of an upload the store says it has.
enum Progress {
    /// So many bytes.
    Stored(u64),
    /// All of it: the object is there.
    Done(Value),
}

impl Upload {
    /// Sends the next bytes, again if they did not arrive; the object when `last` of them did.
    async fn send(&mut self, chunk: Bytes, last: bool) -> Result<Option<Value>, Failure> {
        let begin = self.stored;
        let end = begin + chunk.len() as u64;
        let total = if last { end.to_string() } else { "*".to_owned() };
        let mut attempt = 1;
        loop {
            let rest = chunk.slice(usize::try_from(self.stored - begin).unwrap_or(usize::MAX)..);
            let range = if rest.is_empty() {
                format!("bytes */{total}")
            } else {
                format!("bytes {}-{}/{total}", self.stored, end - 1)
            };
            let progress = match self.put(range, rest).await {
                Err(failure) if (failure.is_passing() || failure == Failure::Late) && attempt < ATTEMPTS => {
                    attempt += 1;
                    self.put(format!("bytes */{total}"), Bytes::new()).await?
                }
                other => other?,
            };
            match progress {
                Progress::Done(object) => {
                    self.session = None;
                    return Ok(Some(object));
                }
                Progress::Stored(stored) if stored < begin || stored > end => {
                    return Err(Failure::Nonsense(format!("that it has {stored} bytes of {begin} to {end}")));
                }
                Progress::Stored(stored) => {
                    if stored == self.stored && stored < end {
                        attempt += 1;
                    }
                    self.stored = stored;
                    if stored == end && !last {
                        return Ok(None);
                    }
                    if attempt > ATTEMPTS {
                        return Err(Failure::Nonsense(format!("that it has {stored} bytes, again and again")));
                    }
                    if stored == end {
                        attempt += 1;
                    }
                }
            }
        }
    }

    async fn put(&self, range: String, content: Bytes) -> Result<Progress, Failure> {
        let Some(session) = self.session.clone() else {
            return Err(Failure::Nonsense("an upload that has ended".to_owned()));
        };
        let bytes = content.len() as u64;
        let fill =
            |request: reqwest::RequestBuilder| request.header(CONTENT_RANGE, range.as_str()).body(content.clone());
        let response = self.client.ask_once(Method::PUT, session, bytes, false, fill).await?;
        if response.status().as_u16() == 308 {
            return Ok(Progress::Stored(stored(&response)));
        }
        let body = self.client.body(response, MAX_ANSWER_BYTES).await?;
        Ok(Progress::Done(serde_json::from_slice(&parts::join(body)).unwrap_or_default()))
    }
}

/// How many bytes the store has, by its answer.
fn stored(response: &Response) -> u64 {
    let range = response.headers().get(RANGE).and_then(|value| value.to_str().ok());
    let last = range.and_then(|range| range.rsplit_once('-')?.1.parse::<u64>().ok());
    last.map_or(0, |last| last + 1)
}
