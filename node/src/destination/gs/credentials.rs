//! Who is asking, and how that is proved.

use std::path::Path;

use google_cloud_auth::credentials::{
    CacheableResource, Credentials, external_account, impersonated, mds, service_account, user_account,
};
use http::{Extensions, HeaderMap};
use seawall_host::disk;
use serde_json::Value;

use super::error::Failure;
use super::options::GoogleCredentials;

/// What tokens are good for: objects, not buckets.
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";
/// The largest file of credentials, in bytes.
const MAX_FILE_BYTES: usize = 1 << 20;

/// What makes the headers that prove who is asking.
#[derive(Debug)]
pub(super) struct Proof(Option<Credentials>);

impl Proof {
    /// From what is configured. Nothing is connected to yet.
    ///
    /// # Errors
    /// [`Failure::NoCredentials`] says what does not fit.
    pub(super) async fn load(credentials: &GoogleCredentials) -> Result<Self, Failure> {
        match credentials {
            GoogleCredentials::Nobody => Ok(Self(None)),
            GoogleCredentials::File(file) => Ok(Self(Some(from_file(file).await?))),
            GoogleCredentials::Ambient { file, metadata_host } => {
                if let Some(file) = file
                    && disk::exists(file).await.unwrap_or(false)
                {
                    return Ok(Self(Some(from_file(file).await?)));
                }
                let mut machine = mds::Builder::default().with_scopes([SCOPE]);
                if let Some(host) = metadata_host {
                    machine = machine.with_endpoint(format!("http://{host}"));
                }
                let machine = machine.build().map_err(|error| Failure::NoCredentials(error.to_string()))?;
                Ok(Self(Some(machine)))
            }
        }
    }

    /// The headers for one request. Tokens are kept and renewed in time.
    ///
    /// # Errors
    /// There is no token.
    pub(super) async fn headers(&self) -> Result<HeaderMap, Failure> {
        let Some(credentials) = &self.0 else { return Ok(HeaderMap::new()) };
        match credentials.headers(Extensions::new()).await {
            Ok(CacheableResource::New { data, .. }) => Ok(data),
            // Only told to those who name what they have.
            Ok(CacheableResource::NotModified) => Ok(HeaderMap::new()),
            Err(error) if error.is_transient() => Err(Failure::CredentialsLater(with_sources(&error))),
            Err(error) => Err(Failure::NoCredentials(with_sources(&error))),
        }
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

async fn from_file(file: &Path) -> Result<Credentials, Failure> {
    let refused = |cause: String| Failure::NoCredentials(format!("{}: {cause}", file.display()));
    let bytes = disk::read_file(file, MAX_FILE_BYTES).await.map_err(|error| refused(error.to_string()))?;
    // What a parser says of a secret's text is not shown.
    let json: Value = serde_json::from_slice(&bytes).map_err(|_| refused("it is no JSON".to_owned()))?;
    let built = match json["type"].as_str().unwrap_or_default() {
        "service_account" => {
            let scopes = service_account::AccessSpecifier::from_scopes([SCOPE]);
            service_account::Builder::new(json).with_access_specifier(scopes).build()
        }
        "authorized_user" => user_account::Builder::new(json).with_scopes([SCOPE]).build(),
        "external_account" => external_account::Builder::new(json).with_scopes([SCOPE]).build(),
        "impersonated_service_account" => impersonated::Builder::new(json).with_scopes([SCOPE]).build(),
        other => return Err(refused(format!("credentials of the type `{other}` are unknown"))),
    };
    built.map_err(|error| refused(with_sources(&error)))
}
