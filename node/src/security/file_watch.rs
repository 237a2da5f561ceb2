//! Files that may change while a program runs.

use std::path::PathBuf;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, select, select_all};
use seawall_host::watch::{ChangeSignal, watch};
use seawall_host::{process, time};

/// How often files are looked at where nothing tells that they changed: signals may be missed, and volumes of secrets are
/// exchanged as a whole, under names that are not theirs.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Files that belong together are written one after the other.
const SETTLES_AFTER: Duration = Duration::from_millis(100);

/// Tells when to look at some files again.
pub struct FileWatch {
    signals: Vec<ChangeSignal>,
}

impl FileWatch {
    /// Watches these files, and for what asks programs to look at their configuration (SIGHUP).
    pub fn new<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        let signals = files.into_iter().map(|file| watch(file)).chain([process::hang_ups()]);
        Self { signals: signals.collect() }
    }

    /// Completes when they may have changed: soon after they did, and every now and then.
    pub async fn changed(&self) {
        let signals: Vec<BoxFuture<'_, ()>> = self.signals.iter().map(|signal| signal.changed().boxed()).collect();
        let signalled = select_all(signals).map(|_| true);
        let looked = time::sleep(LOOK_EVERY).map(|()| false).boxed();
        if select(signalled, looked).await.factor_first().0 {
            time::sleep(SETTLES_AFTER).await;
        }
    }
}
