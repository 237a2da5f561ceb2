//! Why a log file does not open, or does not give an entry.

use std::path::PathBuf;
use std::{fmt, io};

use super::entry::LogId;

/// Why a log file does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenLogError {
    /// The machine refused.
    #[error("the log file does not open: {0}")]
    Io(#[from] io::Error),
    /// Bytes that were on the disk have changed.
    #[error(
        "{path} is damaged at offset {offset}: {what}. These bytes had reached the disk and may have been acknowledged, \
         so the node does not go on without them. Do not delete single files: check the disk, move the node's whole data \
         directory away, and start the node with an empty one, so that it is filled again from the other nodes",
        path = path.display()
    )]
    Damaged {
        /// The piece.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A piece between others is not there.
    #[error(
        "{path} is missing from the log file. Put it back, or move the node's whole data directory away and start the node \
         with an empty one, so that it is filled again from the other nodes",
        path = path.display()
    )]
    MissingPiece {
        /// The piece.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error("{path} has format {found}, this program knows format {known}: start a newer version", path = path.display())]
    Format {
        /// The piece.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest known one.
        known: u32,
    },
}

/// Why an entry is not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadLogError {
    /// The machine refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The disk does not give back what was synced. Another node may have it.
    #[error(transparent)]
    Damaged(Box<DamagedPayload>),
}

/// An entry whose payload the disk does not give back, and what is known of the payload.
#[derive(Debug)]
pub struct DamagedPayload {
    /// The entry.
    pub id: LogId,
    /// Bytes of its payload.
    pub len: u32,
    /// CRC32C of its payload.
    pub crc: u32,
    /// The piece that it lies in.
    pub path: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What the machine said, if it was not other bytes that came back.
    pub cause: Option<io::Error>,
}

impl DamagedPayload {
    /// Whether `payload` is what was written.
    pub fn is_mended_by(&self, payload: &[u8]) -> bool {
        payload.len() == self.len as usize && crc32c::crc32c(payload) == self.crc
    }
}

impl fmt::Display for DamagedPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, offset, path, .. } = self;
        write!(f, "the payload of entry {id} at offset {offset} of {} is damaged: ", path.display())?;
        match &self.cause {
            Some(error) => write!(f, "{error}"),
            None => f.write_str("what the disk returns is not what was synced"),
        }
    }
}

impl std::error::Error for DamagedPayload {}
