//! What programs are told of their security.

use std::path::PathBuf;

use seawall_host::net::Limits;

use super::grant::TokenConfig;
use super::token::Token;

/// Where a program's certificate is, and by whose word it takes others'. All of them PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Its own certificate, and those between it and the authority's, if there are any.
    pub cert: PathBuf,
    /// The private key of its own certificate.
    pub key: PathBuf,
    /// The certificates of the authorities whose certificates are taken.
    pub ca: PathBuf,
}

/// Where a program has its token from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenFrom {
    /// It was told.
    Value(Token),
    /// A file, which is read again when it changes.
    File(PathBuf),
}

/// What a program shows of itself where it calls nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSecurity {
    /// Its certificate, and whose it takes.
    pub tls: TlsFiles,
    /// Its token; nodes need none.
    pub token: Option<TokenFrom>,
}

/// Whom a node answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSecurity {
    /// Its certificate, and whose it takes. Without, everything is in plain text and everybody may do everything.
    pub tls: Option<TlsFiles>,
    /// Who may call beside the nodes; without `tls` nobody asks.
    pub tokens: Vec<TokenConfig>,
    /// Whether metrics and health are served over TLS, too.
    pub http_tls: bool,
    /// What is given to those that come.
    pub limits: Limits,
}
