//! Whether a host is the right one, by the public key it shows.

use std::path::PathBuf;

use russh::keys::ssh_key::Fingerprint;
use russh::keys::{Algorithm, HashAlg, PublicKey, known_hosts};
use seawall_host::{disk, task};

use super::options::HostProof;

/// The largest file of known hosts, in bytes.
const MAX_FILE_BYTES: usize = 16 << 20;

/// Keys that a configuration names, whole or by fingerprint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinnedKeys {
    keys: Vec<PublicKey>,
    fingerprints: Vec<Fingerprint>,
}

impl PinnedKeys {
    /// From `ssh-ed25519 AAAA…` or `SHA256:…`, several of them separated by commas.
    ///
    /// # Errors
    /// What is neither, and how to come by one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pinned = Self::default();
        for text in text.split(',').map(str::trim) {
            if let Ok(fingerprint) = text.parse() {
                pinned.fingerprints.push(fingerprint);
            } else if let Ok(key) = PublicKey::from_openssh(text) {
                pinned.keys.push(key);
            } else {
                return Err(format!(
                    "host-key: `{text}` is no public key: write `ssh-ed25519 AAAA…` as `ssh-keyscan HOST` prints it, \
                     or its fingerprint `SHA256:…`"
                ));
            }
        }
        Ok(pinned)
    }
}

/// What a host may show.
#[derive(Clone, Debug)]
pub(super) struct AcceptedKeys {
    pinned: PinnedKeys,
    revoked: Vec<PublicKey>,
}

impl AcceptedKeys {
    /// What `proof` has for `host`.
    ///
    /// # Errors
    /// Nothing is known of the host: what to do about it.
    pub(super) async fn find(proof: &HostProof, host: &str, port: u16) -> Result<Self, String> {
        let files = match proof {
            HostProof::Pinned(pinned) => return Ok(Self { pinned: pinned.clone(), revoked: Vec::new() }),
            HostProof::KnownHosts(files) => files,
        };
        let mut accepted = Self { pinned: PinnedKeys::default(), revoked: Vec::new() };
        let mut asked = Vec::new();
        for file in files {
            asked.push(file.display().to_string());
            let text = match disk::read_file(file, MAX_FILE_BYTES).await {
                Ok(text) => String::from_utf8_lossy(&text).into_owned(),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(format!("known-hosts: {}: {error}", file.display())),
            };
            accepted.revoked.extend(revoked(&text));
            accepted.pinned.keys.extend(known_in(file.clone(), host.to_owned(), port).await?);
        }
        if accepted.pinned.keys.is_empty() {
            return Err(unknown_host(host, port, &asked.join(" nor in ")));
        }
        Ok(accepted)
    }

    /// The kinds of keys to ask the host for, so that it shows one that is known. Empty if any may be.
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        if !self.pinned.fingerprints.is_empty() {
            return Vec::new();
        }
        let mut algorithms = Vec::new();
        for key in &self.pinned.keys {
            let wanted = match key.algorithm() {
                Algorithm::Rsa { .. } => {
                    [HashAlg::Sha512, HashAlg::Sha256].map(|hash| Algorithm::Rsa { hash: Some(hash) }).to_vec()
                }
                other => vec![other],
            };
            algorithms.extend(wanted.into_iter().filter(|one| !algorithms.contains(one)).collect::<Vec<_>>());
        }
        algorithms
    }

    /// Whether `shown` is one of them.
    pub(super) fn contains(&self, shown: &PublicKey) -> bool {
        let same = |key: &PublicKey| key.key_data() == shown.key_data();
        let by_fingerprint = |known: &Fingerprint| shown.fingerprint(known.algorithm()) == *known;
        !self.revoked.iter().any(same)
            && (self.pinned.keys.iter().any(same) || self.pinned.fingerprints.iter().any(by_fingerprint))
    }
}

/// The keys that a file has for a host. The library reads the file itself.
async fn known_in(file: PathBuf, host: String, port: u16) -> Result<Vec<PublicKey>, String> {
    let shown = file.display().to_string();
    let read = move || known_hosts::known_host_keys_path(&host, port, &file);
    match task::blocking(read).await {
        Ok(Ok(found)) => Ok(found.into_iter().map(|(_, key)| key).collect()),
        Ok(Err(error)) => Err(format!("known-hosts: {shown}: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

fn revoked(text: &str) -> Vec<PublicKey> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("@revoked"));
    let keys = lines.filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        PublicKey::from_openssh(&format!("{} {}", words.next()?, words.next()?)).ok()
    });
    keys.collect()
}

/// What to do when nothing is known of a host.
fn unknown_host(host: &str, port: u16, asked: &str) -> String {
    format!(
        "the key of {host} is not known in {asked}, so anyone could take its place: run `ssh-keyscan -p {port} {host}`, \
         compare `ssh-keyscan -p {port} {host} | ssh-keygen -lf -` with what `ssh-keygen -lf \
         /etc/ssh/ssh_host_ed25519_key.pub` prints on the host itself, and put the line into a file that known-hosts \
         names, or the key (`ssh-ed25519 AAAA…`) into host-key"
    )
}

/// What to say when a host shows another key than the known one.
pub(super) fn wrong_key(host: &str, shown: &PublicKey) -> String {
    format!(
        "{host} shows a key that is not the known one ({} {}): either it was installed anew, or another machine has taken \
         its place; find out which before you change known-hosts or host-key",
        shown.algorithm(),
        shown.fingerprint(HashAlg::Sha256)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";

    fn key(text: &str) -> PublicKey {
        PublicKey::from_openssh(text).unwrap()
    }

    async fn find(text: &str, host: &str, port: u16) -> Result<AcceptedKeys, String> {
        seawall_host::real::install();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("known_hosts");
        disk::replace_file(&file, text.to_owned().into()).await.unwrap();
        AcceptedKeys::find(&HostProof::KnownHosts(vec![file, "/none/such".into()]), host, port).await
    }

    #[tokio::test]
    async fn keys_are_found_by_host_and_port() {
        let text = format!("# a comment\n[host]:2222 {ONE}\nhost,10.0.0.1 {OTHER} somebody\n");
        let accepted = find(&text, "host", 2222).await.unwrap();
        assert!(accepted.contains(&key(ONE)) && !accepted.contains(&key(OTHER)));
        assert_eq!(accepted.algorithms(), [Algorithm::Ed25519]);
        let accepted = find(&text, "10.0.0.1", 22).await.unwrap();
        assert!(!accepted.contains(&key(ONE)) && accepted.contains(&key(OTHER)));
        // Hashed names, as `ssh-keygen -H` makes them.
        let hashed = "|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak= ";
        assert!(find(&format!("{hashed}{ONE}\n"), "example.com", 22).await.unwrap().contains(&key(ONE)));
    }

    #[tokio::test]
    async fn a_host_without_a_key_is_refused_with_a_way_to_get_it() {
        let error = find(&format!("[host]:2222 {ONE}\n"), "host", 22).await.unwrap_err();
        for part in ["ssh-keyscan -p 22 host", "ssh-keygen -lf", "known-hosts", "host-key", "/none/such"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[tokio::test]
    async fn revoked_keys_are_not_accepted() {
        let accepted = find(&format!("host {ONE}\n@revoked * {ONE}\n"), "host", 22).await.unwrap();
        assert!(!accepted.contains(&key(ONE)));
    }

    #[test]
    fn keys_are_pinned_whole_or_by_fingerprint() {
        let print = key(ONE).fingerprint(HashAlg::Sha256).to_string();
        let accepts = |text: &str, shown: &str| {
            let accepted = AcceptedKeys { pinned: PinnedKeys::parse(text).unwrap(), revoked: Vec::new() };
            accepted.contains(&key(shown))
        };
        assert!(accepts(ONE, ONE) && accepts(&print, ONE) && accepts(&format!("{OTHER} x, {print}"), ONE));
        assert!(!accepts(ONE, OTHER) && !accepts(&print, OTHER));
        for text in ["", "yes", "SHA256:short", "ssh-ed25519 AAAA"] {
            assert!(PinnedKeys::parse(text).unwrap_err().contains("ssh-keyscan"), "{text}");
        }
    }
}
