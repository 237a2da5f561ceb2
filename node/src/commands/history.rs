//! `seawall history`.

use clap::Args;
use seawall_host::time::UnixMillis;
use serde::Serialize;

use super::error::CommandError;
use super::source_args::SourceArgs;
use super::{print, print_json};
use crate::restore::{Gap, History, LevelTotal, LineageHistory, TimedRun, history, show_time};

/// List what can be restored: transactions, times, levels and sizes, and what is lost between.
///
/// Objects are taken at their names' word; `seawall verify` reads them.
#[derive(Args)]
pub(super) struct HistoryArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
}

impl HistoryArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let (database, source) = self.source.open().await?;
        let found = history(source.as_ref()).await.map_err(|error| CommandError::failure(error.to_string()))?;
        found.warnings.iter().for_each(|warning| eprintln!("seawall: {warning}"));
        if self.json {
            return print_json(&HistoryView::new(database.as_str(), &found));
        }
        show_history(database.as_str(), source.describe(), &found).iter().try_for_each(|line| print(line))
    }
}

/// A history, as printed.
#[derive(Serialize)]
struct HistoryView<'a> {
    database: &'a str,
    /// The newest state, where the source knows it.
    newest: Option<NewestView>,
    lineages: Vec<LineageView>,
}

#[derive(Serialize)]
struct NewestView {
    lineage: u64,
    txid: u64,
    checksum: String,
}

/// A lineage, as printed.
#[derive(Serialize)]
pub(super) struct LineageView {
    lineage: u64,
    ranges: Vec<RangeView>,
    gaps: Vec<GapView>,
    levels: Vec<LevelView>,
}

#[derive(Serialize)]
struct RangeView {
    first: u64,
    last: u64,
    states: u64,
    from: Option<String>,
    to: Option<String>,
}

#[derive(Serialize)]
struct GapView {
    first: u64,
    last: u64,
}

#[derive(Serialize)]
struct LevelView {
    source: String,
    level: &'static str,
    objects: u64,
    bytes: u64,
}

impl<'a> HistoryView<'a> {
    fn new(database: &'a str, history: &History) -> Self {
        let newest = history.head.map(|head| NewestView {
            lineage: head.lineage.0,
            txid: head.txid.0,
            checksum: head.checksum.to_string(),
        });
        Self { database, newest, lineages: history.lineages.iter().map(Into::into).collect() }
    }
}

impl From<&LineageHistory> for LineageView {
    fn from(history: &LineageHistory) -> Self {
        let range = |TimedRun { run, from, to }: &TimedRun| RangeView {
            first: run.first.0,
            last: run.last.0,
            states: run.states,
            from: from.map(show_time),
            to: to.map(show_time),
        };
        let level = |total: &LevelTotal| LevelView {
            source: total.origin.to_string(),
            level: total.level.as_str(),
            objects: total.objects,
            bytes: total.bytes,
        };
        Self {
            lineage: history.lineage.0,
            ranges: history.runs.iter().map(range).collect(),
            gaps: history.gaps.iter().map(|gap| GapView { first: gap.first.0, last: gap.last.0 }).collect(),
            levels: history.levels.iter().map(level).collect(),
        }
    }
}

/// A history for people.
pub(super) fn show_history(database: &str, source: &str, history: &History) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(head) = history.head {
        lines.push(format!("{database}: the newest state is {head}"));
    }
    if history.lineages.is_empty() {
        lines.push(format!("{database}: {source} holds nothing of it"));
    }
    for LineageHistory { lineage, runs, gaps, levels } in &history.lineages {
        lines.push(format!("{database} lineage {lineage}"));
        let runs = runs.iter().map(|timed| (timed.run.first, show_run(timed)));
        let gaps = gaps.iter().map(|gap| (gap.first, show_gap(gap)));
        let mut parts: Vec<_> = runs.chain(gaps).collect();
        parts.sort();
        if parts.is_empty() {
            lines.push("  nothing can be restored: no snapshot, and not the first transactions".to_owned());
        }
        lines.extend(parts.into_iter().map(|(_, line)| line));
        lines.extend(levels.iter().map(|LevelTotal { origin, level, objects, bytes }| {
            let name = if level.as_str() == "snapshot" { "snapshots".to_owned() } else { format!("level {level}") };
            format!("  {name} in {origin}: {objects} objects, {bytes} bytes")
        }));
    }
    lines
}

fn show_run(TimedRun { run, from, to }: &TimedRun) -> String {
    let time = |time: &Option<UnixMillis>| time.map_or_else(|| "an unknown time".to_owned(), show_time);
    if run.states == 1 {
        return format!("  txid {} of {}", run.first, time(to));
    }
    let which =
        if run.has_every_transaction() { "every transaction".to_owned() } else { format!("{} states", run.states) };
    format!("  txid {} to {}, {which}, of {} to {}", run.first, run.last, time(from), time(to))
}

fn show_gap(Gap { first, last }: &Gap) -> String {
    format!("  lost: txid {first} to {last}, {} transactions", last.0 - first.0 + 1)
}
