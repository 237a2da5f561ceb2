//! Changes of files.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::world;

/// Tells that something changed. Dropping it ends the watch.
pub struct ChangeSignal {
    notify: Arc<Notify>,
    _keep: Option<Box<dyn Send + Sync>>,
}

impl ChangeSignal {
    /// A signal that `notify` rings; `keep` lives as long as the signal does.
    pub fn new(notify: Arc<Notify>, keep: Option<Box<dyn Send + Sync>>) -> Self {
        Self { notify, _keep: keep }
    }

    /// Completes after the next change; a change that came before the call counts once.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}

/// Watches the file at `path` (it need not exist yet). Signals may be missed: poll slowly beside it.
pub fn watch(path: &Path) -> ChangeSignal {
    world::current().watch(path)
}
