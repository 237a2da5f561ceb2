//! What goes on, a line a scenario, on a terminal; nothing elsewhere.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The lines of all scenarios that are played at present.
pub(super) struct Progress(MultiProgress);

impl Progress {
    /// Shows them, if somebody watches and `quiet` is not asked for.
    pub(super) fn new(quiet: bool) -> Self {
        let watched = io::stderr().is_terminal() && !quiet;
        let target = if watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self(MultiProgress::with_draw_target(target))
    }

    /// A line for a scenario.
    pub(super) fn begin(&self, scenario: &str) -> ProgressBar {
        let bar = self.0.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed_precise} {prefix}: {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(scenario.to_owned());
        bar.enable_steady_tick(Duration::from_millis(250));
        bar
    }

    /// Prints to standard output without disturbing the lines.
    pub(super) fn print(&self, text: &str) {
        self.0.suspend(|| println!("{text}"));
    }
}
