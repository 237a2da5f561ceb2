//! Looking whether a program could be started with its certificates and tokens, without starting it.

use super::SecurityError;
use super::grant::{Grants, read_token};
use super::settings::{ClientSecurity, NodeSecurity, TlsFiles, TokenFrom};

/// Whether a node of `cluster` could do its work with these.
///
/// # Errors
/// [`SecurityError`].
pub async fn check_node(cluster: &str, security: &NodeSecurity) -> Result<(), SecurityError> {
    if let Some(files) = &security.tls {
        check_tls(files, Some(cluster)).await?;
        Grants::read(&security.tokens).await?;
    }
    Ok(())
}

/// Whether nodes could be called with these.
///
/// # Errors
/// [`SecurityError`].
pub async fn check_client(security: Option<&ClientSecurity>) -> Result<(), SecurityError> {
    let Some(ClientSecurity { tls, token }) = security else { return Ok(()) };
    check_tls(tls, None).await?;
    if let Some(TokenFrom::File(file)) = token {
        read_token(file).await?;
    }
    Ok(())
}

#[cfg(feature = "tls")]
async fn check_tls(files: &TlsFiles, cluster: Option<&str>) -> Result<(), SecurityError> {
    let tls = super::Tls::open(files).await?;
    let now = u64::try_from(seawall_host::time::UnixMillis::now().0 / 1000).unwrap_or_default();
    if tls.not_after() <= now {
        return Err(SecurityError::Over(files.cert.clone()));
    }
    match cluster {
        Some(cluster) if !tls.is_node_of(cluster) => Err(SecurityError::NoNode {
            file: files.cert.clone(),
            expected: super::uri(cluster, super::Role::Node, "ID"),
        }),
        _ => Ok(()),
    }
}

#[cfg(not(feature = "tls"))]
async fn check_tls(_: &TlsFiles, _: Option<&str>) -> Result<(), SecurityError> {
    Err(SecurityError::WithoutTls)
}
