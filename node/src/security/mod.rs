//! Who may reach a node, and what they may do there.
//!
//! Connections are secured by TLS on both sides ([`NodeSecurity::tls`]); a certificate of the cluster's authority lets a
//! program in, and only a node's gives rights. Everybody else shows a token with each call ([`Grants`]), which allows some
//! [`Action`]s with some databases; what each call needs stands in [`RULES`]. The guard ([`protect`]) stands before all
//! services; what a call says of a database the services ask its [`Caller`].

mod access;
mod action;
mod body;
mod caller;
#[cfg(feature = "tls")]
pub mod certificates;
mod check;
mod client;
mod file_watch;
mod grant;
mod guard;
mod identity;
mod node;
mod pattern;
mod settings;
#[cfg(feature = "tls")]
mod tls;
mod token;

#[cfg(feature = "tls")]
use std::path::PathBuf;

pub use access::Access;
pub use action::{About, Action, InvalidAction, Need, RULES, Rule, rule_of};
pub use caller::Caller;
pub use check::{check_client, check_node};
pub use client::open_client;
pub use file_watch::FileWatch;
pub use grant::{Grant, Grants, TokenConfig, TokenError, TokenIs, read_token};
pub use guard::protect;
pub use identity::{Role, uri};
pub use node::{OpenedSecurity, open_node};
pub use pattern::{InvalidPattern, Pattern};
pub use settings::{ClientSecurity, NodeSecurity, TlsFiles, TokenFrom};
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsError};
pub use token::{InvalidToken, InvalidTokenHash, Token, TokenHash};

/// Why a program's security cannot be had as configured.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// Certificates.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A certificate that is not valid any more.
    #[cfg(feature = "tls")]
    #[error("tls: {}: the certificate is over: renew it (`seawall cert --renew`)", .0.display())]
    Over(PathBuf),
    /// A certificate that is not a node's.
    #[cfg(feature = "tls")]
    #[error("tls: {}: it is no certificate of a node of this cluster: it needs the name {expected}", file.display())]
    NoNode {
        /// The certificate.
        file: PathBuf,
        /// The name, a URI.
        expected: String,
    },
    /// Tokens.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// TLS was left out.
    #[cfg(not(feature = "tls"))]
    #[error(
        "this program was built without TLS: build it with the feature `tls`, or remove `tls` from its configuration"
    )]
    WithoutTls,
}
