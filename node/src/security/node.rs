//! A node's security, ready for use.

use std::sync::Arc;

use seawall_host::net::{Credentials, Door};
use seawall_host::task::OwnedTask;

use super::SecurityError;
use super::access::Access;
use super::grant::Grants;
use super::settings::{NodeSecurity, TlsFiles};

/// A node's security, ready for use.
pub struct OpenedSecurity {
    /// Who may do what.
    pub access: Arc<Access>,
    /// Lets connections in; nothing in plain text.
    pub door: Option<Arc<dyn Door>>,
    /// What it shows to other nodes; nothing in plain text.
    pub credentials: Option<Arc<dyn Credentials>>,
    /// Keeps certificates up to date.
    pub rotation: Option<OwnedTask>,
}

/// Opens what `security` names, for a node of `cluster`.
///
/// # Errors
/// [`SecurityError`].
pub async fn open_node(cluster: &str, security: &NodeSecurity) -> Result<OpenedSecurity, SecurityError> {
    match &security.tls {
        None => Ok(OpenedSecurity { access: Access::open(), door: None, credentials: None, rotation: None }),
        Some(files) => {
            let access = Access::guarded(cluster, Grants::read(&security.tokens).await?);
            secured(cluster, files, access).await
        }
    }
}

#[cfg(feature = "tls")]
async fn secured(cluster: &str, files: &TlsFiles, access: Arc<Access>) -> Result<OpenedSecurity, SecurityError> {
    use super::client::ClientCredentials;
    use super::tls::{Tls, TlsDoor};
    let tls = Tls::open(files).await?;
    if !tls.is_node_of(cluster) {
        let expected = super::uri(cluster, super::Role::Node, "ID");
        tracing::error!(
            expected,
            found = ?tls.uris(),
            "the certificate is none of a node of this cluster: other nodes will refuse this one; make one that has the \
             expected name by `seawall cert`"
        );
    }
    let rotation = seawall_host::task::spawn_owned(super::tls::keep_current(Arc::clone(&tls)));
    let credentials = ClientCredentials::new(Arc::clone(&tls), None);
    Ok(OpenedSecurity {
        access,
        door: Some(Arc::new(TlsDoor(tls))),
        credentials: Some(Arc::new(credentials)),
        rotation: Some(rotation),
    })
}

#[cfg(not(feature = "tls"))]
async fn secured(_: &str, _: &TlsFiles, _: Arc<Access>) -> Result<OpenedSecurity, SecurityError> {
    Err(SecurityError::WithoutTls)
}
