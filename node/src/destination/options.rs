//! What may be said of a destination beside its URL.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A value that is never shown, in logs and messages neither.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for whoever must send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// What may be said of a destination beside its URL. Each kind knows some of it and refuses the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DestinationOptions {
    /// Where the store's API is, such as `http://127.0.0.1:8333`; without, the provider's own.
    pub endpoint: Option<String>,
    /// Give up a request that makes no progress for this long.
    pub timeout: Option<Duration>,
    /// Certificates (PEM) to trust beside those of the machine.
    pub ca_file: Option<PathBuf>,
    /// How the provider is to store new objects, in its words (`STANDARD_IA`, `NEARLINE` …).
    pub storage_class: Option<String>,

    /// S3: the provider's region.
    pub region: Option<String>,
    /// S3: the public half of a static key.
    pub access_key_id: Option<String>,
    /// S3: the secret half of a static key.
    pub secret_access_key: Option<Secret>,
    /// S3: whether the bucket stands in the path instead of the host name; by default if an endpoint is given.
    pub path_style: Option<bool>,
    /// S3: the store encrypts with keys of its own: `AES256`, `aws:kms` or `aws:kms:dsse`.
    pub sse: Option<String>,
    /// S3: which key of the provider's key service it encrypts with.
    pub sse_kms_key_id: Option<String>,
    /// S3: the store encrypts with this key (32 bytes, base64) and forgets it; without it nothing can be read again.
    pub sse_customer_key: Option<Secret>,

    /// Google: a file with credentials, such as the JSON key of a service account.
    pub credentials_file: Option<PathBuf>,

    /// Azure: a key of the storage account, base64.
    pub account_key: Option<Secret>,
    /// Azure: a shared access signature.
    pub sas_token: Option<Secret>,
    /// Azure: account, key and endpoint in one.
    pub connection_string: Option<Secret>,

    /// SFTP: the user's password.
    pub password: Option<Secret>,
    /// SFTP: the user's private key.
    pub key_file: Option<PathBuf>,
    /// SFTP: what the private key is encrypted with.
    pub key_passphrase: Option<Secret>,
    /// SFTP: a file with the public keys of hosts, as OpenSSH keeps it.
    pub known_hosts: Option<PathBuf>,
    /// SFTP: the host's public key (`ssh-ed25519 AAAA…`) or its fingerprint (`SHA256:…`).
    pub host_key: Option<String>,
}

impl DestinationOptions {
    /// The keys that are given, as configuration files spell them.
    pub(super) fn given(&self) -> Vec<&'static str> {
        // Without `..`, so that a new one cannot be forgotten here.
        let Self {
            endpoint,
            timeout,
            ca_file,
            storage_class,
            region,
            access_key_id,
            secret_access_key,
            path_style,
            sse,
            sse_kms_key_id,
            sse_customer_key,
            credentials_file,
            account_key,
            sas_token,
            connection_string,
            password,
            key_file,
            key_passphrase,
            known_hosts,
            host_key,
        } = self;
        let keys = [
            ("endpoint", endpoint.is_some()),
            ("timeout", timeout.is_some()),
            ("ca-file", ca_file.is_some()),
            ("storage-class", storage_class.is_some()),
            ("region", region.is_some()),
            ("access-key-id", access_key_id.is_some()),
            ("secret-access-key", secret_access_key.is_some()),
            ("path-style", path_style.is_some()),
            ("sse", sse.is_some()),
            ("sse-kms-key-id", sse_kms_key_id.is_some()),
            ("sse-customer-key", sse_customer_key.is_some()),
            ("credentials-file", credentials_file.is_some()),
            ("account-key", account_key.is_some()),
            ("sas-token", sas_token.is_some()),
            ("connection-string", connection_string.is_some()),
            ("password", password.is_some()),
            ("key-file", key_file.is_some()),
            ("key-passphrase", key_passphrase.is_some()),
            ("known-hosts", known_hosts.is_some()),
            ("host-key", host_key.is_some()),
        ];
        keys.into_iter().filter_map(|(key, given)| given.then_some(key)).collect()
    }
}

/// What destinations that are reached through the network have in common.
#[cfg(any(feature = "abs", feature = "gs", feature = "s3", feature = "sftp"))]
mod remote {
    #[cfg(any(feature = "abs", feature = "gs", feature = "s3"))]
    use std::path::Path;

    use url::Url;

    use super::*;

    /// How long a request may stand still where nothing is configured.
    const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
    const TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);

    impl DestinationOptions {
        /// Takes in what the query of `url` says where nothing is configured, and refuses what is not among `keys`.
        /// `kind` is the URL's scheme. A URL carries no secrets.
        pub(in super::super) fn complete(&self, url: &Url, kind: &str, keys: &[&str]) -> Result<Self, String> {
            let strange = |key: &str| format!("`{key}` means nothing to {kind}://: use {}", keys.join(", "));
            if let Some(key) = self.given().into_iter().find(|key| !keys.contains(key)) {
                return Err(strange(key));
            }
            let mut options = self.clone();
            for (key, value) in url.query_pairs() {
                if !keys.contains(&&*key) {
                    return Err(strange(&key));
                }
                options.fill(&key, value.into_owned())?;
            }
            Ok(options)
        }

        fn fill(&mut self, key: &str, value: String) -> Result<(), String> {
            let text = match key {
                "endpoint" => &mut self.endpoint,
                "storage-class" => &mut self.storage_class,
                "region" => &mut self.region,
                "sse" => &mut self.sse,
                "sse-kms-key-id" => &mut self.sse_kms_key_id,
                "host-key" => &mut self.host_key,
                "ca-file" | "credentials-file" | "key-file" | "known-hosts" => {
                    let path = match key {
                        "ca-file" => &mut self.ca_file,
                        "credentials-file" => &mut self.credentials_file,
                        "key-file" => &mut self.key_file,
                        _ => &mut self.known_hosts,
                    };
                    path.get_or_insert_with(|| PathBuf::from(value));
                    return Ok(());
                }
                "path-style" => {
                    let yes = value.parse().map_err(|_| format!("path-style: `{value}` is neither true nor false"))?;
                    self.path_style.get_or_insert(yes);
                    return Ok(());
                }
                "timeout" => {
                    let timeout = humantime::parse_duration(&value).map_err(|error| format!("timeout: {error}"))?;
                    self.timeout.get_or_insert(timeout);
                    return Ok(());
                }
                _ => return Err(format!("`{key}` does not belong into a URL: use a variable of the environment")),
            };
            text.get_or_insert(value);
            Ok(())
        }

        /// How long a request may stand still.
        pub(in super::super) fn patience(&self) -> Result<Duration, String> {
            let timeout = self.timeout.unwrap_or(DEFAULT_TIMEOUT);
            if TIMEOUTS.contains(&timeout) {
                return Ok(timeout);
            }
            Err(format!("timeout: {} is not within 100ms and 1h", humantime::format_duration(timeout)))
        }

        /// The endpoint that is configured or stands in one of these variables; refuses what is no `http` URL.
        #[cfg(any(feature = "abs", feature = "gs", feature = "s3"))]
        pub(in super::super) fn http_endpoint(
            &self,
            environment: &dyn Fn(&str) -> Option<String>,
            variables: &[&str],
        ) -> Result<Option<String>, String> {
            let found = self.endpoint.clone().or_else(|| variables.iter().find_map(|name| environment(name)));
            let Some(endpoint) = found else { return Ok(None) };
            let fine =
                Url::parse(&endpoint).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            if fine {
                return Ok(Some(endpoint.trim_end_matches('/').to_owned()));
            }
            Err(format!("the endpoint `{endpoint}` is no URL: write https://HOST[:PORT]"))
        }
    }

    /// The certificates (PEM) in `file`, at most 4 MiB of them.
    #[cfg(any(feature = "abs", feature = "gs", feature = "s3"))]
    pub(in super::super) async fn read_ca_file(file: &Path) -> Result<bytes::Bytes, String> {
        let read = seawall_host::disk::read_file(file, 4 << 20).await;
        read.map_err(|error| format!("ca-file: {}: {error}", file.display()))
    }

    /// Percent-encoded octets of a URL's path as what they stand for; what is no UTF-8 stays encoded.
    pub(in super::super) fn decoded(path: &str) -> String {
        let mut bytes = Vec::with_capacity(path.len());
        let mut rest = path.as_bytes();
        while let Some((&first, tail)) = rest.split_first() {
            let octet = (first == b'%').then(|| tail.get(..2)).flatten();
            let octet = octet.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
            bytes.push(octet.unwrap_or(first));
            rest = if octet.is_some() { &tail[2..] } else { tail };
        }
        String::from_utf8(bytes).unwrap_or_else(|_| path.to_owned())
    }

    /// The bucket that a URL names, which carries no keys; `advice` names what does.
    #[cfg(any(feature = "gs", feature = "s3"))]
    pub(in super::super) fn bucket(url: &Url, kind: &str, advice: &str) -> Result<String, String> {
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("keys do not belong into a URL: use {advice}"));
        }
        let bucket = url.host_str().filter(|host| !host.is_empty() && url.port().is_none());
        bucket.map(str::to_owned).ok_or_else(|| format!("write {kind}://BUCKET/PREFIX"))
    }

    /// What stands before every name in a bucket: the URL's path with one slash behind it, or nothing.
    #[cfg(any(feature = "abs", feature = "gs", feature = "s3"))]
    pub(in super::super) fn prefix(url: &Url) -> String {
        let path = url.path().trim_matches('/');
        if path.is_empty() { String::new() } else { format!("{}/", decoded(path)) }
    }
}

#[cfg(any(feature = "gs", feature = "s3"))]
pub(super) use remote::bucket;
#[cfg(feature = "sftp")]
pub(super) use remote::decoded;
#[cfg(any(feature = "abs", feature = "gs", feature = "s3"))]
pub(super) use remote::{prefix, read_ca_file};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_never_show() {
        let options = DestinationOptions { password: Some(Secret::new("hunter2")), ..DestinationOptions::default() };
        assert!(!format!("{options:?}").contains("hunter2"));
    }

    #[test]
    #[cfg(feature = "s3")]
    fn urls_stand_in_for_what_is_not_configured_and_carry_no_secrets() {
        let keys = ["endpoint", "timeout", "path-style", "ca-file", "secret-access-key"];
        let complete = |query: &str, options: &DestinationOptions| {
            options.complete(&format!("s3://b?{query}").parse().unwrap(), "s3", &keys)
        };
        let given = DestinationOptions { endpoint: Some("http://here".to_owned()), ..DestinationOptions::default() };
        let options = complete("endpoint=http://there&timeout=2s&path-style=true&ca-file=a/b", &given).unwrap();
        assert_eq!(options.endpoint.as_deref(), Some("http://here"));
        assert_eq!((options.timeout, options.path_style), (Some(Duration::from_secs(2)), Some(true)));
        assert_eq!(options.ca_file, Some(PathBuf::from("a/b")));
        assert_eq!(options.given(), ["endpoint", "timeout", "ca-file", "path-style"]);
        for (query, says) in [
            ("secret-access-key=x", "does not belong into a URL"),
            ("password=x", "`password` means nothing to s3://"),
            ("colour=red", "`colour` means nothing to s3://: use endpoint, timeout"),
            ("path-style=perhaps", "neither true nor false"),
            ("timeout=soon", "timeout"),
        ] {
            let error = complete(query, &DestinationOptions::default()).unwrap_err();
            assert!(error.contains(says), "{query}: {error}");
        }
        let foreign = DestinationOptions { host_key: Some("x".to_owned()), ..DestinationOptions::default() };
        assert!(complete("", &foreign).unwrap_err().contains("`host-key` means nothing to s3://"));
    }

    #[test]
    #[cfg(feature = "s3")]
    fn paths_are_decoded() {
        assert_eq!(decoded("a%20b%2fc%"), "a b/c%");
        assert_eq!(decoded("%ff"), "%ff");
        assert_eq!(decoded("%c3%a4"), "ä");
    }
}
