//! What an S3 destination needs to know.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest, Md5};
use url::Url;

use super::super::config::shown;
use super::super::options::{bucket, prefix};
use super::super::{DestinationOptions, InvalidDestination, Secret};

/// What may be said of this kind of destination.
const KEYS: &[&str] = &[
    "endpoint",
    "region",
    "access-key-id",
    "secret-access-key",
    "path-style",
    "storage-class",
    "sse",
    "sse-kms-key-id",
    "sse-customer-key",
    "ca-file",
    "timeout",
];

/// Classes whose objects must be thawed for hours before they can be read.
const ARCHIVES: &[&str] = &["GLACIER", "DEEP_ARCHIVE"];

/// How a store encrypts what it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// With keys of the store or of the provider's key service.
    Store {
        /// `AES256`, `aws:kms` or `aws:kms:dsse`.
        sse: String,
        /// Which key of the key service; without, its default.
        kms_key_id: Option<String>,
    },
    /// With a key that every request carries.
    Customer {
        /// 32 bytes, base64.
        key: Secret,
        /// Their MD5, base64, by which the store sees that it got them right.
        md5: String,
    },
}

/// Where the objects are and how to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Options {
    /// The destination's URL, for people.
    pub url: String,
    /// The bucket.
    pub bucket: String,
    /// Stands before every name; empty, or ends in `/`.
    pub prefix: String,
    /// The store's API; without, Amazon's.
    pub endpoint: Option<String>,
    /// The region; without, what the environment or the machine's profile says.
    pub region: Option<String>,
    /// Id and secret of a key; without, the default chain (environment, profile, role of the machine).
    pub key: Option<(String, Secret)>,
    /// Whether the bucket stands in the path instead of the host name.
    pub path_style: bool,
    /// How the store is to keep new objects, in its words.
    pub storage_class: Option<String>,
    /// How it encrypts them; without, by the bucket's default.
    pub encryption: Option<Encryption>,
    /// Certificates to trust beside those of the machine.
    pub ca_file: Option<PathBuf>,
    /// How long a request may stand still.
    pub patience: Duration,
}

impl S3Options {
    /// From a URL `s3://BUCKET[/PREFIX][?endpoint=…&region=…&path-style=…]` and what else is configured.
    ///
    /// # Errors
    /// [`InvalidDestination::Value`] says what does not fit.
    pub fn from_values(
        url: &str,
        options: &DestinationOptions,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, InvalidDestination> {
        let refuse = |cause: String| InvalidDestination::Value { url: shown(url), cause };
        let parsed = Url::parse(url).map_err(|error| refuse(error.to_string()))?;
        let bucket = bucket(&parsed, "s3", "access-key-id and secret-access-key").map_err(refuse)?;
        let options = options.complete(&parsed, "s3", KEYS).map_err(refuse)?;
        let patience = options.patience().map_err(refuse)?;
        let endpoint = options.http_endpoint(environment, &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
        let endpoint = endpoint.map_err(refuse)?;
        let storage_class = options.storage_class.map(|class| class.to_uppercase());
        if let Some(class) = storage_class.as_deref().filter(|class| ARCHIVES.contains(class)) {
            let advice = "use STANDARD_IA, ONEZONE_IA, INTELLIGENT_TIERING, GLACIER_IR …";
            return Err(refuse(format!("what is stored as {class} cannot be read when it is needed: {advice}")));
        }
        let mut customer_key = options.sse_customer_key;
        if options.sse.is_none() && options.sse_kms_key_id.is_none() {
            customer_key = customer_key.or_else(|| environment("SEAWALL_SSE_CUSTOMER_KEY").map(Secret::new));
        }
        let encryption = encryption(options.sse, options.sse_kms_key_id, customer_key).map_err(refuse)?;
        let key = key(options.access_key_id, options.secret_access_key, environment).map_err(refuse)?;
        Ok(Self {
            url: shown(url),
            bucket,
            prefix: prefix(&parsed),
            path_style: options.path_style.unwrap_or(endpoint.is_some()),
            endpoint,
            region: options.region,
            key,
            storage_class,
            encryption,
            ca_file: options.ca_file,
            patience,
        })
    }
}

/// The key that is configured, or Litestream's variables where the SDK's own would find none.
fn key(
    id: Option<String>,
    secret: Option<Secret>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<(String, Secret)>, String> {
    match (id, secret) {
        (Some(id), Some(secret)) => Ok(Some((id, secret))),
        (None, None) if environment("AWS_ACCESS_KEY_ID").is_some() => Ok(None),
        (None, None) => {
            let secret = environment("LITESTREAM_SECRET_ACCESS_KEY").map(Secret::new);
            Ok(environment("LITESTREAM_ACCESS_KEY_ID").zip(secret))
        }
        (Some(_), None) => Err("access-key-id is given, but no secret-access-key".to_owned()),
        (None, Some(_)) => Err("secret-access-key is given, but no access-key-id".to_owned()),
    }
}

/// How objects are encrypted where they are kept, if something is said about it.
fn encryption(
    sse: Option<String>,
    kms_key_id: Option<String>,
    customer_key: Option<Secret>,
) -> Result<Option<Encryption>, String> {
    let sse = sse.or_else(|| kms_key_id.is_some().then(|| "aws:kms".to_owned()));
    match (sse, customer_key) {
        (Some(_), Some(_)) => Err("sse and sse-customer-key exclude each other: remove one".to_owned()),
        (None, None) => Ok(None),
        (None, Some(key)) => {
            match BASE64_STANDARD.decode(key.reveal()) {
                Ok(bytes) if bytes.len() == 32 => {
                    let md5 = BASE64_STANDARD.encode(Md5::digest(&bytes));
                    Ok(Some(Encryption::Customer { key, md5 }))
                }
                _ => Err("sse-customer-key: 32 bytes in base64 are needed, such as `openssl rand -base64 32` makes"
                    .to_owned()),
            }
        }
        (Some(sse), None) => {
            let known = ["AES256", "aws:kms", "aws:kms:dsse"];
            if !known.contains(&sse.as_str()) {
                return Err(format!("sse: `{sse}` is unknown: use {}", known.join(", ")));
            }
            if kms_key_id.is_some() && sse == "AES256" {
                return Err("sse-kms-key-id needs sse: aws:kms".to_owned());
            }
            Ok(Some(Encryption::Store { sse, kms_key_id }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &str) -> Option<String> {
        None
    }

    fn parse(url: &str) -> Result<S3Options, InvalidDestination> {
        S3Options::from_values(url, &DestinationOptions::default(), &nothing)
    }

    #[test]
    fn takes_bucket_and_prefix_apart() {
        for (url, bucket, prefix) in [
            ("s3://bucket", "bucket", ""),
            ("s3://bucket/", "bucket", ""),
            ("s3://my.bucket/a/b/", "my.bucket", "a/b/"),
            ("s3://bucket/a%20b?region=eu", "bucket", "a b/"),
        ] {
            let options = parse(url).unwrap();
            assert_eq!((options.bucket.as_str(), options.prefix.as_str()), (bucket, prefix), "{url}");
            assert!(!options.path_style);
        }
    }

    #[test]
    fn an_endpoint_means_path_style_unless_told() {
        let options = parse("s3://b/p?endpoint=http://127.0.0.1:8333").unwrap();
        assert_eq!((options.endpoint.as_deref(), options.path_style), (Some("http://127.0.0.1:8333"), true));
        assert_eq!(options.url, "s3://b/p");
        assert!(!parse("s3://b/p?endpoint=http://127.0.0.1:8333&path-style=false").unwrap().path_style);
    }

    #[test]
    fn configured_values_go_before_the_url_and_the_environment() {
        let environment = |name: &str| name.starts_with("AWS_").then(|| format!("http://{name}"));
        let configured = DestinationOptions {
            endpoint: Some("https://here".to_owned()),
            access_key_id: Some("id".to_owned()),
            secret_access_key: Some(Secret::new("secret")),
            ..DestinationOptions::default()
        };
        let options = S3Options::from_values("s3://b?endpoint=http://there", &configured, &environment).unwrap();
        assert_eq!(options.endpoint.as_deref(), Some("https://here"));
        assert_eq!(options.key.unwrap().0, "id");
    }

    #[test]
    fn litestreams_variables_stand_in_for_missing_keys() {
        let litestream = |name: &str| name.starts_with("LITESTREAM_").then(|| name.to_lowercase());
        let options = S3Options::from_values("s3://b", &DestinationOptions::default(), &litestream).unwrap();
        let (id, secret) = options.key.unwrap();
        assert_eq!((id.as_str(), secret.reveal()), ("litestream_access_key_id", "litestream_secret_access_key"));
        // The SDK's own variables are found by its chain, and go first.
        let both = |name: &str| (!name.starts_with("SEAWALL_")).then(|| format!("http://{name}"));
        assert_eq!(S3Options::from_values("s3://b", &DestinationOptions::default(), &both).unwrap().key, None);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        for url in ["s3://", "s3:///prefix", "s3://bucket:80/x", "s3://b?colour=red", "s3://b?endpoint=here"] {
            assert!(matches!(parse(url), Err(InvalidDestination::Value { .. })), "{url}");
        }
        let error = parse("s3://id:hunter2@bucket/").unwrap_err();
        assert!(!format!("{error:?}{error}").contains("hunter2"), "{error}");
        let half = DestinationOptions { access_key_id: Some("id".to_owned()), ..DestinationOptions::default() };
        let error = S3Options::from_values("s3://b", &half, &nothing).unwrap_err();
        assert!(error.to_string().contains("no secret-access-key"), "{error}");
    }

    #[test]
    fn encryption_is_checked_before_anything_is_uploaded() {
        let with = |options: DestinationOptions| S3Options::from_values("s3://b", &options, &nothing);
        let default = DestinationOptions::default;
        let key_id = DestinationOptions { sse_kms_key_id: Some("alias/x".to_owned()), ..default() };
        let expected = Encryption::Store { sse: "aws:kms".to_owned(), kms_key_id: Some("alias/x".to_owned()) };
        assert_eq!(with(key_id.clone()).unwrap().encryption, Some(expected));
        let key = Secret::new("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        let customer = DestinationOptions { sse_customer_key: Some(key.clone()), ..default() };
        let expected = Encryption::Customer { key: key.clone(), md5: "tP/LI3N87DFaSk0aoqYgzg==".to_owned() };
        assert_eq!(with(customer.clone()).unwrap().encryption, Some(expected));
        // For a restore, which is given a URL alone.
        let variable = |name: &str| (name == "SEAWALL_SSE_CUSTOMER_KEY").then(|| key.reveal().to_owned());
        let found = S3Options::from_values("s3://b", &default(), &variable).unwrap().encryption;
        assert_eq!(found, with(customer.clone()).unwrap().encryption);
        let sse = |sse: &str| DestinationOptions { sse: Some(sse.to_owned()), ..default() };
        for (options, says) in [
            (sse("rot13"), "use AES256, aws:kms"),
            (DestinationOptions { sse: Some("AES256".to_owned()), ..key_id }, "needs sse: aws:kms"),
            (DestinationOptions { sse: Some("AES256".to_owned()), ..customer }, "exclude each other"),
            (DestinationOptions { sse_customer_key: Some(Secret::new("c2hvcnQ=")), ..default() }, "32 bytes"),
            (DestinationOptions { storage_class: Some("glacier".to_owned()), ..default() }, "cannot be read"),
            (DestinationOptions { password: Some(Secret::new("x")), ..default() }, "`password` means nothing to s3://"),
        ] {
            let error = with(options).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
