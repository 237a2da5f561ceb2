//! What is done to the syncs of a disk.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
struct Settings {
    stall: Option<Duration>,
    fail: bool,
    failed: u64,
}

/// How long syncs take and whether they fail.
#[derive(Default)]
pub(super) struct Syncs {
    settings: Mutex<Settings>,
    changed: Condvar,
}

impl Syncs {
    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each sync takes this much longer, those that wait already included.
    pub(super) fn set_stall(&self, stall: Option<Duration>) {
        self.settings().stall = stall;
        self.changed.notify_all();
    }

    /// Whether syncs fail.
    pub(super) fn set_fail(&self, fail: bool) {
        self.settings().fail = fail;
    }

    /// Whether syncs take longer at present.
    pub(super) fn stall(&self) -> bool {
        self.settings().stall.is_some()
    }

    /// Whether the sync that ends now fails; counted if so.
    pub(super) fn fail(&self) -> bool {
        let mut settings = self.settings();
        settings.failed += u64::from(settings.fail);
        settings.fail
    }

    /// How many have failed.
    pub(super) fn failed(&self) -> u64 {
        self.settings().failed
    }

    /// Returns when a sync that began at `began` may go on.
    pub(super) fn wait_out(&self, began: Instant) {
        let mut settings = self.settings();
        while let Some(rest) = settings.stall.and_then(|stall| stall.checked_sub(began.elapsed())) {
            settings = self.changed.wait_timeout(settings, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
