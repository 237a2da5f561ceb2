//! The `disk:` section of `node.yml`: what the node's data may take.

use std::ops::RangeInclusive;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::document::{ConfigError, Document, Raw, line};
use super::size::{self, show};

/// With less, not even the log file has room for what consensus keeps of it.
const LEAST_BUDGET: u64 = 64 << 20;
/// A batch of the log file and what is in flight.
const LEAST_RESERVE: u64 = 4 << 20;
/// A smaller share is outgrown by every burst; a larger one leaves no room for images.
const SHARES: RangeInclusive<u8> = 5..=90;

/// What a node's data may take of its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// Bytes that all of the data directory may take; `None`: as many as the file system has.
    pub budget: Option<u64>,
    /// Bytes of the budget, and of the file system, that are kept free for what the node has begun and for its own
    /// log: below them appends are refused. `None`: a twentieth of the budget, within bounds.
    pub reserve: Option<u64>,
    /// Percent of the budget that the log may take for the sake of destinations that lag behind.
    pub destination_share: u8,
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self { budget: None, reserve: None, destination_share: 25 }
    }
}

/// The section as it stands in the file.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawDisk {
    budget: Option<Spanned<String>>,
    reserve: Option<Spanned<String>>,
    destination_share: Option<Spanned<String>>,
}

impl DiskConfig {
    pub(super) fn parse(document: &Document<'_>, raw: &RawDisk) -> Result<Self, ConfigError> {
        let budget = bytes(document, "disk.budget", raw.budget.as_ref(), LEAST_BUDGET)?;
        let reserve = bytes(document, "disk.reserve", raw.reserve.as_ref(), LEAST_RESERVE)?;
        if let (Some(budget), Some(reserve), Some(raw)) = (budget, reserve, &raw.reserve)
            && reserve > budget / 2
        {
            let problem = format!(
                "disk.reserve: {} is more than half of disk.budget ({}): the reserve is a part of the budget",
                show(reserve),
                show(budget)
            );
            return Err(document.at(line(raw), problem));
        }
        let destination_share = match &raw.destination_share {
            None => Self::default().destination_share,
            Some(raw) => share(document, raw)?,
        };
        Ok(Self { budget, reserve, destination_share })
    }
}

fn share(document: &Document<'_>, raw: &Raw) -> Result<u8, ConfigError> {
    let text = document.text(raw)?;
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
    percent.filter(|percent| SHARES.contains(percent)).ok_or_else(|| {
        let (least, most) = (SHARES.start(), SHARES.end());
        let problem = format!("disk.destination-share: `{text}` is not within {least}% and {most}%: write 25%");
        document.at(line(raw), problem)
    })
}

pub(super) fn bytes(
    document: &Document<'_>,
    key: &str,
    raw: Option<&Raw>,
    least: u64,
) -> Result<Option<u64>, ConfigError> {
    let Some(raw) = raw else { return Ok(None) };
    let text = document.text(raw)?;
    let bytes = size::parse(&text).ok_or_else(|| {
        document.at(line(raw), format!("{key}: `{text}` is not a number of bytes: write 512MiB, 100GB, 2TiB …"))
    })?;
    if bytes < least {
        return Err(document.at(line(raw), format!("{key}: `{text}` is too little: {} at least", show(least))));
    }
    Ok(Some(bytes))
}
