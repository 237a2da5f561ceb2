//! What a program shows of itself where it calls nodes.

use std::sync::Arc;

use seawall_host::net::Credentials;
use seawall_host::task::OwnedTask;

use super::SecurityError;
use super::settings::ClientSecurity;

#[cfg(feature = "tls")]
pub(super) use self::secured::ClientCredentials;

/// Opens what `security` names. While the task that is answered beside it lives, files that change are read again.
///
/// # Errors
/// [`SecurityError`].
pub async fn open_client(security: &ClientSecurity) -> Result<(Arc<dyn Credentials>, OwnedTask), SecurityError> {
    #[cfg(feature = "tls")]
    return secured::open(security).await;
    #[cfg(not(feature = "tls"))]
    {
        let _ = security;
        Err(SecurityError::WithoutTls)
    }
}

#[cfg(feature = "tls")]
mod secured {
    use std::fmt;
    use std::io;
    use std::path::PathBuf;
    use std::sync::{Arc, PoisonError, RwLock};

    use futures::FutureExt;
    use futures::future::{BoxFuture, join};
    use http::HeaderValue;
    use seawall_host::net::{ByteStream, Credentials};
    use seawall_host::task::{self, OwnedTask};

    use super::super::file_watch::FileWatch;
    use super::super::grant::read_token;
    use super::super::settings::TokenFrom;
    use super::super::tls::{Tls, keep_current};
    use super::super::token::Token;
    use super::{ClientSecurity, SecurityError};

    /// A certificate and, as a rule, a token.
    pub(in super::super) struct ClientCredentials {
        tls: Arc<Tls>,
        authorization: RwLock<Option<HeaderValue>>,
    }

    impl fmt::Debug for ClientCredentials {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("ClientCredentials(…)")
        }
    }

    impl ClientCredentials {
        pub(in super::super) fn new(tls: Arc<Tls>, token: Option<&Token>) -> Self {
            Self { tls, authorization: RwLock::new(token.and_then(bearer)) }
        }
    }

    /// Tokens have nothing in them that a header cannot have.
    fn bearer(token: &Token) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.reveal())).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    impl Credentials for ClientCredentials {
        fn authorization(&self) -> Option<HeaderValue> {
            self.authorization.read().unwrap_or_else(PoisonError::into_inner).clone()
        }

        fn connect(
            &self,
            host: &str,
            stream: Box<dyn ByteStream>,
        ) -> BoxFuture<'static, io::Result<Box<dyn ByteStream>>> {
            self.tls.connect(host, stream)
        }
    }

    pub(super) async fn open(security: &ClientSecurity) -> Result<(Arc<dyn Credentials>, OwnedTask), SecurityError> {
        let tls = Tls::open(&security.tls).await?;
        let (token, file) = match &security.token {
            None => (None, None),
            Some(TokenFrom::Value(token)) => (Some(token.clone()), None),
            Some(TokenFrom::File(file)) => (Some(read_token(file).await?), Some(file.clone())),
        };
        let credentials = Arc::new(ClientCredentials::new(Arc::clone(&tls), token.as_ref()));
        let reading = match file {
            Some(file) => keep_token(file, Arc::clone(&credentials)).boxed(),
            None => futures::future::ready(()).boxed(),
        };
        let keeping = join(keep_current(tls), reading).map(|_| ());
        Ok((credentials, task::spawn_owned(keeping)))
    }

    /// Reads the file with the token again when it changes.
    async fn keep_token(file: PathBuf, credentials: Arc<ClientCredentials>) {
        let watch = FileWatch::new([&file]);
        let mut told = None;
        loop {
            watch.changed().await;
            match read_token(&file).await {
                Ok(token) => {
                    told = None;
                    let value = bearer(&token);
                    let mut current = credentials.authorization.write().unwrap_or_else(PoisonError::into_inner);
                    if *current != value {
                        *current = value;
                        tracing::info!(file = %file.display(), "another token is used from now on");
                    }
                }
                Err(error) => {
                    let error = error.to_string();
                    if told.as_ref() != Some(&error) {
                        tracing::error!(error, "the token cannot be read again; the last one is used on");
                        told = Some(error);
                    }
                }
            }
        }
    }
}
