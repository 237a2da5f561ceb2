//! How commands show that they go on.

use std::io::IsTerminal;
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};

use crate::restore::Progress;

/// A bar on a terminal; warnings on standard error in any case.
pub(super) struct TerminalProgress {
    bar: ProgressBar,
    total: Mutex<u64>,
}

impl TerminalProgress {
    pub(super) fn new() -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let template = "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, total: Mutex::new(0) }
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for TerminalProgress {
    fn planned(&self, bytes: u64) {
        let mut total = self.total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // What was read of an earlier plan stays read.
        *total = self.bar.position().saturating_add(bytes);
        self.bar.set_length(*total);
    }

    fn read(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn warn(&self, message: &str) {
        self.bar.suspend(|| eprintln!("seawall: {message}"));
    }
}
