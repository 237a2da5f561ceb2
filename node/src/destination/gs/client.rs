//! Requests to the JSON API.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, Method, RequestBuilder, Response, redirect};
use seawall_host::{random, time};
use url::Url;

use super::super::options::read_ca_file;
use super::credentials::Proof;
use super::error::Failure;
use super::options::GoogleOptions;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How slow a transfer may become, in bytes a second, before it is given up.
const SLOWEST: u64 = 32 << 10;
/// How often a request is tried; whoever calls retries, with a wider view.
const ATTEMPTS: u32 = 2;
/// How long to wait before the second attempt, at most.
const PAUSE: Duration = Duration::from_millis(400);

/// A client that is ready to ask.
#[derive(Debug)]
pub(super) struct StoreClient {
    http: Client,
    proof: Proof,
    base: Url,
    bucket: String,
    patience: Duration,
}

impl StoreClient {
    /// A client for `options`. Nothing is connected to yet.
    ///
    /// # Errors
    /// What an operator has to change.
    pub(super) async fn new(options: &GoogleOptions) -> Result<Self, Failure> {
        let refused = |cause: String| Failure::NoCredentials(cause);
        let mut http = Client::builder()
            .connect_timeout(options.patience.min(CONNECT_TIMEOUT))
            // 308 is how an upload is told to go on.
            .redirect(redirect::Policy::none());
        if let Some(file) = &options.ca_file {
            let at = |error: &dyn std::fmt::Display| refused(format!("ca-file: {}: {error}", file.display()));
            let pem = read_ca_file(file).await.map_err(refused)?;
            for certificate in reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| at(&error))? {
                http = http.add_root_certificate(certificate);
            }
        }
        Ok(Self {
            http: http.build().map_err(|error| refused(error.to_string()))?,
            proof: Proof::load(&options.credentials).await?,
            base: Url::parse(&options.endpoint).map_err(|error| refused(error.to_string()))?,
            bucket: options.bucket.clone(),
            patience: options.patience,
        })
    }

    /// `…/storage/v1/b/BUCKET/o[/OBJECT]`.
    pub(super) fn objects(&self, object: Option<&str>) -> Url {
        self.below(&["storage", "v1", "b", &self.bucket, "o"], object)
    }

    /// `…/upload/storage/v1/b/BUCKET/o`.
    pub(super) fn uploads(&self) -> Url {
        self.below(&["upload", "storage", "v1", "b", &self.bucket, "o"], None)
    }

    fn below(&self, parts: &[&str], object: Option<&str>) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // A slash in an object's name is encoded, as the API wants it.
            segments.pop_if_empty().extend(parts).extend(object);
        }
        url
    }

    /// Asks, and once more if that may help. `bytes` is about what travels, either way.
    pub(super) async fn ask(
        &self,
        method: Method,
        url: Url,
        bytes: u64,
        fill: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Failure> {
        let mut attempt = 1;
        loop {
            let asked = self.ask_once(method.clone(), url.clone(), bytes, true, &fill).await;
            match asked {
                Err(failure) if failure.is_passing() && attempt < ATTEMPTS => {
                    time::sleep(random::jitter(PAUSE)).await;
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    /// Asks once. `prove` says whether to show who is asking: the URL of an upload under way is proof enough.
    pub(super) async fn ask_once(
        &self,
        method: Method,
        url: Url,
        bytes: u64,
        prove: bool,
        fill: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Failure> {
        let patience = self.patience + Duration::from_secs(bytes / SLOWEST);
        let asking = async {
            let mut request = fill(self.http.request(method, url));
            if prove {
                request = request.headers(self.proof.headers().await?);
            }
            request.send().await.map_err(transport)
        };
        let response = time::timeout(patience, asking).await.map_err(|_| Failure::Late)??;
        let status = response.status();
        // An upload that is to go on is no failure.
        if status.is_success() || status.as_u16() == 308 {
            return Ok(response);
        }
        let body = time::timeout(self.patience, response.text()).await.unwrap_or_else(|_| Ok(String::new()));
        Err(Failure::of(status.as_u16(), &body.unwrap_or_default()))
    }

    /// The whole of an answer's body, which is at most `most` bytes.
    pub(super) async fn body(&self, mut response: Response, most: u64) -> Result<Vec<Bytes>, Failure> {
        let mut pieces = Vec::new();
        let mut received = 0_u64;
        loop {
            let piece = time::timeout(self.patience, response.chunk()).await.map_err(|_| Failure::Late)?;
            let Some(piece) = piece.map_err(transport)? else { return Ok(pieces) };
            received += piece.len() as u64;
            if received > most {
                return Err(Failure::Nonsense("more bytes than were asked for".to_owned()));
            }
            pieces.push(piece);
        }
    }
}

fn transport(error: reqwest::Error) -> Failure {
    // The URL of an upload is a secret.
    let error = error.without_url();
    if error.is_timeout() {
        return Failure::Late;
    }
    let mut innermost: &dyn std::error::Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    Failure::Transport(innermost.to_string())
}
