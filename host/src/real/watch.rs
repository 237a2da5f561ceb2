//! inotify, by the `notify` crate.

use std::path::Path;
use std::sync::Arc;

use notify::{RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::watch::ChangeSignal;

/// Watches the directory of `path` for events that name it.
pub(super) fn watch(path: &Path) -> ChangeSignal {
    let signal = Arc::new(Notify::new());
    let ring = Arc::clone(&signal);
    let name = path.file_name().map(ToOwned::to_owned);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let concerns = event.map_or(true, |event| {
            !event.kind.is_access() && event.paths.iter().any(|changed| changed.file_name() == name.as_deref())
        });
        if concerns {
            ring.notify_one();
        }
    });
    let watching =
        watcher.and_then(|mut watcher| watcher.watch(directory, RecursiveMode::NonRecursive).map(|()| watcher));
    match watching {
        Ok(watcher) => ChangeSignal::new(signal, Some(Box::new(watcher))),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot watch for changes: polling only");
            ChangeSignal::new(signal, None)
        }
    }
}
