//! Syncs that wait for their transaction.

use seawall_proto::position::{Epoch, Position, Txid};
use tokio::sync::oneshot;

use super::shared::SyncAnswer;
use crate::SyncError;

/// Syncs that wait. They outlive a session.
#[derive(Default)]
pub(super) struct Waiting(Vec<(Option<Txid>, oneshot::Sender<SyncAnswer>)>);

impl Waiting {
    /// Takes in requests; each waits for what the next look at the database finds.
    pub(super) fn add(&mut self, requests: impl IntoIterator<Item = oneshot::Sender<SyncAnswer>>) {
        self.0.extend(requests.into_iter().map(|request| (None, request)));
    }

    /// What an earlier session captured counts no longer: look again.
    pub(super) fn forget_targets(&mut self) {
        self.0.iter_mut().for_each(|(target, _)| *target = None);
    }

    /// Everything up to `last` is captured: those that waited for a look wait for that.
    pub(super) fn looked(&mut self, last: Txid) {
        for (target, _) in &mut self.0 {
            target.get_or_insert(last);
        }
    }

    /// Answers those whose transaction is acknowledged.
    pub(super) fn answer(&mut self, head: Position, epoch: Epoch) {
        for (_, request) in self.0.extract_if(.., |(target, _)| target.is_some_and(|target| target <= head.txid)) {
            // Whoever asked may be gone.
            let _ = request.send(Ok((head, epoch)));
        }
    }

    /// Answers all with an error.
    pub(super) fn refuse(&mut self, error: &SyncError) {
        for (_, request) in self.0.drain(..) {
            let _ = request.send(Err(error.clone()));
        }
    }
}
