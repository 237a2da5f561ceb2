//! How a destination's history is cut and how long it is kept, as it stands in `node.yml`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::destination::RawDestination;
use super::document::{ConfigError, Document, Raw, line};
use super::size;
use crate::destination::{Deletion, Retention, Windows};

const DAY: Duration = Duration::from_hours(24);
/// How long a window of level 0 may stay open, from the shortest to the longest.
const UPLOAD_INTERVALS: RangeInclusive<Duration> = Duration::from_millis(100)..=DAY;
/// How long transactions may be merged before an object of level 1 or 2 is made of them.
const MERGE_INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24 * 30);
const SNAPSHOT_INTERVALS: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(24 * 366);
/// Ages, from the shortest to the longest: a century.
const AGES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(24 * 36_525);
const GRACES: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(24 * 366);
/// Bytes of one object of level 0, from the fewest to the most: they are held in memory.
const UPLOAD_BYTES: RangeInclusive<u64> = 64 << 10..=1 << 30;

/// The windows of a destination.
pub(super) fn windows(document: &Document<'_>, raw: &RawDestination) -> Result<Windows, ConfigError> {
    let default = Windows::default();
    let upload_bytes = match &raw.upload_size {
        None => default.upload_bytes,
        Some(raw) => {
            let text = document.text(raw)?;
            size::parse(&text).filter(|bytes| UPLOAD_BYTES.contains(bytes)).ok_or_else(|| {
                let problem =
                    format!("upload-size: `{text}` is not a size between 64KiB and 1GiB: write 16MiB, 32MB …");
                document.at(line(raw), problem)
            })?
        }
    };
    let snapshot_min_bytes = match &raw.snapshot_size {
        None => default.snapshot_min_bytes,
        Some(raw) => {
            let text = document.text(raw)?;
            size::parse(&text).ok_or_else(|| {
                let problem = format!("snapshot-size: `{text}` is not a number of bytes: write 8MiB, 1GB …");
                document.at(line(raw), problem)
            })?
        }
    };
    let windows = Windows {
        upload_interval: time(document, "upload-interval", &raw.upload_interval, &UPLOAD_INTERVALS)?
            .unwrap_or(default.upload_interval),
        upload_bytes,
        level_one_interval: time_or_none(document, "level-1-interval", &raw.level_1_interval)?
            .unwrap_or(default.level_one_interval),
        level_two_interval: time_or_none(document, "level-2-interval", &raw.level_2_interval)?
            .unwrap_or(default.level_two_interval),
        snapshot_interval: time(document, "snapshot-interval", &raw.snapshot_interval, &SNAPSHOT_INTERVALS)?
            .unwrap_or(default.snapshot_interval),
        snapshot_min_bytes,
    };
    let ascending = [
        ("level-1-interval", windows.level_one_interval, &raw.level_1_interval),
        ("level-2-interval", windows.level_two_interval, &raw.level_2_interval),
        ("snapshot-interval", windows.snapshot_interval, &raw.snapshot_interval),
    ];
    let used: Vec<_> = ascending.iter().filter(|(_, interval, _)| !interval.is_zero()).collect();
    for pair in used.windows(2) {
        if let [(lower, shorter, below), (higher, longer, above)] = pair
            && shorter >= longer
        {
            let problem = format!(
                "{higher}: {} is not longer than {lower}, {}: each level merges what the one below it cut",
                humantime::format_duration(*longer),
                humantime::format_duration(*shorter)
            );
            return Err(document.at(above.as_ref().or(below.as_ref()).map_or_else(|| line(&raw.name), line), problem));
        }
    }
    Ok(windows)
}

/// The retention of a destination.
pub(super) fn retention(document: &Document<'_>, raw: &RawDestination) -> Result<Retention, ConfigError> {
    let default = Retention::default();
    let age = time(document, "retention", &raw.retention, &AGES)?.unwrap_or(default.age);
    // Unless told, what is kept of the finer levels is no more than of the coarser ones.
    let level_one = time(document, "retention-level-1", &raw.retention_level_1, &AGES)?;
    let transactions = time(document, "retention-transactions", &raw.retention_transactions, &AGES)?;
    let finer = [
        ("retention-level-1", level_one, "retention", age, &raw.retention_level_1),
        (
            "retention-transactions",
            transactions,
            "retention-level-1",
            level_one.unwrap_or(age),
            &raw.retention_transactions,
        ),
    ];
    for (key, finer, than, coarser, raw) in finer {
        if let (Some(finer), Some(raw)) = (finer, raw)
            && finer > coarser
        {
            let problem = format!("{key}: `{}` is longer than {than}: keep coarser levels at least as long", raw.value);
            return Err(document.at(line(raw), problem));
        }
    }
    let level_one = level_one.unwrap_or_else(|| default.level_one.min(age).max(transactions.unwrap_or_default()));
    let snapshots = match &raw.retention_snapshots {
        None => default.snapshots,
        Some(raw) => match document.value::<usize>("retention-snapshots", raw)? {
            0 => {
                return Err(
                    document.at(line(raw), "retention-snapshots: the last snapshot is never deleted: write 1 or more")
                );
            }
            snapshots => snapshots,
        },
    };
    let deletion = match &raw.delete {
        None => default.deletion,
        Some(raw) => match document.text(raw)?.as_str() {
            "expired" => Deletion::Expired,
            "never" => Deletion::Never,
            other => return Err(document.at(line(raw), format!("delete: `{other}` is neither expired nor never"))),
        },
    };
    Ok(Retention {
        age,
        snapshots,
        transactions: transactions.unwrap_or_else(|| default.transactions.min(level_one)),
        level_one,
        grace: time(document, "retention-grace", &raw.retention_grace, &GRACES)?.unwrap_or(default.grace),
        deletion,
    })
}

fn time_or_none(document: &Document<'_>, key: &str, raw: &Option<Raw>) -> Result<Option<Duration>, ConfigError> {
    match raw {
        Some(raw) if document.duration(key, raw)?.is_zero() => Ok(Some(Duration::ZERO)),
        raw => time(document, key, raw, &MERGE_INTERVALS),
    }
}

fn time(
    document: &Document<'_>,
    key: &str,
    raw: &Option<Raw>,
    within: &RangeInclusive<Duration>,
) -> Result<Option<Duration>, ConfigError> {
    let Some(raw) = raw else { return Ok(None) };
    let given = document.duration(key, raw)?;
    if within.contains(&given) {
        return Ok(Some(given));
    }
    let [least, most] = [within.start(), within.end()].map(|bound| humantime::format_duration(*bound));
    Err(document.at(line(raw), format!("{key}: `{}` is not within {least} and {most}", raw.value)))
}
