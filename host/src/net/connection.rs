//! The connection that a request came by.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::sync::Notify;

/// What the other end of a connection has proven of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The URIs among the certificate's names.
    pub uris: Vec<String>,
}

/// The connection that a request came by. The real network puts one into the extensions of every request. Clones share
/// it.
#[derive(Clone, Debug)]
pub struct Connection(Arc<State>);

#[derive(Debug)]
struct State {
    address: Option<IpAddr>,
    certificate: Option<PeerCertificate>,
    is_let_in: AtomicBool,
    refusals: AtomicU32,
    changed: Notify,
}

impl Connection {
    /// A connection from `address` by whoever has shown `certificate`.
    pub fn new(address: Option<IpAddr>, certificate: Option<PeerCertificate>) -> Self {
        Self(Arc::new(State {
            address,
            certificate,
            is_let_in: AtomicBool::new(false),
            refusals: AtomicU32::new(0),
            changed: Notify::new(),
        }))
    }

    /// Where it comes from; nothing for unix sockets.
    pub fn address(&self) -> Option<IpAddr> {
        self.0.address
    }

    /// What the other end has proven of itself; nothing in plain text.
    pub fn certificate(&self) -> Option<&PeerCertificate> {
        self.0.certificate.as_ref()
    }

    /// Who came by it is known and may call.
    pub fn let_in(&self) {
        self.0.refusals.store(0, Ordering::Relaxed);
        if !self.0.is_let_in.swap(true, Ordering::AcqRel) {
            self.0.changed.notify_waiters();
        }
    }

    /// A call was refused for who it is from; answers how many were since the last that was not. A server closes a
    /// connection on which too many are.
    pub fn refuse(&self) -> u32 {
        let refusals = self.0.refusals.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        self.0.changed.notify_waiters();
        refusals
    }

    /// Completes once somebody was let in.
    pub async fn when_let_in(&self) {
        self.wait(|| self.0.is_let_in.load(Ordering::Acquire)).await;
    }

    /// Completes once `limit` calls in a row were refused.
    pub async fn when_refused(&self, limit: u32) {
        self.wait(|| self.0.refusals.load(Ordering::Acquire) >= limit).await;
    }

    async fn wait(&self, holds: impl Fn() -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            changed.as_mut().enable();
            if holds() {
                return;
            }
            changed.await;
        }
    }
}
