//! Logs go to standard error, as text or as JSON.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

/// How to log.
#[derive(Args)]
pub(super) struct LoggingArgs {
    /// Write logs as text or as JSON, one object a line.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// What to log: error, warn, info, debug, trace, or a filter such as `info,seawall_node=debug` (default: what
    /// RUST_LOG says, else info for services, warn for the rest).
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl LoggingArgs {
    /// Begins logging; `default` counts where neither the command line nor the environment says what.
    pub(super) fn install(&self, default: &str) {
        let directives = self.log_level.clone().or_else(|| std::env::var("RUST_LOG").ok());
        let filter = EnvFilter::builder().parse_lossy(directives.as_deref().unwrap_or(default));
        let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        // A second installation in one process is refused, and the first stays: nothing is lost by that.
        let _ = match self.log_format {
            LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).try_init(),
            LogFormat::Json => logs.json().try_init(),
        };
    }
}
