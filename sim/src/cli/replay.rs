//! `replay`: one run, in this process.

use std::io::{self, BufWriter, Write};

use clap::Args;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use super::arguments::Shape;
use super::worker::{failure, run_caught};
use crate::run::RunReport;
use crate::world;

/// Runs one seed in this process, for a closer look. RUST_LOG shows the product's own log.
#[derive(Args)]
pub(super) struct Replay {
    /// The seed.
    seed: u64,
    #[command(flatten)]
    shape: Shape,
    /// Switches a deliberate defect on (a build with the feature `mutants`).
    #[arg(long)]
    mutant: Option<String>,
    /// Prints every event: virtual seconds, machine, event.
    #[arg(long)]
    trace: bool,
    /// Prints the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Replay {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        super::check_mutant(self.mutant.as_deref())?;
        if std::env::var_os("RUST_LOG").is_some() {
            let filter = EnvFilter::from_default_env();
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_timer(VirtualTime).init();
        }
        let mut options = self.shape.options(self.seed, self.mutant.as_deref());
        options.trace = self.trace;
        let answer = run_caught(&options);
        let mut output = BufWriter::new(io::stdout().lock());
        if self.json {
            writeln!(output, "{}", serde_json::to_string_pretty(&answer)?)?;
        } else if let Ok(report) = &answer {
            for event in &report.trace {
                writeln!(output, "{event}")?;
            }
            writeln!(output, "{}", summary(report))?;
        }
        let failure = failure(&options, &answer);
        if let (Some(failure), false) = (&failure, self.json) {
            writeln!(output, "\n{failure}")?;
        }
        output.flush()?;
        Ok(failure.is_none())
    }
}

/// When and where a line was logged: true virtual time and the machine, as the trace has them.
struct VirtualTime;

impl FormatTime for VirtualTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        match world::try_current() {
            Some(world) => write!(writer, "{:>13.6} {:<4}", world.time().as_secs_f64(), world.machine().to_string()),
            None => Ok(()),
        }
    }
}

/// What a run was and did, for a reader.
fn summary(report: &RunReport) -> String {
    let counts = |counts: &std::collections::BTreeMap<String, u64>| {
        let list: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        if list.is_empty() { "none".to_owned() } else { list.join(", ") }
    };
    format!(
        "seed {} hash {:016x}: {:.1} virtual seconds, {} polls, {} commits, {} acknowledged, {} restores compared\n\
         {}\nfaults: {}\nrare paths: {}",
        report.seed,
        report.hash,
        report.virtual_time.as_secs_f64(),
        report.polls,
        report.commits,
        report.acknowledged,
        report.restores,
        report.configuration,
        counts(&report.faults),
        counts(&report.reached),
    )
}
