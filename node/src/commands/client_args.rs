//! What a command shows to nodes, as the command line says.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use seawall_host::net::{Address, ChannelOptions, Credentials};
use seawall_host::task::OwnedTask;

use super::error::CommandError;
use crate::config::{ClientConfig, process_environment};
use crate::security::{ClientSecurity, TlsFiles, Token, TokenFrom, open_client};

/// Names a file like `--client-config`, for all commands.
const CONFIG_VARIABLE: &str = "SEAWALL_CLIENT_CONFIG";
/// Has a token in it, where no file with one is named.
const TOKEN_VARIABLE: &str = "SEAWALL_TOKEN";

/// What is shown to nodes, and how it is made sure that they are those that are meant.
#[derive(Args, Clone, Debug)]
pub(super) struct ClientArgs {
    /// A client.yml that names certificates and token [default: what $SEAWALL_CLIENT_CONFIG names].
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tls_ca", "tls_cert", "tls_key", "token_file", "insecure"])]
    client_config: Option<PathBuf>,
    /// The certificate of the cluster's authority (PEM).
    #[arg(long, value_name = "FILE", requires_all = ["tls_cert", "tls_key"])]
    tls_ca: Option<PathBuf>,
    /// Your certificate (PEM).
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    tls_cert: Option<PathBuf>,
    /// The private key of your certificate (PEM).
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_cert"])]
    tls_key: Option<PathBuf>,
    /// A file with your token [default: $SEAWALL_TOKEN].
    #[arg(long, value_name = "FILE", requires = "tls_ca")]
    token_file: Option<PathBuf>,
    /// Call nodes on other machines in plain text, and believe whoever answers.
    #[arg(long, conflicts_with = "tls_ca")]
    insecure: bool,
}

/// How nodes are called. Dropping it ends the watch over certificates.
#[derive(Default)]
pub(super) struct Client {
    credentials: Option<Arc<dyn Credentials>>,
    _rotation: Option<OwnedTask>,
}

impl Client {
    /// With what `security` names; in plain text without.
    pub(super) async fn open(security: Option<&ClientSecurity>) -> Result<Self, CommandError> {
        let Some(security) = security else { return Ok(Self::default()) };
        let opened = open_client(security).await;
        let (credentials, rotation) = opened.map_err(|error| CommandError::usage(error.to_string()))?;
        Ok(Self { credentials: Some(credentials), _rotation: Some(rotation) })
    }

    /// What is shown.
    pub(super) fn credentials(&self) -> Option<Arc<dyn Credentials>> {
        self.credentials.clone()
    }

    /// How to call a node.
    pub(super) fn options(&self) -> ChannelOptions {
        ChannelOptions::with_credentials(self.credentials())
    }
}

impl ClientArgs {
    /// What is to be shown; nothing if nothing is said of it.
    async fn config(&self) -> Result<Option<ClientConfig>, CommandError> {
        if let (Some(ca), Some(cert), Some(key)) = (&self.tls_ca, &self.tls_cert, &self.tls_key) {
            let tls = TlsFiles { cert: cert.clone(), key: key.clone(), ca: ca.clone() };
            let token = match &self.token_file {
                Some(file) => Some(TokenFrom::File(file.clone())),
                None => token_of_environment()?.map(TokenFrom::Value),
            };
            return Ok(Some(ClientConfig { security: Some(ClientSecurity { tls, token }), insecure: false }));
        }
        if self.insecure {
            return Ok(Some(ClientConfig { security: None, insecure: true }));
        }
        let named = process_environment(CONFIG_VARIABLE).map(PathBuf::from);
        let Some(file) = self.client_config.clone().or(named) else { return Ok(None) };
        let mut config = ClientConfig::load(&file, &process_environment).await?;
        if let Some(security @ ClientSecurity { token: None, .. }) = &mut config.security {
            security.token = token_of_environment()?.map(TokenFrom::Value);
        }
        Ok(Some(config))
    }

    /// Prepares for calling the nodes at `addresses`. Where nothing is said of how, as `default` has it.
    ///
    /// # Errors
    /// Certificates or token cannot be used; or one of the nodes is on another machine, and nothing says how to call it.
    pub(super) async fn open<'a>(
        &self,
        addresses: impl IntoIterator<Item = &'a Address>,
        default: Option<ClientConfig>,
    ) -> Result<Client, CommandError> {
        let config = self.config().await?.or(default).unwrap_or_default();
        if config.security.is_none()
            && !config.insecure
            && let Some(address) = addresses.into_iter().find(|address| !address.is_local())
        {
            return Err(CommandError::usage(format!(
                "{address} is on another machine: say how to know it, by --client-config or --tls-ca, --tls-cert and \
                 --tls-key, or write --insecure to believe whoever answers"
            )));
        }
        Client::open(config.security.as_ref()).await
    }
}

fn token_of_environment() -> Result<Option<Token>, CommandError> {
    let Some(text) = process_environment(TOKEN_VARIABLE) else { return Ok(None) };
    let token = text.trim().parse();
    token.map(Some).map_err(|error| CommandError::usage(format!("{TOKEN_VARIABLE}: {error}")))
}
