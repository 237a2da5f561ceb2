//! Certificates and keys as they are now.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, select};
use rustls_pki_types::{CertificateDer, ServerName};
use seawall_host::net::{ByteStream, Door, PeerCertificate, Visitor};
use seawall_host::{local, task, time};
use tokio::sync::Notify;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::identity::NodeNames;
use super::super::settings::TlsFiles;
use super::loaded::{Contents, Loaded, TlsError, uris};

/// How often a certificate by which somebody came in is looked at again.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// A program's certificate, and whose it takes. Connections that begin go by what the files hold now.
pub struct Tls {
    files: TlsFiles,
    current: RwLock<Arc<Loaded>>,
    changed: Notify,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads `files`. A certificate that is over is taken: it may be renewed while the program runs.
    ///
    /// # Errors
    /// [`TlsError`].
    pub async fn open(files: &TlsFiles) -> Result<Arc<Self>, TlsError> {
        let loaded = Loaded::new(files, Contents::read(files).await?)?;
        let key = files.key.clone();
        if let Ok(Ok(true)) = task::blocking(move || local::is_shared(&key)).await {
            tracing::warn!(file = %files.key.display(), "others than its owner may read the key: chmod 600 it");
        }
        let tls = Self { files: files.clone(), current: RwLock::new(Arc::new(loaded)), changed: Notify::new() };
        Ok(Arc::new(tls))
    }

    /// Reads the files again; whether they hold something else than before. What they held before stays in use if they
    /// cannot be used.
    ///
    /// # Errors
    /// [`TlsError`].
    pub async fn reload(&self) -> Result<bool, TlsError> {
        let contents = Contents::read(&self.files).await?;
        if contents == self.current().contents {
            return Ok(false);
        }
        let loaded = Arc::new(Loaded::new(&self.files, contents)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        self.changed.notify_waiters();
        Ok(true)
    }

    /// The files.
    pub fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// When the own certificate is over, in seconds since 1970.
    pub fn not_after(&self) -> u64 {
        self.current().not_after
    }

    /// The URIs among the own certificate's names.
    pub fn uris(&self) -> Vec<String> {
        self.current().uris.clone()
    }

    /// Whether the own certificate is one of a node of `cluster`.
    pub fn is_node_of(&self, cluster: &str) -> bool {
        let nodes = NodeNames::new(cluster);
        self.current().uris.iter().any(|uri| nodes.has(uri))
    }

    /// All files, for watching them.
    pub(super) fn paths(&self) -> [&PathBuf; 3] {
        [&self.files.cert, &self.files.key, &self.files.ca]
    }

    fn current(&self) -> Arc<Loaded> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a new connection to `host` secure.
    ///
    /// # Errors
    /// The other end is not `host`, or by no authority that is taken.
    pub fn connect(
        &self,
        host: &str,
        stream: Box<dyn ByteStream>,
    ) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> {
        let connector = TlsConnector::from(Arc::clone(&self.current().client));
        let name = ServerName::try_from(host.to_owned());
        let host = host.to_owned();
        async move {
            let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{host}: {error}")))?;
            let secured = connector.connect(name, stream).await;
            let secured = secured.map_err(|error| io::Error::new(error.kind(), format!("TLS with {host}: {error}")))?;
            Ok(Box::new(secured) as Box<dyn ByteStream>)
        }
        .boxed()
    }

    /// Waits until a certificate is not to be trusted any more: it is over, or the authorities were exchanged.
    async fn until_expired(self: Arc<Self>, chain: Vec<CertificateDer<'static>>) -> String {
        loop {
            {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                if let Err(error) = self.current().verify(&chain) {
                    return format!("its certificate is not to be trusted any more: {error}");
                }
                select(changed, std::pin::pin!(time::sleep(LOOK_EVERY))).await;
            }
        }
    }
}

/// Lets in who shows a certificate that is taken, and watches it as long as they stay.
#[derive(Debug)]
pub(in super::super) struct TlsDoor(pub(in super::super) Arc<Tls>);

impl Door for TlsDoor {
    fn accept(&self, stream: Box<dyn ByteStream>) -> BoxFuture<'static, io::Result<Visitor>> {
        let tls = Arc::clone(&self.0);
        async move {
            let stream = TlsAcceptor::from(Arc::clone(&tls.current().server)).accept(stream).await?;
            let chain: Vec<CertificateDer<'static>> = stream
                .get_ref()
                .1
                .peer_certificates()
                .unwrap_or_default()
                .iter()
                .map(|it| it.clone().into_owned())
                .collect();
            let invalid = |cause: String| io::Error::new(io::ErrorKind::InvalidData, cause);
            let end = chain.first().ok_or_else(|| invalid("no certificate was shown".to_owned()))?;
            let certificate = PeerCertificate { uris: uris(end).map_err(invalid)? };
            let expired = tls.until_expired(chain).boxed();
            Ok(Visitor { stream: Box::new(stream), certificate, expired })
        }
        .boxed()
    }
}
