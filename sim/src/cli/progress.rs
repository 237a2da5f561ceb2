//! A progress bar on a terminal, nothing elsewhere.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How far a command has come.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Shows steps up to `total`, if somebody watches and `quiet` is not asked for.
    pub(super) fn new(total: u64, quiet: bool) -> Self {
        let watched = io::stderr().is_terminal() && !quiet;
        let target = if watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len}, {per_sec}, {eta} left") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(250));
        Self(bar)
    }

    /// One more is done.
    pub(super) fn step(&self) {
        self.0.inc(1);
    }

    /// Prints to standard output without disturbing the bar.
    pub(super) fn print(&self, text: &str) {
        self.0.suspend(|| println!("{text}"));
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
