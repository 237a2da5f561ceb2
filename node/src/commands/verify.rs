//! `seawall verify`.

use clap::Args;
use serde::Serialize;

use super::error::CommandError;
use super::history::{LineageView, show_history};
use super::progress::TerminalProgress;
use super::source_args::SourceArgs;
use super::{print, print_json};
use crate::restore::{DEFAULT_PARALLELISM, Finding, Report, RestoreError, verify};

/// Verify what a cluster or a destination holds, without restoring it: the end of every object, or with --deep every
/// page of every state.
///
/// Exits with 1 if an object is damaged, contradicts another or cannot be read, or if the newest state cannot be rebuilt. History that
/// was lost before is shown and is no failure.
#[derive(Args)]
pub(super) struct VerifyArgs {
    /// Read everything, and prove every state that can be restored, place by place. Needs 8 bytes of memory a page and
    /// no disk.
    #[arg(long)]
    deep: bool,
    /// Read so many parts of up to 8 MiB at a time; as many are held in memory at most.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_PARALLELISM as u16, value_parser = clap::value_parser!(u16).range(1..=256))]
    parallelism: u16,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
}

impl VerifyArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let (database, source) = self.source.open().await?;
        let progress = TerminalProgress::new();
        let report = verify(source.as_ref(), self.deep, self.parallelism.into(), &progress).await;
        progress.end();
        let report = report.map_err(|error| match error {
            RestoreError::Empty(origin) => format!("{origin} holds nothing of {database}: check the name"),
            error => error.to_string(),
        });
        let report = report.map_err(CommandError::failure)?;
        report.history.warnings.iter().for_each(|warning| eprintln!("seawall: {warning}"));
        if self.json {
            print_json(&ReportView::new(database.as_str(), self.deep, &report))?;
        } else {
            let lines = show(database.as_str(), source.describe(), self.deep, &report);
            lines.iter().try_for_each(|line| print(line))?;
        }
        if report.is_sound() {
            return Ok(());
        }
        let newest = report.unreachable.map(|(lineage, txid)| {
            format!("the newest state, lineage {lineage} txid {txid}, cannot be rebuilt from what is there")
        });
        let count = |findings: &[Finding], what: &str| {
            let count = Some(findings.len()).filter(|count| *count > 0);
            count.map(|count| format!("{count} of {} objects {what}", report.objects))
        };
        let (damaged, unread) = (count(&report.damaged, "are damaged"), count(&report.unreadable, "cannot be read"));
        let problems: Vec<String> = damaged.into_iter().chain(unread).chain(newest).collect();
        Err(CommandError::failure(format!("{database}: {}", problems.join("; "))))
    }
}

/// A report, as printed.
#[derive(Serialize)]
struct ReportView<'a> {
    database: &'a str,
    sound: bool,
    deep: bool,
    objects: u64,
    bytes: u64,
    states: u64,
    damaged: Vec<FindingView<'a>>,
    unreadable: Vec<FindingView<'a>>,
    unproven: Vec<FindingView<'a>>,
    lineages: Vec<LineageView>,
}

#[derive(Serialize)]
struct FindingView<'a> {
    source: &'a str,
    object: &'a str,
    cause: &'a str,
}

impl<'a> From<&'a Finding> for FindingView<'a> {
    fn from(finding: &'a Finding) -> Self {
        Self { source: &finding.origin, object: &finding.object, cause: &finding.cause }
    }
}

impl<'a> ReportView<'a> {
    fn new(database: &'a str, deep: bool, report: &'a Report) -> Self {
        Self {
            database,
            sound: report.is_sound(),
            deep,
            objects: report.objects,
            bytes: report.bytes,
            states: report.states,
            damaged: report.damaged.iter().map(Into::into).collect(),
            unreadable: report.unreadable.iter().map(Into::into).collect(),
            unproven: report.unproven.iter().map(Into::into).collect(),
            lineages: report.history.lineages.iter().map(Into::into).collect(),
        }
    }
}

fn show(database: &str, source: &str, deep: bool, report: &Report) -> Vec<String> {
    let mut lines = show_history(database, source, &report.history);
    let found =
        |what: &str, Finding { origin, object, cause }: &Finding| format!("{what}: {object} from {origin}: {cause}");
    lines.extend(report.damaged.iter().map(|finding| found("damaged", finding)));
    lines.extend(report.unreadable.iter().map(|finding| found("cannot be read", finding)));
    lines.extend(report.unproven.iter().map(|finding| found("not proven", finding)));
    let Report { objects, bytes, states, .. } = report;
    lines.push(if deep {
        format!("read {objects} objects, {bytes} bytes; proved {states} states")
    } else {
        format!("looked at the ends of {objects} objects; --deep reads all of them")
    });
    lines
}
