//! Writing certificates and keys down.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use seawall_host::time::UnixMillis;
use seawall_host::{disk, local, task};

use super::authority::{Authority, CertificateError};
use super::plan::{AUTHORITY, Plan};

/// The largest file of an authority, in bytes.
const MAX_FILE: usize = 64 << 10;

/// Why certificates were not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Something is there already.
    #[error("{} exists, and nothing is overwritten: name another directory, or --renew what is there", .0.display())]
    Exists(PathBuf),
    /// There is no authority to renew by.
    #[error("{} is not there: --renew signs by the authority that was made before", .0.display())]
    NoAuthority(PathBuf),
    /// The authority that is there is another cluster's.
    #[error("{} is not the authority of the cluster `{cluster}`, or its key is another's: {cause}", file.display())]
    OtherAuthority {
        /// Its certificate.
        file: PathBuf,
        /// The cluster.
        cluster: String,
        /// What does not fit.
        cause: String,
    },
    /// A certificate cannot be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Makes what `plan` says for `cluster` in `directory`; the authority, too, unless certificates are renewed: then it is
/// that which lies there, and those of the plan that lie there are replaced. Answers the files in order.
///
/// # Errors
/// [`WriteError`]; what was there before is as it was.
pub async fn write(
    directory: &Path,
    cluster: &str,
    plan: &Plan,
    days: (u32, u32),
    renew: bool,
) -> Result<Vec<PathBuf>, WriteError> {
    let (authority_days, certificate_days) = days;
    let of = |stem: &str, end: &str| directory.join(format!("{stem}.{end}"));
    let (certificate, key) = (of(AUTHORITY, "pem"), of(AUTHORITY, "key"));
    let now = UnixMillis::now();
    let mut written = Vec::new();
    let authority = if renew {
        for file in [&certificate, &key] {
            if !disk::exists(file).await? {
                return Err(WriteError::NoAuthority(file.clone()));
            }
        }
        Authority::load(cluster, text(&certificate).await?, text(&key).await?)?
    } else {
        let all = plan.files.iter().flat_map(|file| [of(&file.stem, "pem"), of(&file.stem, "key")]);
        for file in [certificate.clone(), key.clone()].into_iter().chain(all) {
            if disk::exists(&file).await? {
                return Err(WriteError::Exists(file));
            }
        }
        Authority::create(cluster, now, authority_days)?
    };
    // All of them are made before the first is written.
    let mut files = Vec::new();
    for planned in &plan.files {
        let issued = authority.issue(&planned.subject, now, certificate_days)?;
        check(&authority, &issued.certificate, now).map_err(|cause| WriteError::OtherAuthority {
            file: certificate.clone(),
            cluster: cluster.to_owned(),
            cause,
        })?;
        files.push((of(&planned.stem, "key"), issued.key, true));
        files.push((of(&planned.stem, "pem"), issued.certificate, false));
    }
    disk::create_directories(directory).await?;
    if !renew {
        put(&key, authority.key().to_owned(), true, false).await?;
        put(&certificate, authority.certificate().to_owned(), false, false).await?;
        written.extend([certificate, key]);
    }
    for (file, content, is_private) in files {
        put(&file, content, is_private, renew).await?;
        written.push(file);
    }
    disk::sync_directory(directory).await?;
    Ok(written)
}

/// Whether the authority's certificate stands for what it has signed.
fn check(authority: &Authority, certificate: &str, now: UnixMillis) -> Result<(), String> {
    let parse = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| error.to_string());
    let (root, signed) = (parse(authority.certificate())?, parse(certificate)?);
    let anchor = webpki::anchor_from_trusted_cert(&root).map_err(|error| error.to_string())?;
    let end = webpki::EndEntityCert::try_from(&signed).map_err(|error| error.to_string())?;
    let seconds = u64::try_from(now.0 / 1000).unwrap_or_default();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let usage = webpki::KeyUsage::client_auth();
    let anchors = [anchor];
    let verified = end.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, &[], time, usage, None, None);
    verified.map(|_| ()).map_err(|error| error.to_string())
}

async fn text(file: &Path) -> Result<String, WriteError> {
    let bytes = disk::read_file(file, MAX_FILE).await?;
    let invalid = |_| io::Error::new(io::ErrorKind::InvalidData, format!("{}: it is not UTF-8 text", file.display()));
    Ok(String::from_utf8(bytes.into()).map_err(invalid)?)
}

/// Writes a file so that it is there as a whole or not at all, private from the first byte on where it is to be.
async fn put(file: &Path, content: String, is_private: bool, replace: bool) -> io::Result<()> {
    let path = file.to_owned();
    let written = task::blocking(move || {
        let mode = if is_private { 0o600 } else { 0o644 };
        local::write_file(&path, content.as_bytes(), mode, replace)
    });
    written.await.map_err(io::Error::other)?
}
