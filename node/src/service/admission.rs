//! Refusing appends before the disk is full.

use std::path::PathBuf;
use std::sync::Arc;

/// When to refuse.
#[derive(Clone, Debug)]
pub struct AdmissionOptions {
    /// The node's data directory.
    pub data_dir: PathBuf,
    /// Free bytes kept for the node's own log and for deletion; `None`: a twentieth of the file system, at least
    /// 256 MiB, at most 4 GiB.
    pub reserve: Option<u64>,
    /// Bytes that may be proposed and not yet applied, over all streams of the node.
    pub in_flight: usize,
}

/// How admission stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmissionState {
    /// Free bytes where the data directory lies, when last looked.
    pub available: u64,
    /// Below this much free, appends are refused.
    pub reserve: u64,
    /// Whether appends are refused now.
    pub refusing: bool,
}

/// Decides whether appends are let in. Looks at the disk every second while it exists.
pub struct Admission {}

#[allow(unused_variables, clippy::unimplemented, clippy::unused_async)]
impl Admission {
    /// Looks at the disk once, then starts looking every second.
    ///
    /// # Errors
    /// If the space of the data directory cannot be read.
    pub async fn start(options: AdmissionOptions) -> std::io::Result<Arc<Self>> {
        unimplemented!()
    }

    /// How it stands.
    pub fn state(&self) -> AdmissionState {
        unimplemented!()
    }
}
