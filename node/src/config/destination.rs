//! The `destinations` of `node.yml`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::disk::bytes;
use super::document::{ConfigError, Document, Raw, line};
use super::history;
use crate::destination::{
    self, DestinationConfig, DestinationOptions, InvalidDestination, Secret, VerificationOptions,
};

/// How often a destination may be verified, from the most to the least often.
const VERIFY_INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24 * 366);

/// With less, one verification of a database that is not tiny takes longer than the longest interval.
const LEAST_VERIFY_BANDWIDTH: u64 = 64 << 10;

/// The destinations of a configuration file.
pub(super) fn parse_destinations(
    document: &Document<'_>,
    raw: &[RawDestination],
) -> Result<Vec<DestinationConfig>, ConfigError> {
    let mut destinations: Vec<DestinationConfig> = Vec::new();
    let mut lines = BTreeMap::new();
    for raw in raw {
        let destination = parse_destination(document, raw)?;
        if let Some(first) = lines.insert(destination.name.clone(), line(&raw.name)) {
            let problem = format!("destinations: the name `{}` stands on line {first} already", destination.name);
            return Err(document.at(line(&raw.name), problem));
        }
        let same = |other: &&DestinationConfig| {
            other.url.trim_end_matches('/') == destination.url.trim_end_matches('/')
                && other.options.endpoint == destination.options.endpoint
        };
        if let Some(other) = destinations.iter().find(same) {
            let problem = format!("destinations: `{}` is the same place as `{}`", destination.name, other.name);
            return Err(document.at(line(&raw.url), problem));
        }
        destinations.push(destination);
    }
    Ok(destinations)
}

fn parse_destination(document: &Document<'_>, raw: &RawDestination) -> Result<DestinationConfig, ConfigError> {
    let name = document.text(&raw.name)?;
    let url = document.url(&raw.url)?;
    let windows = history::windows(document, raw)?;
    let retention = history::retention(document, raw)?;
    match (&raw.access_key_id, &raw.secret_access_key) {
        (Some(raw), None) => return Err(document.at(line(raw), "access-key-id needs a secret-access-key beside it")),
        (None, Some(raw)) => return Err(document.at(line(raw), "secret-access-key needs an access-key-id beside it")),
        _ => {}
    }
    let options = parse_options(document, raw)?;
    let verification = parse_verification(document, raw)?;
    let config = DestinationConfig { name, url, windows, retention, verification, options };
    // Opened once here, so that a mistake is reported with its line; nothing is connected to.
    destination::open(&config, document.environment()).map_err(|error| {
        let at = if matches!(error, InvalidDestination::Name(_)) { &raw.name } else { &raw.url };
        document.at(line(at), format!("destinations: {error}"))
    })?;
    Ok(config)
}

fn parse_verification(document: &Document<'_>, raw: &RawDestination) -> Result<VerificationOptions, ConfigError> {
    let default = VerificationOptions::default();
    let interval = match &raw.verify_interval {
        None => default.interval,
        Some(raw) => {
            let interval = document.duration("verify-interval", raw)?;
            if !interval.is_zero() && !VERIFY_INTERVALS.contains(&interval) {
                let problem = format!("verify-interval: `{}` is not within 1s and a year, nor 0s (never)", raw.value);
                return Err(document.at(line(raw), problem));
            }
            (!interval.is_zero()).then_some(interval)
        }
    };
    let bandwidth = bytes(document, "verify-bandwidth", raw.verify_bandwidth.as_ref(), LEAST_VERIFY_BANDWIDTH)?;
    let check = raw.verify_integrity_check.as_ref();
    let check = check.map(|raw| document.value("verify-integrity-check", raw)).transpose()?;
    Ok(VerificationOptions {
        interval,
        bandwidth: bandwidth.unwrap_or(default.bandwidth),
        integrity_check: check.unwrap_or(default.integrity_check),
    })
}

fn parse_options(document: &Document<'_>, raw: &RawDestination) -> Result<DestinationOptions, ConfigError> {
    let text = |raw: &Option<Raw>| raw.as_ref().map(|raw| document.text(raw)).transpose();
    let secret = |raw: &Option<Raw>| text(raw).map(|text| text.map(Secret::new));
    let path = |key: &str, raw: &Option<Raw>| -> Result<Option<PathBuf>, ConfigError> {
        raw.as_ref().map(|raw| document.path(key, raw)).transpose()
    };
    Ok(DestinationOptions {
        endpoint: text(&raw.endpoint)?,
        timeout: raw.timeout.as_ref().map(|raw| document.duration("timeout", raw)).transpose()?,
        ca_file: path("ca-file", &raw.ca_file)?,
        storage_class: text(&raw.storage_class)?,
        region: text(&raw.region)?,
        access_key_id: text(&raw.access_key_id)?,
        secret_access_key: secret(&raw.secret_access_key)?,
        path_style: raw.path_style.as_ref().map(|raw| document.value("path-style", raw)).transpose()?,
        sse: text(&raw.sse)?,
        sse_kms_key_id: text(&raw.sse_kms_key_id)?,
        sse_customer_key: secret(&raw.sse_customer_key)?,
        credentials_file: path("credentials-file", &raw.credentials_file)?,
        account_key: secret(&raw.account_key)?,
        sas_token: secret(&raw.sas_token)?,
        connection_string: secret(&raw.connection_string)?,
        password: secret(&raw.password)?,
        key_file: path("key-file", &raw.key_file)?,
        key_passphrase: secret(&raw.key_passphrase)?,
        known_hosts: path("known-hosts", &raw.known_hosts)?,
        host_key: text(&raw.host_key)?,
    })
}

/// A destination as it stands in the file.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct RawDestination {
    pub(super) name: Spanned<String>,
    url: Spanned<String>,
    pub(super) upload_interval: Option<Spanned<String>>,
    pub(super) upload_size: Option<Spanned<String>>,
    pub(super) level_1_interval: Option<Spanned<String>>,
    pub(super) level_2_interval: Option<Spanned<String>>,
    pub(super) snapshot_interval: Option<Spanned<String>>,
    pub(super) snapshot_size: Option<Spanned<String>>,
    pub(super) retention: Option<Spanned<String>>,
    pub(super) retention_snapshots: Option<Spanned<String>>,
    pub(super) retention_transactions: Option<Spanned<String>>,
    pub(super) retention_level_1: Option<Spanned<String>>,
    pub(super) retention_grace: Option<Spanned<String>>,
    pub(super) delete: Option<Spanned<String>>,
    verify_interval: Option<Spanned<String>>,
    verify_bandwidth: Option<Spanned<String>>,
    verify_integrity_check: Option<Spanned<String>>,
    endpoint: Option<Spanned<String>>,
    timeout: Option<Spanned<String>>,
    ca_file: Option<Spanned<String>>,
    storage_class: Option<Spanned<String>>,
    region: Option<Spanned<String>>,
    access_key_id: Option<Spanned<String>>,
    secret_access_key: Option<Spanned<String>>,
    path_style: Option<Spanned<String>>,
    sse: Option<Spanned<String>>,
    sse_kms_key_id: Option<Spanned<String>>,
    sse_customer_key: Option<Spanned<String>>,
    credentials_file: Option<Spanned<String>>,
    account_key: Option<Spanned<String>>,
    sas_token: Option<Spanned<String>>,
    connection_string: Option<Spanned<String>>,
    password: Option<Spanned<String>>,
    key_file: Option<Spanned<String>>,
    key_passphrase: Option<Spanned<String>>,
    known_hosts: Option<Spanned<String>>,
    host_key: Option<Spanned<String>>,
}
