//! The authority of a cluster.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use seawall_host::time::UnixMillis;

use super::super::identity::{Role, uri};

/// Clocks of machines differ: a new certificate is valid from so long before.
const BACKDATED: Duration = Duration::from_mins(10);
const DAY: Duration = Duration::from_hours(24);

/// Why a certificate was not made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The library refused.
    #[error("cannot make a certificate: {0}")]
    Library(#[from] rcgen::Error),
    /// A name that cannot stand in one.
    #[error("`{0}` cannot stand in a certificate: write a host name or an address")]
    Host(String),
}

/// Whom a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// What it does.
    pub role: Role,
    /// Its name among those: a node's id, an agent's name …
    pub name: String,
    /// The host names and addresses under which it is called; nodes are.
    pub hosts: Vec<String>,
}

/// A certificate and its private key, both PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The private key (PKCS#8).
    pub key: String,
}

/// The authority of a cluster.
pub struct Authority {
    cluster: String,
    certificate: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one, with a new key.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn create(cluster: &str, now: UnixMillis, days: u32) -> Result<Self, CertificateError> {
        let key = KeyPair::generate()?;
        let mut parameters = authority_of(cluster);
        limit(&mut parameters, now, days);
        let certificate = parameters.self_signed(&key)?.pem();
        let text = key.serialize_pem();
        Ok(Self { cluster: cluster.to_owned(), certificate, key: text, issuer: Issuer::new(parameters, key) })
    }

    /// One that was made before, by [`Authority::create`] for the same cluster.
    ///
    /// # Errors
    /// [`CertificateError`] if `key` is none. Whether it is the key of `certificate` shows with what it signs.
    pub fn load(cluster: &str, certificate: String, key: String) -> Result<Self, CertificateError> {
        let pair = KeyPair::from_pem(&key)?;
        let issuer = Issuer::new(authority_of(cluster), pair);
        Ok(Self { cluster: cluster.to_owned(), certificate, key, issuer })
    }

    /// Its certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its private key, PEM.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// A certificate for `subject` with a key of its own, valid for so many days.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn issue(&self, subject: &Subject, now: UnixMillis, days: u32) -> Result<Issued, CertificateError> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name =
            name(&format!("{} {} of {}", subject.role.as_str(), subject.name, self.cluster));
        let uri = uri(&self.cluster, subject.role, &subject.name);
        parameters.subject_alt_names.push(SanType::URI(ia5(&uri)?));
        for host in &subject.hosts {
            parameters.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(ia5(host)?),
            });
        }
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if subject.role == Role::Node {
            parameters.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        parameters.use_authority_key_identifier_extension = true;
        limit(&mut parameters, now, days);
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued { certificate, key: key.serialize_pem() })
    }
}

fn ia5(text: &str) -> Result<Ia5String, CertificateError> {
    Ia5String::try_from(text).map_err(|_| CertificateError::Host(text.to_owned()))
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// What is the same whenever the authority of this cluster is used.
fn authority_of(cluster: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = name(&format!("Seawall authority of {cluster}"));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

fn limit(parameters: &mut CertificateParams, now: UnixMillis, days: u32) {
    let now = Duration::from_millis(u64::try_from(now.0).unwrap_or_default());
    let epoch = date_time_ymd(1970, 1, 1);
    parameters.not_before = epoch + now.saturating_sub(BACKDATED);
    parameters.not_after = epoch + now + DAY * days;
}
