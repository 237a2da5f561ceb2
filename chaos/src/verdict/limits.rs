//! What a run is measured against.

use serde::{Deserialize, Serialize};

/// What a run is measured against. The history holds it, so that it is judged again by the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Fewer commits than this prove nothing.
    pub commits_at_least: u64,
    /// The longest that anything may take to get well after the healing, in milliseconds.
    pub recovery_ms: u64,
    /// For so long after its promise a txid can be restored by its number, in milliseconds; for ever if nothing. The newest always
    /// can.
    pub history_kept_ms: Option<u64>,
    /// A life of a process that was watched for less than this, in milliseconds, is not asked whether it grows.
    pub leak_after_ms: u64,
    /// Resident memory, in bytes.
    pub memory: Growth,
    /// Open descriptors.
    pub descriptors: Growth,
    /// The data directory, in bytes.
    pub disk: Growth,
}

/// How far a figure of a process may rise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Growth {
    /// Never above this, in the shortest life too; no such limit if nothing.
    pub cap: Option<u64>,
    /// Growth from the second quarter of a life to the last that is less than this is no leak.
    pub floor: u64,
    /// Nor is growth by less than this part of the second quarter's figure, in percent.
    pub percent: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            commits_at_least: 100,
            recovery_ms: 120_000,
            history_kept_ms: None,
            leak_after_ms: 600_000,
            memory: Growth { cap: Some(1 << 30), floor: 32 << 20, percent: 25 },
            // 1024 is what a process may have open where nobody raised it.
            descriptors: Growth { cap: Some(1024), floor: 24, percent: 25 },
            disk: Growth { cap: None, floor: 512 << 20, percent: 50 },
        }
    }
}
