//! What a restore is told.

use std::path::PathBuf;
use std::time::Duration;

use seawall_host::time::UnixMillis;
use seawall_proto::position::{Lineage, Txid};

use super::integrity::IntegrityCheck;
use super::read_ahead::ReadLimits;

/// The length of one ranged read, in bytes.
pub(super) const PART_BYTES: u64 = 4 << 20;

/// Ranged reads at a time unless told.
pub const DEFAULT_PARALLELISM: usize = 8;

/// How often what is reached is written down unless told.
pub const DEFAULT_CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// Which state is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// The newest.
    #[default]
    Newest,
    /// Exactly this one.
    Txid(Txid),
    /// The last one committed at or before this time.
    Time(UnixMillis),
}

/// What a restore is told.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// The file it is to give.
    pub output: PathBuf,
    /// The state.
    pub when: When,
    /// In which history; the newest one (with a time: the newest that reaches back to it) unless told.
    pub lineage: Option<Lineage>,
    /// Replace what is at the output.
    pub force: bool,
    /// Let SQLite check the result.
    pub integrity_check: IntegrityCheck,
    /// Do nothing if the output exists.
    pub if_db_not_exists: bool,
    /// Do nothing if the source has nothing.
    pub if_replica_exists: bool,
    /// Plan only.
    pub dry_run: bool,
    /// Go on from what an interrupted restore to the same output left, and leave the same if interrupted.
    pub resume: bool,
    /// How far it came is written down this often, where that takes little of the time.
    pub checkpoint_interval: Duration,
    /// Ranged reads of 4 MiB at a time, at least 1; as many such parts are in memory at most.
    pub parallelism: usize,
}

impl RestoreOptions {
    /// The newest state, to `output`, with the defaults of the command line.
    pub fn new(output: impl Into<PathBuf>) -> Self {
        Self {
            output: output.into(),
            when: When::Newest,
            lineage: None,
            force: false,
            integrity_check: IntegrityCheck::None,
            if_db_not_exists: false,
            if_replica_exists: false,
            dry_run: false,
            resume: true,
            checkpoint_interval: DEFAULT_CHECKPOINT_INTERVAL,
            parallelism: DEFAULT_PARALLELISM,
        }
    }

    pub(super) fn read_limits(&self) -> ReadLimits {
        ReadLimits { parts: self.parallelism, part_bytes: PART_BYTES }
    }
}
