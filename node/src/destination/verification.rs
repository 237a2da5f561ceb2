//! How a destination is verified.

use std::time::Duration;

use crate::restore::IntegrityCheck;

/// What is chosen about the verification of one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerificationOptions {
    /// Each database is verified there this often; `None`: never.
    pub interval: Option<Duration>,
    /// Bytes a second that are read there for verification, at most.
    pub bandwidth: u64,
    /// Have SQLite check the newest state too, which takes the database's size of the leader's disk meanwhile.
    pub integrity_check: IntegrityCheck,
}

impl Default for VerificationOptions {
    fn default() -> Self {
        Self { interval: Some(Duration::from_hours(24)), bandwidth: 16 << 20, integrity_check: IntegrityCheck::None }
    }
}
