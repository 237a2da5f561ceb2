//! What a database's task and its handles share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use seawall_proto::position::{Epoch, Position};
use tokio::sync::{Notify, oneshot};

use crate::SyncError;
use crate::status::DatabaseStatus;

pub(super) type SyncAnswer = Result<(Position, Epoch), SyncError>;

/// The meeting place of a database's task and its handles.
#[derive(Default)]
pub(crate) struct Shared {
    status: Mutex<DatabaseStatus>,
    requests: Mutex<Requests>,
    pub(super) requested: Notify,
}

#[derive(Default)]
struct Requests {
    waiting: Vec<oneshot::Sender<SyncAnswer>>,
    closed: Option<SyncError>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The status now.
    pub(crate) fn status(&self) -> DatabaseStatus {
        lock(&self.status).clone()
    }

    /// Changes the status.
    pub(crate) fn update(&self, change: impl FnOnce(&mut DatabaseStatus)) {
        change(&mut lock(&self.status));
    }

    /// Asks for everything committed by now to be shipped.
    pub(crate) fn request(&self) -> Result<oneshot::Receiver<SyncAnswer>, SyncError> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut requests = lock(&self.requests);
            if let Some(error) = &requests.closed {
                return Err(error.clone());
            }
            requests.waiting.push(sender);
        }
        self.requested.notify_one();
        Ok(receiver)
    }

    /// The requests that came since the last call.
    pub(super) fn take_requests(&self) -> Vec<oneshot::Sender<SyncAnswer>> {
        std::mem::take(&mut lock(&self.requests).waiting)
    }

    /// Answers all requests, now and later, with `error`.
    pub(crate) fn close(&self, error: &SyncError) {
        let waiting = {
            let mut requests = lock(&self.requests);
            requests.closed = Some(error.clone());
            std::mem::take(&mut requests.waiting)
        };
        for request in waiting {
            let _ = request.send(Err(error.clone()));
        }
    }
}
