//! What an SFTP destination needs to know.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::super::config::shown;
use super::super::options::decoded;
use super::super::{DestinationOptions, InvalidDestination, Secret};
use super::host_key::PinnedKeys;

/// What may be said of this kind of destination.
const KEYS: &[&str] = &["password", "key-file", "key-passphrase", "known-hosts", "host-key", "timeout"];

const DEFAULT_PORT: u16 = 22;

/// How the host proves that it is the right one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostProof {
    /// It shows one of these keys.
    Pinned(PinnedKeys),
    /// It shows a key that one of these files has for it; those that do not exist have none.
    KnownHosts(Vec<PathBuf>),
}

/// Where the objects are and how to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SftpOptions {
    /// The destination's URL, for people.
    pub url: String,
    /// The host's name or address.
    pub host: String,
    /// Where its SSH server listens.
    pub port: u16,
    /// Who to be there.
    pub user: String,
    /// The directory; ends in `/`, and starts at the user's own if it does not begin with one.
    pub root: String,
    /// The user's password.
    pub password: Option<Secret>,
    /// The user's private key, and what it is encrypted with.
    pub key: Option<(PathBuf, Option<Secret>)>,
    /// The socket of an agent that keeps private keys.
    pub agent: Option<PathBuf>,
    /// How the host is known.
    pub host_proof: HostProof,
    /// How long a request may take.
    pub patience: Duration,
}

impl SftpOptions {
    /// From a URL `sftp://USER@HOST[:PORT]/DIRECTORY[?key-file=…&known-hosts=…]` and what else is configured.
    /// A directory below the user's own is written `/~/DIRECTORY`.
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
        if parsed.password().is_some() {
            return Err(refuse("a password does not belong into a URL: use password, or key-file".to_owned()));
        }
        let host = parsed.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| refuse("write sftp://USER@HOST/DIRECTORY".to_owned()))?;
        let user = match parsed.username() {
            "" => environment("USER").or_else(|| environment("LOGNAME")),
            user => Some(decoded(user)),
        };
        let user = user.ok_or_else(|| refuse("the user is missing: write sftp://USER@HOST/DIRECTORY".to_owned()))?;
        let options = options.complete(&parsed, "sftp", KEYS).map_err(refuse)?;
        let patience = options.patience().map_err(refuse)?;
        if options.key_passphrase.is_some() && options.key_file.is_none() {
            return Err(refuse("key-passphrase needs a key-file beside it".to_owned()));
        }
        let host_proof = match (&options.host_key, options.known_hosts) {
            (Some(_), Some(_)) => return Err(refuse("host-key and known-hosts exclude each other".to_owned())),
            (Some(keys), None) => HostProof::Pinned(PinnedKeys::parse(keys).map_err(refuse)?),
            (None, Some(file)) => HostProof::KnownHosts(vec![file]),
            (None, None) => {
                let own = environment("HOME").map(|home| PathBuf::from(home).join(".ssh/known_hosts"));
                let common = PathBuf::from("/etc/ssh/ssh_known_hosts");
                HostProof::KnownHosts(own.into_iter().chain([common]).collect())
            }
        };
        Ok(Self {
            url: shown(url),
            // Brackets belong to the URL, not to the address.
            host: decoded(host.trim_start_matches('[').trim_end_matches(']')),
            port: parsed.port().unwrap_or(DEFAULT_PORT),
            user,
            root: root(parsed.path()),
            password: options.password.or_else(|| environment("SSHPASS").map(Secret::new)),
            key: options.key_file.map(|file| {
                let passphrase = options.key_passphrase;
                (file, passphrase.or_else(|| environment("SEAWALL_KEY_PASSPHRASE").map(Secret::new)))
            }),
            agent: environment("SSH_AUTH_SOCK").map(PathBuf::from),
            host_proof,
            patience,
        })
    }
}

/// The directory that a URL's path names, with a slash behind it.
fn root(path: &str) -> String {
    let path = decoded(path);
    let path = path.trim_end_matches('/');
    match path.strip_prefix("/~") {
        Some("") => "./".to_owned(),
        Some(own) if own.starts_with('/') => format!("{}/", own.trim_start_matches('/')),
        _ => format!("{path}/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/home/me".to_owned())
    }

    fn parse(url: &str, options: &DestinationOptions) -> Result<SftpOptions, InvalidDestination> {
        SftpOptions::from_values(url, options, &environment)
    }

    #[test]
    fn takes_user_host_port_and_directory_apart() {
        let none = DestinationOptions::default();
        for (url, host, port, root) in [
            ("sftp://me@host", "host", 22, "/"),
            ("sftp://me@host:2222/backups/", "host", 2222, "/backups/"),
            ("sftp://me@[::1]/a%20b", "::1", 22, "/a b/"),
            ("sftp://me@host/~/backups", "host", 22, "backups/"),
            ("sftp://me@host/~", "host", 22, "./"),
            ("sftp://me@host/~other", "host", 22, "/~other/"),
        ] {
            let options = parse(url, &none).unwrap();
            assert_eq!((&*options.host, options.port, &*options.root), (host, port, root), "{url}");
            assert_eq!(options.user, "me");
        }
        let files = ["/home/me/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts"].map(PathBuf::from).to_vec();
        assert_eq!(parse("sftp://me@host", &none).unwrap().host_proof, HostProof::KnownHosts(files));
        let queried = parse("sftp://me@host/x?key-file=/k&known-hosts=/h", &none).unwrap();
        assert_eq!(queried.key, Some((PathBuf::from("/k"), None)));
        assert_eq!(queried.host_proof, HostProof::KnownHosts(vec![PathBuf::from("/h")]));
    }

    #[test]
    fn refuses_what_does_not_fit_and_shows_no_password() {
        let with = |fill: fn(&mut DestinationOptions)| {
            let mut options = DestinationOptions::default();
            fill(&mut options);
            options
        };
        let none = DestinationOptions::default();
        for (url, options, says) in [
            ("sftp://host/x", &none, "user is missing"),
            ("sftp://me:hunter2@host/x", &none, "does not belong into a URL"),
            ("sftp:///x", &none, "sftp://USER@HOST"),
            ("sftp://me@host?password=hunter2", &none, "does not belong into a URL"),
            ("sftp://me@host", &with(|o| o.region = Some("eu".to_owned())), "`region` means nothing to sftp://"),
            ("sftp://me@host", &with(|o| o.host_key = Some("yes".to_owned())), "ssh-keyscan"),
            ("sftp://me@host", &with(|o| o.key_passphrase = Some(Secret::new("hunter2"))), "needs a key-file"),
        ] {
            let error = parse(url, options).unwrap_err();
            assert!(error.to_string().contains(says), "{url}: {error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
