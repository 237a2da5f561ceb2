//! From plain configuration values to destinations.

use std::path::Path;
use std::sync::Arc;

use super::{
    Destination, DestinationOptions, FileDestination, NamedDestination, Retention, VerificationOptions, Windows,
};

/// The schemes that [`open_url`] knows, and how their URLs look.
const SUPPORTED: &[&str] = &[
    "file:///DIRECTORY",
    #[cfg(feature = "s3")]
    "s3://BUCKET[/PREFIX]",
    #[cfg(feature = "gs")]
    "gs://BUCKET[/PREFIX]",
    #[cfg(feature = "abs")]
    "abs://[ACCOUNT@]CONTAINER[/PREFIX]",
    #[cfg(feature = "sftp")]
    "sftp://USER@HOST[:PORT]/DIRECTORY",
];

/// Names that mean something else where a destination's name is expected (receipts, sources of a restore).
const RESERVED: [&str; 3] = ["all", "node", "quorum"];

/// One destination as the configuration describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationConfig {
    /// The name that status, receipts and metrics use.
    pub name: String,
    /// Where it is, such as `file:///directory` or `s3://bucket/prefix`.
    pub url: String,
    /// Into which objects its history is cut.
    pub windows: Windows,
    /// How long they are kept.
    pub retention: Retention,
    /// How it is verified.
    pub verification: VerificationOptions,
    /// What its kind wants beside the URL.
    pub options: DestinationOptions,
}

/// Why a destination cannot be used as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDestination {
    /// The name is empty, reserved, or has odd characters.
    #[error(
        "`{0}` cannot be the name of a destination: use letters, digits, `.`, `_`, `-`, and none of all, node, quorum"
    )]
    Name(String),
    /// The URL's scheme is none of the supported.
    #[error("`{url}` is not a destination: supported are {}", SUPPORTED.join(", "))]
    Scheme {
        /// The URL as it was given, without what might be secret.
        url: String,
    },
    /// The URL or an option does not fit its kind.
    #[error("`{url}`: {cause}")]
    Value {
        /// The URL as it was given, without what might be secret.
        url: String,
        /// What is wrong, and what to write instead.
        cause: String,
    },
}

/// A variable of the process's environment, if it is set and not empty.
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The destination that `config` describes. Nothing is connected to yet.
/// `environment` answers variables that stand in where the configuration says nothing.
///
/// # Errors
/// [`InvalidDestination`] says which value does not fit.
pub fn open(
    config: &DestinationConfig,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<NamedDestination, InvalidDestination> {
    let name = &config.name;
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if name.is_empty() || !name.bytes().all(fine) || RESERVED.contains(&name.as_str()) {
        return Err(InvalidDestination::Name(name.clone()));
    }
    let destination = open_url(&config.url, &config.options, environment)?;
    let DestinationConfig { windows, retention, verification, .. } = config.clone();
    Ok(NamedDestination { name: name.clone(), windows, retention, verification, destination })
}

/// The destination at `url`, for those who have no configuration of it. Nothing is connected to yet.
///
/// A URL may carry options that are no secrets as query parameters, such as `?endpoint=http://127.0.0.1:8333`;
/// `options` come first, then these, then `environment`.
///
/// # Errors
/// [`InvalidDestination`] says what does not fit.
pub fn open_url(
    url: &str,
    options: &DestinationOptions,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Arc<dyn Destination>, InvalidDestination> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(InvalidDestination::Scheme { url: shown(url) });
    };
    match scheme {
        "file" => open_file(url, rest, options),
        #[cfg(feature = "s3")]
        "s3" => {
            let options = super::S3Options::from_values(url, options, environment)?;
            Ok(Arc::new(super::S3Destination::new(options)))
        }
        #[cfg(feature = "gs")]
        "gs" => {
            let options = super::GoogleOptions::from_values(url, options, environment)?;
            Ok(Arc::new(super::GoogleDestination::new(options)))
        }
        #[cfg(feature = "abs")]
        "abs" => {
            let options = super::AzureOptions::from_values(url, options, environment)?;
            Ok(Arc::new(super::AzureDestination::new(options)))
        }
        #[cfg(feature = "sftp")]
        "sftp" => {
            let options = super::SftpOptions::from_values(url, options, environment)?;
            Ok(Arc::new(super::SftpDestination::new(options)))
        }
        _ => {
            let _ = environment;
            Err(InvalidDestination::Scheme { url: shown(url) })
        }
    }
}

fn open_file(url: &str, path: &str, options: &DestinationOptions) -> Result<Arc<dyn Destination>, InvalidDestination> {
    let refuse = |cause: &str| Err(InvalidDestination::Value { url: shown(url), cause: cause.to_owned() });
    if path.is_empty() {
        return refuse("the directory is missing: write file:///absolute/directory");
    }
    if *options != DestinationOptions::default() {
        let given = options.given().join(", ");
        return refuse(&format!("a directory has no {given}: remove them"));
    }
    Ok(Arc::new(FileDestination::new(Path::new(path))))
}

/// Makes a `file://` URL with a relative path relative to `base`; other URLs stay as they are.
pub fn resolve_file_url(url: &str, base: &Path) -> String {
    match url.strip_prefix("file://") {
        Some(path) if !path.is_empty() && Path::new(path).is_relative() => {
            format!("file://{}", base.join(path).display())
        }
        _ => url.to_owned(),
    }
}

/// A URL as it may be shown: what may be a key or a password is cut out, query parameters too.
pub(super) fn shown(url: &str) -> String {
    // A file's path is no authority: an `@` in it is part of a name.
    if url.starts_with("file://") {
        return url.to_owned();
    }
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let Some((user, host)) = authority.rsplit_once('@') else { return url.to_owned() };
    // Two places can differ in the user alone.
    let user = if matches!(scheme, "abs" | "sftp") { user.split(':').next().unwrap_or_default() } else { "" };
    let at = if user.is_empty() { "" } else { "@" };
    format!("{scheme}://{user}{at}{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &str) -> Option<String> {
        None
    }

    fn config(name: &str, url: &str) -> DestinationConfig {
        DestinationConfig {
            name: name.to_owned(),
            url: url.to_owned(),
            windows: Windows::default(),
            retention: Retention::default(),
            verification: VerificationOptions::default(),
            options: DestinationOptions::default(),
        }
    }

    #[test]
    fn opens_what_is_supported_and_names_it() {
        let opened = open(&config("local", "file:///backups"), &nothing).unwrap();
        assert_eq!((opened.name.as_str(), opened.destination.url()), ("local", "file:///backups"));
    }

    #[test]
    fn refuses_unknown_schemes_with_the_supported_ones() {
        for url in ["ftp://host/dir", "/backups", "", "backups", "FILE:///x"] {
            let error = open(&config("x", url), &nothing).err().unwrap();
            assert!(matches!(error, InvalidDestination::Scheme { .. }), "{url}: {error}");
            assert!(error.to_string().contains("file:///DIRECTORY"), "{error}");
        }
    }

    #[test]
    fn refuses_names_that_mean_something_else() {
        for name in ["", "all", "quorum", "node", "a b", "a/b", "ä"] {
            let result = open(&config(name, "file:///backups"), &nothing);
            assert!(matches!(result, Err(InvalidDestination::Name(_))), "{name:?}");
        }
    }

    #[test]
    fn refuses_options_that_a_directory_has_no_use_for() {
        let mut config = config("x", "file:///backups");
        config.options.region = Some("eu".to_owned());
        assert!(open(&config, &nothing).err().unwrap().to_string().contains("remove them"));
    }

    #[test]
    fn relative_directories_belong_to_the_configuration_file() {
        let base = Path::new("/etc/seawall");
        assert_eq!(resolve_file_url("file://backups", base), "file:///etc/seawall/backups");
        assert_eq!(resolve_file_url("file:///backups", base), "file:///backups");
        assert_eq!(resolve_file_url("s3://bucket/x", base), "s3://bucket/x");
    }

    #[test]
    fn secrets_never_show() {
        assert_eq!(shown("s3://key:secret@bucket/prefix?token=1"), "s3://bucket/prefix");
        assert_eq!(shown("sftp://me:secret@host:22/a@b"), "sftp://me@host:22/a@b");
        assert_eq!(shown("abs://account@container/x?sas-token=1"), "abs://account@container/x");
        assert_eq!(shown("file:///a@b?c"), "file:///a@b?c");
        let error = open(&config("x", "ftp://user:hunter2@host/"), &nothing).err().unwrap();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
