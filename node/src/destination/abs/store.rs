//! The clients that speak to the store: the library's, and one for what the library does not do.

use std::time::Duration;

use object_store::azure::{AzureAuthorizer, AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::client::{Certificate, HttpRequest, HttpRequestBody};
use object_store::multipart::PartId;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use super::super::options::read_ca_file;
use super::error::Answer;
use super::options::{AzureCredentials, AzureOptions};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request may take in all; what stands still is noticed sooner.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(512);

/// A connected store.
pub(super) struct Store {
    /// The library's client.
    pub(super) library: MicrosoftAzure,
    http: reqwest::Client,
    /// The container's URL.
    container: url::Url,
    account: String,
}

impl Store {
    /// Clients for `options`. Nothing is connected to yet.
    ///
    /// # Errors
    /// What an operator has to change.
    pub(super) async fn connect(options: &AzureOptions) -> Result<Self, String> {
        let connect_timeout = options.patience.min(CONNECT_TIMEOUT);
        let mut client = ClientOptions::new()
            .with_allow_http(options.endpoint.starts_with("http://"))
            .with_connect_timeout(connect_timeout)
            .with_timeout(REQUEST_TIMEOUT);
        let mut http = reqwest::Client::builder().connect_timeout(connect_timeout).timeout(REQUEST_TIMEOUT);
        if let Some(file) = &options.ca_file {
            let refused = |error: &dyn std::fmt::Display| format!("ca-file: {}: {error}", file.display());
            let pem = read_ca_file(file).await?;
            for certificate in Certificate::from_pem_bundle(&pem).map_err(|error| refused(&error))? {
                client = client.with_root_certificate(certificate);
            }
            for certificate in reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| refused(&error))? {
                http = http.add_root_certificate(certificate);
            }
        }
        // Whoever calls retries, with a wider view.
        let retry = RetryConfig {
            backoff: BackoffConfig { max_backoff: Duration::from_secs(1), ..BackoffConfig::default() },
            max_retries: 1,
            retry_timeout: options.patience,
        };
        let builder = MicrosoftAzureBuilder::new()
            .with_account(&options.account)
            .with_container_name(&options.container)
            .with_endpoint(options.endpoint.clone())
            .with_allow_http(options.endpoint.starts_with("http://"))
            .with_client_options(client)
            .with_retry(retry);
        let library = authenticated(builder, &options.credentials).build().map_err(|error| error.to_string())?;
        let mut container = url::Url::parse(&options.endpoint).map_err(|error| error.to_string())?;
        if let Ok(mut segments) = container.path_segments_mut() {
            segments.pop_if_empty().push(&options.container);
        }
        let http = http.build().map_err(|error| error.to_string())?;
        Ok(Self { library, http, container, account: options.account.clone() })
    }

    /// Puts a blob together from uploaded blocks, if there is none of that name: the library's own call would replace
    /// it.
    ///
    /// # Errors
    /// What the store answered.
    pub(super) async fn commit(&self, path: &Path, blocks: &[PartId]) -> Result<(), Answer> {
        use base64::Engine;
        use base64::prelude::BASE64_STANDARD;

        let mut list = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
        for block in blocks {
            list.extend(["<Uncommitted>", &BASE64_STANDARD.encode(&block.content_id), "</Uncommitted>"]);
        }
        list.push_str("</BlockList>");
        let request = http::Request::put(self.url(path, Some(("comp", "blocklist"))).as_str())
            .header("if-none-match", "*")
            .header("x-ms-blob-content-type", "application/octet-stream")
            .header("content-length", list.len());
        self.send(request, list).await
    }

    /// Removes a blob: the library's own call goes by way of a batch, which not every signature is good for.
    ///
    /// # Errors
    /// What the store answered.
    pub(super) async fn delete(&self, path: &Path) -> Result<(), Answer> {
        self.send(http::Request::delete(self.url(path, None).as_str()), String::new()).await
    }

    fn url(&self, path: &Path, query: Option<(&str, &str)>) -> url::Url {
        let mut url = self.container.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path.parts().map(|part| part.as_ref().to_owned()));
        }
        if let Some((name, value)) = query {
            url.query_pairs_mut().append_pair(name, value);
        }
        url
    }

    async fn send(&self, request: http::request::Builder, body: String) -> Result<(), Answer> {
        let request = request.body(HttpRequestBody::empty());
        let mut request: HttpRequest = request.map_err(|error| Answer::none(&error))?;
        let credential = self.library.credentials().get_credential().await;
        let credential = credential.map_err(|error| Answer::from_library(&error))?;
        let signed = AzureAuthorizer::new(&credential, &self.account).try_authorize(&mut request);
        signed.map_err(|error| Answer::from_library(&error))?;
        let (head, _) = request.into_parts();
        let request = self.http.request(head.method, head.uri.to_string()).headers(head.headers).body(body);
        let answer = request.send().await.map_err(|error| Answer::none(&error.without_url()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        Err(Answer::of(status.as_u16(), &answer.text().await.unwrap_or_default()))
    }
}

fn authenticated(builder: MicrosoftAzureBuilder, credentials: &AzureCredentials) -> MicrosoftAzureBuilder {
    match credentials {
        AzureCredentials::Key(key) => builder.with_access_key(key.reveal()),
        AzureCredentials::Sas(sas) => builder.with_config(AzureConfigKey::SasKey, sas.reveal()),
        AzureCredentials::ServicePrincipal { tenant, client, secret } => {
            builder.with_client_secret_authorization(client, secret.reveal(), tenant)
        }
        AzureCredentials::FederatedToken { tenant, client, file } => {
            builder.with_client_id(client).with_tenant_id(tenant).with_federated_token_file(file)
        }
        AzureCredentials::Machine(None) => builder,
        AzureCredentials::Machine(Some(client)) => builder.with_client_id(client),
    }
}
