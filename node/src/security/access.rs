//! Who may do what: certificates of nodes, and tokens.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use http::HeaderValue;
use seawall_host::net::PeerCertificate;
use seawall_host::time::Instant;
use tokio::sync::Notify;

use super::grant::{Grant, Grants};
use super::identity::NodeNames;
use super::token::{Token, TokenHash};

/// Refusals are told of at most so often; those in between are counted.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Who a caller turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// Nobody asks: see [`Access::open`].
    Anybody,
    /// A node of the cluster.
    Node,
    /// Who has this token.
    Token(TokenHash),
}

/// Why nobody is known to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unknown {
    #[error(
        "a token is needed: name a file with one by `token-file` (agent.yml, client.yml) or --token-file; \
         `seawall token` makes one"
    )]
    NoToken,
    #[error("this is no token: check the file that it was read from")]
    NoSuchForm,
    #[error("this token is not, or no longer, among the `tokens` of node.yml")]
    NotListed,
}

impl Unknown {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NoToken => "no-token",
            Self::NoSuchForm => "malformed",
            Self::NotListed => "unknown-token",
        }
    }
}

/// Who may do what with a node. What tokens allow can change at any time.
#[derive(Debug)]
pub struct Access {
    /// Nothing where everybody may do everything.
    guard: Option<Guard>,
    generation: AtomicU64,
    changed: Notify,
    told: Mutex<Told>,
}

#[derive(Debug)]
struct Guard {
    nodes: NodeNames,
    grants: RwLock<Arc<Grants>>,
}

#[derive(Debug, Default)]
struct Told {
    at: Option<Instant>,
    untold: u64,
}

impl Access {
    /// Everybody may do everything: for machines, or networks, that nobody else is on.
    pub fn open() -> Arc<Self> {
        Self::new(None)
    }

    /// Nodes of `cluster` by their certificates, others by `grants`.
    pub fn guarded(cluster: &str, grants: Grants) -> Arc<Self> {
        Self::new(Some(Guard { nodes: NodeNames::new(cluster), grants: RwLock::new(Arc::new(grants)) }))
    }

    fn new(guard: Option<Guard>) -> Arc<Self> {
        Arc::new(Self { guard, generation: AtomicU64::new(0), changed: Notify::new(), told: Mutex::default() })
    }

    /// What tokens allow from now on, calls that are under way included. Whether that is something else than before;
    /// nothing changes where everybody may do everything.
    pub fn replace(&self, grants: Grants) -> bool {
        let Some(guard) = &self.guard else { return false };
        {
            let mut current = guard.grants.write().unwrap_or_else(PoisonError::into_inner);
            if **current == grants {
                return false;
            }
            *current = Arc::new(grants);
        }
        self.generation.fetch_add(1, Ordering::Release);
        self.changed.notify_waiters();
        true
    }

    /// Grows whenever what tokens allow changes.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Completes when what tokens allow is not as it was at `generation`.
    pub(super) async fn changed_since(&self, generation: u64) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.generation() != generation {
                return;
            }
            changed.await;
        }
    }

    /// What a token allows now.
    pub(super) fn grant(&self, hash: &TokenHash) -> Option<Arc<Grant>> {
        let guard = self.guard.as_ref()?;
        let grants = Arc::clone(&guard.grants.read().unwrap_or_else(PoisonError::into_inner));
        grants.find(hash)
    }

    /// Who calls, by what was shown.
    pub(super) fn identify(
        &self,
        certificate: Option<&PeerCertificate>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Identity, Unknown> {
        let Some(guard) = &self.guard else { return Ok(Identity::Anybody) };
        if certificate.is_some_and(|certificate| certificate.uris.iter().any(|uri| guard.nodes.has(uri))) {
            return Ok(Identity::Node);
        }
        let shown = authorization.ok_or(Unknown::NoToken)?;
        let token = shown.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
        let token: Token = token.and_then(|text| text.parse().ok()).ok_or(Unknown::NoSuchForm)?;
        let hash = token.hash();
        self.grant(&hash).ok_or(Unknown::NotListed)?;
        Ok(Identity::Token(hash))
    }

    /// Says that somebody was refused, if that was not said just now.
    pub(super) fn tell(&self, from: Option<IpAddr>, path: &str, cause: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.at.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            told.untold += 1;
            return;
        }
        let untold = std::mem::take(&mut told.untold);
        told.at = Some(Instant::now());
        drop(told);
        tracing::warn!(?from, path, cause, untold, "a call was refused");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::action::Action;
    use super::super::grant::{TokenConfig, TokenIs};
    use super::*;

    async fn grants(tokens: &[(&str, &Token)]) -> Grants {
        let config = |(name, token): &(&str, &Token)| TokenConfig {
            name: (*name).to_owned(),
            token: TokenIs::Hash(token.hash()),
            databases: vec!["app".parse().unwrap()],
            actions: BTreeSet::from([Action::Write]),
        };
        Grants::read(&tokens.iter().map(config).collect::<Vec<_>>()).await.unwrap()
    }

    fn bearer(token: &Token) -> HeaderValue {
        HeaderValue::from_str(&format!("Bearer {}", token.reveal())).unwrap()
    }

    fn certificate(uri: &str) -> PeerCertificate {
        PeerCertificate { uris: vec![uri.to_owned()] }
    }

    #[tokio::test]
    async fn nodes_are_known_by_certificates_and_others_by_tokens() {
        seawall_host::real::install();
        let (known, other) = (Token::generate(), Token::generate());
        let access = Access::guarded("prod", grants(&[("a", &known)]).await);
        let node = certificate("seawall://prod/node/1");
        assert_eq!(access.identify(Some(&node), None), Ok(Identity::Node));
        assert_eq!(access.identify(None, Some(&bearer(&known))), Ok(Identity::Token(known.hash())));
        for stranger in
            [None, Some(certificate("seawall://test/node/1")), Some(certificate("seawall://prod/agent/app"))]
        {
            let stranger = stranger.as_ref();
            assert_eq!(access.identify(stranger, None), Err(Unknown::NoToken));
            assert_eq!(access.identify(stranger, Some(&bearer(&other))), Err(Unknown::NotListed));
            for text in ["", "Bearer ", "Bearer x", known.reveal(), "Basic YTpi", "bearer x"] {
                let shown = HeaderValue::from_str(text).unwrap();
                assert_eq!(access.identify(stranger, Some(&shown)), Err(Unknown::NoSuchForm), "{text}");
            }
            let binary = HeaderValue::from_bytes(b"Bearer \xff\xfe").unwrap();
            assert_eq!(access.identify(stranger, Some(&binary)), Err(Unknown::NoSuchForm));
        }
    }

    #[tokio::test]
    async fn without_tokens_only_nodes_are_known() {
        let access = Access::guarded("prod", Grants::default());
        assert_eq!(access.identify(None, None), Err(Unknown::NoToken));
        assert_eq!(access.identify(Some(&PeerCertificate::default()), None), Err(Unknown::NoToken));
    }

    #[tokio::test]
    async fn changes_of_tokens_are_told_and_what_stays_is_no_change() {
        seawall_host::real::install();
        let (a, b) = (Token::generate(), Token::generate());
        let access = Access::guarded("prod", grants(&[("a", &a)]).await);
        let before = access.generation();
        assert!(!access.replace(grants(&[("a", &a)]).await));
        assert!(futures::FutureExt::now_or_never(access.changed_since(before)).is_none());
        assert!(access.replace(grants(&[("b", &b)]).await));
        access.changed_since(before).await;
        assert!(access.grant(&a.hash()).is_none() && access.grant(&b.hash()).is_some());
        assert!(!Access::open().replace(Grants::default()));
    }

    #[tokio::test]
    async fn one_token_under_two_names_is_refused() {
        seawall_host::real::install();
        let token = Token::generate();
        let config = |name: &str| TokenConfig {
            name: name.to_owned(),
            token: TokenIs::Hash(token.hash()),
            databases: Vec::new(),
            actions: BTreeSet::new(),
        };
        let refused = Grants::read(&[config("a"), config("b")]).await.unwrap_err();
        assert!(refused.to_string().contains("`a` and `b` are the same token"), "{refused}");
    }
}
