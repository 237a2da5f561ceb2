//! What a Google Cloud Storage destination needs to know.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::super::config::shown;
use super::super::options::{bucket, prefix};
use super::super::{DestinationOptions, InvalidDestination};

/// What may be said of this kind of destination.
const KEYS: &[&str] = &["endpoint", "credentials-file", "storage-class", "ca-file", "timeout"];

/// The provider's own API.
const ENDPOINT: &str = "https://storage.googleapis.com";

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GoogleCredentials {
    /// Whoever the file says: a service account, a federated identity, a person.
    File(PathBuf),
    /// The person who logged in with `gcloud` if that file exists, or else the machine itself, as its metadata server
    /// says.
    Ambient {
        /// Where `gcloud` keeps what it knows of the person.
        file: Option<PathBuf>,
        /// `HOST[:PORT]` of the metadata server, if it is not the usual one.
        metadata_host: Option<String>,
    },
    /// Nobody: an emulator does not ask.
    Nobody,
}

/// Where the objects are and how to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoogleOptions {
    /// The destination's URL, for people.
    pub url: String,
    /// The bucket.
    pub bucket: String,
    /// Stands before every name; empty, or ends in `/`.
    pub prefix: String,
    /// The store's API.
    pub endpoint: String,
    /// Who is asking.
    pub credentials: GoogleCredentials,
    /// How the store is to keep new objects, in its words.
    pub storage_class: Option<String>,
    /// Certificates to trust beside those of the machine.
    pub ca_file: Option<PathBuf>,
    /// How long a request may stand still.
    pub patience: Duration,
}

impl GoogleOptions {
    /// From a URL `gs://BUCKET[/PREFIX][?credentials-file=…]` and what else is configured.
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
        let bucket = bucket(&parsed, "gs", "credentials-file").map_err(refuse)?;
        let options = options.complete(&parsed, "gs", KEYS).map_err(refuse)?;
        let patience = options.patience().map_err(refuse)?;
        // The variable may lack the scheme.
        let emulator = environment("STORAGE_EMULATOR_HOST").filter(|_| options.endpoint.is_none());
        let emulator = emulator.map(|host| if host.contains("://") { host } else { format!("http://{host}") });
        let emulated = emulator.is_some();
        let with_emulator = |name: &str| emulator.clone().filter(|_| name == "STORAGE_EMULATOR_HOST");
        let endpoint = options.http_endpoint(&with_emulator, &["STORAGE_EMULATOR_HOST"]).map_err(refuse)?;
        let file = options.credentials_file.clone();
        let credentials = match file.or_else(|| environment("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from)) {
            _ if emulated && options.credentials_file.is_none() => GoogleCredentials::Nobody,
            Some(file) => GoogleCredentials::File(file),
            None => GoogleCredentials::Ambient {
                file: environment("HOME")
                    .map(|home| PathBuf::from(home).join(".config/gcloud/application_default_credentials.json")),
                metadata_host: environment("GCE_METADATA_HOST"),
            },
        };
        Ok(Self {
            url: shown(url),
            bucket,
            prefix: prefix(&parsed),
            endpoint: endpoint.unwrap_or_else(|| ENDPOINT.to_owned()),
            credentials,
            storage_class: options.storage_class.map(|class| class.to_uppercase()),
            ca_file: options.ca_file,
            patience,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(
        url: &str,
        options: &DestinationOptions,
        variables: &[(&str, &str)],
    ) -> Result<GoogleOptions, InvalidDestination> {
        let environment =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        GoogleOptions::from_values(url, options, &environment)
    }

    #[test]
    fn takes_bucket_prefix_and_credentials() {
        let none = DestinationOptions::default();
        let options = parse("gs://my.bucket/a/b/?storage-class=nearline", &none, &[("HOME", "/home/me")]).unwrap();
        assert_eq!((&*options.bucket, &*options.prefix), ("my.bucket", "a/b/"));
        assert_eq!((&*options.endpoint, options.storage_class.as_deref()), (ENDPOINT, Some("NEARLINE")));
        let file = Some(PathBuf::from("/home/me/.config/gcloud/application_default_credentials.json"));
        assert_eq!(options.credentials, GoogleCredentials::Ambient { file, metadata_host: None });
        let variables = [("GOOGLE_APPLICATION_CREDENTIALS", "/key.json")];
        let options = parse("gs://b", &none, &variables).unwrap();
        assert_eq!(options.credentials, GoogleCredentials::File("/key.json".into()));
    }

    #[test]
    fn an_emulator_is_asked_by_nobody_unless_told() {
        let variables = [("STORAGE_EMULATOR_HOST", "127.0.0.1:9023"), ("GOOGLE_APPLICATION_CREDENTIALS", "/key.json")];
        let options = parse("gs://b", &DestinationOptions::default(), &variables).unwrap();
        assert_eq!((&*options.endpoint, options.credentials), ("http://127.0.0.1:9023", GoogleCredentials::Nobody));
        let configured = DestinationOptions {
            endpoint: Some("https://private".to_owned()),
            credentials_file: Some("/mine.json".into()),
            ..DestinationOptions::default()
        };
        let options = parse("gs://b", &configured, &variables).unwrap();
        let file = GoogleCredentials::File("/mine.json".into());
        assert_eq!((&*options.endpoint, options.credentials), ("https://private", file));
    }

    #[test]
    fn refuses_what_does_not_fit() {
        for (url, says) in [
            ("gs://", "gs://BUCKET/PREFIX"),
            ("gs://bucket:80/x", "gs://BUCKET/PREFIX"),
            ("gs://me:hunter2@bucket", "do not belong into a URL"),
            ("gs://bucket?region=eu", "`region` means nothing to gs://"),
            ("gs://bucket?endpoint=here", "is no URL"),
        ] {
            let error = parse(url, &DestinationOptions::default(), &[]).unwrap_err();
            assert!(error.to_string().contains(says), "{url}: {error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
