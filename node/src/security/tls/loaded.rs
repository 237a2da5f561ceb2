//! Certificates and keys, as they were read from files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use seawall_host::disk;
use seawall_host::time::UnixMillis;

use super::super::settings::TlsFiles;

/// The largest file of certificates, in bytes.
const MAX_FILE: usize = 1 << 20;
/// 9999-12-31T23:59:59Z, after which no certificate is valid.
const END_OF_TIME: u64 = 253_402_300_799;

/// Why certificates cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("tls: {0}")]
    Unreadable(String),
    /// A file does not hold what it should.
    #[error("tls: {}: {problem}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
}

/// The bytes of the files.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    cert: Bytes,
    key: Bytes,
    ca: Bytes,
}

impl Contents {
    pub(super) async fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = async |file: &PathBuf| {
            disk::read_file(file, MAX_FILE).await.map_err(|error| TlsError::Unreadable(error.to_string()))
        };
        Ok(Self { cert: read(&files.cert).await?, key: read(&files.key).await?, ca: read(&files.ca).await? })
    }
}

/// What a program goes by until its files change.
pub(super) struct Loaded {
    pub(super) contents: Contents,
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    /// The URIs among its own names.
    pub(super) uris: Vec<String>,
    /// When its own certificate is over, in seconds since 1970.
    pub(super) not_after: u64,
}

impl Loaded {
    /// Builds it from what the files hold; their names are for errors.
    pub(super) fn new(files: &TlsFiles, contents: Contents) -> Result<Self, TlsError> {
        let invalid = |file: &PathBuf, problem: String| TlsError::Invalid { file: file.clone(), problem };
        let chain = certificates(&contents.cert).map_err(|problem| invalid(&files.cert, problem))?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key);
        let key = key.map_err(|error| invalid(&files.key, format!("it holds no private key (PEM): {error}")))?;
        let mut roots = RootCertStore::empty();
        for authority in certificates(&contents.ca).map_err(|problem| invalid(&files.ca, problem))? {
            roots.add(authority).map_err(|error| invalid(&files.ca, error.to_string()))?;
        }
        let roots = Arc::new(roots);
        let provider = provider();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build();
        let verifier = verifier.map_err(|error| invalid(&files.ca, error.to_string()))?;

        let not_after = not_after(verifier.as_ref(), &chain).map_err(|problem| invalid(&files.cert, problem))?;
        let uris = uris(&chain[0]).map_err(|problem| invalid(&files.cert, problem))?;

        let fits_not = |error: rustls::Error| {
            let problem = format!("it does not go with the certificate in {}: {error}", files.cert.display());
            invalid(&files.key, problem)
        };
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&[&TLS13]);
        let server = server.map_err(fits_not)?.with_client_cert_verifier(Arc::clone(&verifier));
        let mut server = server.with_single_cert(chain.clone(), key.clone_key()).map_err(fits_not)?;
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // A session that is taken up again is one by a certificate that nobody has looked at since.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;

        let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]);
        let client = client.map_err(fits_not)?.with_root_certificates(roots);
        let mut client = client.with_client_auth_cert(chain, key).map_err(fits_not)?;
        client.alpn_protocols = vec![b"h2".to_vec()];
        client.resumption = Resumption::disabled();
        Ok(Self { contents, server: Arc::new(server), client: Arc::new(client), verifier, uris, not_after })
    }

    /// Whether another's certificates are to be trusted now.
    pub(super) fn verify(&self, chain: &[CertificateDer<'static>]) -> Result<(), rustls::Error> {
        let Some((end, between)) = chain.split_first() else { return Err(rustls::Error::NoCertificatesPresented) };
        self.verifier.verify_client_cert(end, between, now()).map(|_| ())
    }
}

/// The one that the rest of the program is built with.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn now() -> UnixTime {
    let now = u64::try_from(UnixMillis::now().0).unwrap_or_default();
    UnixTime::since_unix_epoch(Duration::from_millis(now))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(read) if read.is_empty() => Err("it holds no certificate (PEM)".to_owned()),
        Ok(read) => Ok(read),
        Err(error) => Err(format!("it holds no certificate (PEM): {error}")),
    }
}

/// The URIs among the names of a certificate.
pub(super) fn uris(certificate: &CertificateDer<'_>) -> Result<Vec<String>, String> {
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|error| error.to_string())?;
    Ok(parsed.valid_uri_names().map(str::to_owned).collect())
}

/// When a certificate of these authorities is over, in seconds since 1970: what the verifier says of a time at which none
/// is valid.
fn not_after(verifier: &dyn ClientCertVerifier, chain: &[CertificateDer<'static>]) -> Result<u64, String> {
    let (end, between) = chain.split_first().ok_or("it holds no certificate (PEM)")?;
    let at = |time| verifier.verify_client_cert(end, between, UnixTime::since_unix_epoch(Duration::from_secs(time)));
    let not_after = match at(END_OF_TIME) {
        Ok(_) => END_OF_TIME,
        Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            not_after.as_secs()
        }
        Err(error) => return Err(error.to_string()),
    };
    // Whoever made it, and what for, comes out only at a time when it is valid.
    match at(not_after) {
        Ok(_) => Ok(not_after),
        Err(error) => Err(format!(
            "nodes would not take it: {error}; it has to be made by the authority in `ca`, for servers and clients \
             (nodes) or for clients (agents)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::certificates::{Authority, Subject};
    use super::super::super::identity::{Role, uri};
    use super::*;

    /// What files of somebody of the cluster `prod` hold.
    fn contents(authority: &Authority, role: Role, days: u32) -> Contents {
        let subject = Subject { role, name: "1".to_owned(), hosts: vec!["localhost".to_owned()] };
        let issued = authority.issue(&subject, UnixMillis::now(), days).unwrap();
        Contents {
            cert: issued.certificate.into(),
            key: issued.key.into(),
            ca: authority.certificate().to_owned().into(),
        }
    }

    fn files() -> TlsFiles {
        TlsFiles { cert: "node.pem".into(), key: "node.key".into(), ca: "ca.pem".into() }
    }

    fn authority() -> Authority {
        seawall_host::real::install();
        Authority::create("prod", UnixMillis::now(), 10).unwrap()
    }

    #[test]
    fn says_until_when_and_for_whom_a_certificate_is() {
        let authority = authority();
        for role in [Role::Node, Role::Agent, Role::Client] {
            let loaded = Loaded::new(&files(), contents(&authority, role, 3)).unwrap();
            assert_eq!(loaded.uris, [uri("prod", role, "1")]);
            let left = loaded.not_after - now().as_secs();
            assert!((3 * 86_400 - 60..=3 * 86_400).contains(&left), "{left}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_file() {
        let (authority, other) = (authority(), authority());
        let good = contents(&authority, Role::Node, 3);
        let foreign = contents(&other, Role::Node, 3);
        let refused = |contents: Contents| Loaded::new(&files(), contents).err().unwrap().to_string();
        let no_authority = refused(Contents { ca: foreign.ca.clone(), ..good.clone() });
        assert!(no_authority.starts_with("tls: node.pem: nodes would not take it"), "{no_authority}");
        let no_key = refused(Contents { key: foreign.key.clone(), ..good.clone() });
        assert!(no_key.starts_with("tls: node.key: it does not go with"), "{no_key}");
        for bytes in [&b""[..], b"nothing", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let bytes = Bytes::from_static(bytes);
            assert!(refused(Contents { cert: bytes.clone(), ..good.clone() }).starts_with("tls: node.pem: "));
            assert!(refused(Contents { key: bytes.clone(), ..good.clone() }).starts_with("tls: node.key: "));
            assert!(refused(Contents { ca: bytes, ..good.clone() }).starts_with("tls: ca.pem: "));
        }
    }

    #[test]
    fn one_that_is_over_is_read_and_known_to_be() {
        let authority = authority();
        let loaded = Loaded::new(&files(), contents(&authority, Role::Node, 0)).unwrap();
        assert!(loaded.not_after <= now().as_secs() + 1);
    }

    #[test]
    fn several_authorities_are_taken_at_once() {
        let (old, new) = (authority(), authority());
        let both = Bytes::from(format!("{}{}", old.certificate(), new.certificate()));
        for authority in [&old, &new] {
            let contents = Contents { ca: both.clone(), ..contents(authority, Role::Agent, 3) };
            assert!(Loaded::new(&files(), contents).is_ok());
        }
    }
}
