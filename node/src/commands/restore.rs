//! `seawall restore`.

use std::path::PathBuf;

use clap::Args;
use seawall_host::time::UnixMillis;
use seawall_proto::position::{Lineage, Txid};
use serde::Serialize;

use super::error::CommandError;
use super::progress::TerminalProgress;
use super::source_args::SourceArgs;
use super::{print, print_json};
use crate::restore::{
    DEFAULT_CHECKPOINT_INTERVAL, DEFAULT_PARALLELISM, Estimate, IntegrityCheck, Outcome, PlannedObject, RestoreOptions,
    Restored, When, restore, show_time,
};

/// Give a database back, from a cluster or from a destination.
///
/// The file appears at once and whole, its content proven by checksum to be the source's at exactly one txid, or it
/// does not appear.
#[derive(Args)]
pub(super) struct RestoreArgs {
    /// The file to restore to.
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    /// Restore exactly this transaction.
    #[arg(long, value_name = "N", conflicts_with = "timestamp")]
    txid: Option<u64>,
    /// Restore the last transaction committed at or before this time, such as 2026-11-22T12:00:00Z.
    #[arg(long, value_name = "RFC3339", value_parser = parse_timestamp)]
    timestamp: Option<UnixMillis>,
    /// Restore from this history instead of the newest one.
    #[arg(long, value_name = "N")]
    lineage: Option<u64>,
    /// Let SQLite check the result as well: none, quick or full.
    #[arg(long, value_name = "none|quick|full", default_value = "none")]
    integrity_check: IntegrityCheck,
    /// Do nothing, successfully, if the output exists.
    #[arg(long)]
    if_db_not_exists: bool,
    /// Do nothing, successfully, if the source has nothing of this database.
    #[arg(long)]
    if_replica_exists: bool,
    /// Replace an existing database and its -wal, -shm and -journal; refused while a process has it open.
    #[arg(long)]
    force: bool,
    /// Read so many parts of 4 MiB at a time; as many are held in memory at most.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_PARALLELISM as u16, value_parser = clap::value_parser!(u16).range(1..=256))]
    parallelism: u16,
    /// Begin anew, whatever an interrupted restore to the same output left, and leave nothing if interrupted.
    #[arg(long)]
    no_resume: bool,
    /// Print which objects would be read, and how long that might take, judging by the first part of the first one;
    /// restore nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
}

fn parse_timestamp(text: &str) -> Result<UnixMillis, String> {
    let timestamp: jiff::Timestamp =
        text.parse().map_err(|error| format!("{error}; write RFC 3339, such as 2026-11-22T12:00:00Z"))?;
    Ok(UnixMillis(timestamp.as_millisecond()))
}

impl RestoreArgs {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let when = match (self.txid, self.timestamp) {
            (Some(0), _) => return Err(CommandError::usage("--txid: transactions count from 1")),
            (Some(txid), _) => When::Txid(Txid(txid)),
            (None, Some(time)) => When::Time(time),
            (None, None) => When::Newest,
        };
        let options = RestoreOptions {
            output: self.output.clone(),
            when,
            lineage: self.lineage.map(Lineage),
            force: self.force,
            integrity_check: self.integrity_check,
            if_db_not_exists: self.if_db_not_exists,
            if_replica_exists: self.if_replica_exists,
            dry_run: self.dry_run,
            resume: !self.no_resume,
            checkpoint_interval: DEFAULT_CHECKPOINT_INTERVAL,
            parallelism: self.parallelism.into(),
        };
        let (database, source) = self.source.open().await?;
        let progress = TerminalProgress::new();
        let outcome = restore(source.as_ref(), &options, &progress).await;
        progress.end();
        let outcome = outcome.map_err(|error| CommandError::failure(error.to_string()))?;
        if self.json {
            return print_json(&OutcomeView::new(database.as_str(), &outcome));
        }
        show(database.as_str(), &self.output, &outcome).iter().try_for_each(|line| print(line))
    }
}

/// An outcome, as printed.
#[derive(Serialize)]
#[serde(untagged)]
enum OutcomeView {
    Restored {
        database: String,
        lineage: u64,
        txid: u64,
        checksum: String,
        time: String,
        size: u64,
        sources: Vec<String>,
        duration: f64,
    },
    Planned {
        database: String,
        lineage: u64,
        txid: u64,
        objects: Vec<ObjectView>,
        bytes: u64,
        estimate: Option<EstimateView>,
    },
    Nothing {
        database: String,
        restored: bool,
        reason: &'static str,
    },
}

/// How long a restore would take, and the sample from which that was concluded.
#[derive(Serialize)]
struct EstimateView {
    seconds: f64,
    bytes_per_second: u64,
    sampled_bytes: u64,
}

impl From<&Estimate> for EstimateView {
    fn from(estimate: &Estimate) -> Self {
        Self {
            seconds: estimate.duration.as_secs_f64(),
            bytes_per_second: estimate.bytes_per_second,
            sampled_bytes: estimate.sampled,
        }
    }
}

#[derive(Serialize)]
struct ObjectView {
    source: String,
    object: String,
    size: u64,
    until: u64,
}

impl From<&PlannedObject> for ObjectView {
    fn from(planned: &PlannedObject) -> Self {
        Self {
            source: planned.object.origin.to_string(),
            object: planned.object.name.to_string(),
            size: planned.object.size,
            until: planned.until.0,
        }
    }
}

const DATABASE_EXISTS: &str = "the output exists";
const NOTHING_THERE: &str = "the source has nothing of this database";

impl OutcomeView {
    fn new(database: &str, outcome: &Outcome) -> Self {
        let database = database.to_owned();
        match outcome {
            Outcome::Restored(Restored { position, time, size, sources, duration }) => Self::Restored {
                database,
                lineage: position.lineage.0,
                txid: position.txid.0,
                checksum: position.checksum.to_string(),
                time: show_time(*time),
                size: *size,
                sources: sources.clone(),
                duration: duration.as_secs_f64(),
            },
            Outcome::Planned { lineage, txid, objects, estimate } => Self::Planned {
                database,
                lineage: lineage.0,
                txid: txid.0,
                objects: objects.iter().map(Into::into).collect(),
                bytes: objects.iter().map(|planned| planned.object.size).sum(),
                estimate: estimate.as_ref().map(Into::into),
            },
            Outcome::DatabaseExists => Self::Nothing { database, restored: false, reason: DATABASE_EXISTS },
            Outcome::NothingToRestore => Self::Nothing { database, restored: false, reason: NOTHING_THERE },
        }
    }
}

fn show(database: &str, output: &std::path::Path, outcome: &Outcome) -> Vec<String> {
    match outcome {
        Outcome::Restored(Restored { position, time, size, sources, duration }) => vec![format!(
            "{database} restored to {}: lineage {} txid {} checksum {} of {}, {size} bytes from {} in {:.1} s",
            output.display(),
            position.lineage,
            position.txid,
            position.checksum,
            show_time(*time),
            sources.join(", "),
            duration.as_secs_f64(),
        )],
        Outcome::Planned { lineage, txid, objects, estimate } => {
            let bytes: u64 = objects.iter().map(|planned| planned.object.size).sum();
            let head = format!("{database} lineage {lineage} txid {txid}: {} objects, {bytes} bytes", objects.len());
            let lines = objects.iter().map(|planned| {
                let object = &planned.object;
                format!("  {} from {} up to txid {}, {} bytes", object.name, object.origin, planned.until, object.size)
            });
            let tail = estimate.map(|Estimate { sampled, bytes_per_second, duration, .. }| {
                let (seconds, rate) = (duration.as_secs_f64(), bytes_per_second as f64 / 1e6);
                format!("about {seconds:.1} s: the first {sampled} bytes came at {rate:.1} MB/s")
            });
            std::iter::once(head).chain(lines).chain(tail).collect()
        }
        Outcome::DatabaseExists => vec![format!("{database}: nothing restored, {DATABASE_EXISTS}")],
        Outcome::NothingToRestore => vec![format!("{database}: nothing restored, {NOTHING_THERE}")],
    }
}
