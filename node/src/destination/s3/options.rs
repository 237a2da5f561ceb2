//! What an S3 destination needs to know.

use url::Url;

use super::super::config::shown;
use super::super::{DestinationOptions, InvalidDestination, Secret};

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
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(refuse("keys do not belong into a URL: use access-key-id and secret-access-key".to_owned()));
        }
        let bucket = parsed.host_str().filter(|host| !host.is_empty() && parsed.port().is_none());
        let bucket = bucket.ok_or_else(|| refuse("write s3://BUCKET/PREFIX".to_owned()))?.to_owned();
        let mut options = options.clone();
        for (name, value) in parsed.query_pairs() {
            let value = Some(value.into_owned());
            match &*name {
                "endpoint" => options.endpoint = options.endpoint.or(value),
                "region" => options.region = options.region.or(value),
                "path-style" => {
                    let yes = value.as_deref() == Some("true");
                    options.path_style = options.path_style.or(Some(yes));
                }
                _ => return Err(refuse(format!("`{name}` is unknown: use endpoint, region, path-style"))),
            }
        }
        let path = parsed.path().trim_matches('/');
        let prefix = if path.is_empty() { String::new() } else { format!("{}/", decoded(path)) };
        let endpoint =
            options.endpoint.or_else(|| environment("AWS_ENDPOINT_URL_S3")).or_else(|| environment("AWS_ENDPOINT_URL"));
        if let Some(endpoint) = &endpoint {
            let fine = Url::parse(endpoint).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            if !fine {
                return Err(refuse(format!("the endpoint `{endpoint}` is no URL: write https://HOST[:PORT]")));
            }
        }
        let key = key(options.access_key_id, options.secret_access_key, environment).map_err(refuse)?;
        Ok(Self {
            url: shown(url),
            bucket,
            prefix,
            path_style: options.path_style.unwrap_or(endpoint.is_some()),
            endpoint,
            region: options.region,
            key,
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

/// Percent-encoded octets of a URL's path as what they stand for; what is no UTF-8 stays encoded.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octet = (first == b'%').then(|| tail.get(..2)).flatten();
        let octet = octet.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        (bytes, rest) = match octet {
            Some(octet) => ([bytes, vec![octet]].concat(), &tail[2..]),
            None => ([bytes, vec![first]].concat(), tail),
        };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| path.to_owned())
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
        let environment = |name: &str| Some(format!("http://{name}"));
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
        let both = |name: &str| Some(format!("http://{name}"));
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
}
